"""Templates put together from pieces: a beginning, a list of phrases, an end; and what is not wanted (`pieces.toml`)."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import numpy as np


@cache
def pieces() -> Mapping[str, tuple[str, ...]]:
    """All pieces."""
    table = tomllib.loads(files(__package__).joinpath("pieces.toml").read_text(encoding="utf-8"))
    return {name: tuple(texts) for name, texts in table.items()}


def assemble(kind: str, rng: np.random.Generator, *, german: bool = False) -> str:
    """A template with places for phrases, `{0}` first in the answer.

    Args:
        kind: `pipe2`, `pipe3`, `json2`, `json3`, or those with `_with_exclusion` behind, whose last place is not wanted; also
            `single` and `single_with_exclusion`.
        rng: decides which.
        german: whether in German.
    """

    def pick(name: str) -> str:
        some = pieces()[f"{name}_de" if german else name]
        return some[int(rng.integers(len(some)))]

    wanted, _, excluding = kind.partition("_with_")
    count = 1 if wanted == "single" else int(wanted[-1])
    listed = pick(("one", "two", "three")[count - 1])
    if not wanted.startswith("json"):
        whole = f"{pick('before')} {listed} {pick('after')}"
    elif rng.random() < 0.5:
        whole = f"{pick('before_json')} {listed} {pick('after') if rng.random() < 0.2 else ''}"
    else:
        whole = f"{pick('before')} {listed} {pick('after_json')}"
    if excluding:
        unwanted, mark = pick("without").format(f"{{{count}}}"), (",", ";", " -", ".")[int(rng.integers(4))]
        whole = f"{whole.rstrip()}{mark} {unwanted}" if rng.random() < 0.6 else f"{unwanted}{mark} {whole}"
    return " ".join(whole.split()).replace(" ,", ",")
