"""What an encoding lacks is spelled, and never ends a command."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

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
    from amask.mask_bank.plots import BLOCKS

    assert set(BLOCKS) - {" "} <= ASCII_FALLBACKS.keys()
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    make_output_safe()
    sys.stdout.write("8×64 · ▀▄█ → 3 …")
    sys.stdout.flush()
    assert written.getvalue() == b"8x64 - '.: -> 3 ..."


@pytest.fixture
def command(tmp_path: Path):
    """Runs the command as a process, with a shell's redirections, on a bank whose only mask has odd words in its name."""

    def run(line: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
        command = f"{sys.executable} -P -m amask {line}"
        return subprocess.run(command, shell=True, capture_output=True, env=os.environ | environment, timeout=120, check=False)

    return run


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("arguments", ["--help", "bank list --json"])
def test_a_full_disk_is_one_line(command, arguments: str) -> None:
    done = command(f"{arguments} >/dev/full")
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [
        "amask: cannot write: No space left on device; free some room, or write to another place"
    ]


@pytest.mark.parametrize("closed", ["<&- >&-"])
def test_closed_streams_are_no_traceback(command, closed: str) -> None:
    done = command(f"bank list --json {closed}")
    assert (done.returncode, done.stderr) == (0, b"")


def test_json_has_no_colours_and_names_stay_as_they_are(command) -> None:
    plain, coloured = (command("bank list --json", **extra) for extra in ({}, {"FORCE_COLOR": "1"}))
    assert plain.stdout == coloured.stdout != b""
    done = command("bank show './:cat:[bold].safetensors'", FORCE_COLOR="1")
    assert ":cat:[bold].safetensors" in done.stderr.decode()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "no such command 'nope'; see 'amask --help'"),
        (["run", "x.wav", "--beams", "99"], "'--beams'"),
        (["run", "x.wav", "--nope"], "no such option: --nope"),
        (["run", "x.wav", "--mode", "fast"], "invalid value for '--mode': 'fast' is not one of 'auto', 'one-pass', 'parallel'"),
        (["run", "x.wav", "--prune", "on"], "invalid value for '--prune'"),
        (["run", "x.wav", "--long", "cut"], "invalid value for '--long'"),
        (["compose", "gr", "--output", "xml"], "invalid value for '--output'"),
        (["bank", "show"], "missing argument 'name'; see 'amask bank show --help'"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments: list[str], message: str) -> None:
    from typer.testing import CliRunner

    from amask.cli.main import app

    done = CliRunner().invoke(app, arguments, prog_name="amask")
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("amask: ") and message in line


def test_help_is_plain_and_whole() -> None:
    from typer.testing import CliRunner

    from amask.cli.main import app

    bare, asked = (CliRunner().invoke(app, arguments, prog_name="amask") for arguments in ([], ["--help"]))
    assert asked.exit_code == 0
    assert {"run", "compose", "bank", "predict", "eval", "doctor"} <= set(asked.stdout.split())
    assert "Usage: amask" in bare.stdout + bare.stderr
