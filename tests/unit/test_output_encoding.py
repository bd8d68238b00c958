"""What an encoding lacks is spelled, and never ends a command."""

import io
import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=())))
def test_anything_is_written_and_json_stays_the_same(text: str) -> None:
    from amask.cli.output_encoding import ASCII_FALLBACKS, make_output_safe

    for encoding in ("ascii", "latin-1", "utf-8"):
        written = io.BytesIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding))
            make_output_safe()
            sys.stdout.write(json.dumps([text], ensure_ascii=False))
            sys.stdout.flush()
            data = written.getvalue()
        if not set(text) & set(ASCII_FALLBACKS):
            (back,) = json.loads(data.decode(encoding))
            assert back.encode("utf-16", "surrogatepass") == text.encode("utf-16", "surrogatepass")


def test_pictures_of_masks_are_legible_in_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    from amask.cli.output_encoding import ASCII_FALLBACKS, make_output_safe
    from amask.evaluation.plots import BLOCKS

    assert set(BLOCKS) - {" "} <= ASCII_FALLBACKS.keys()
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    make_output_safe()
    sys.stdout.write("8×64 · ▀▄█ → 3 …")
    sys.stdout.flush()
    assert written.getvalue() == b"8x64 - '.: -> 3 ..."
