"""Templates built from pieces: a beginning, a list of parts, an end; and what is not wanted (`pieces.toml`)."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Literal

import numpy as np

Style = Literal["phrases", "imperatives", "clauses"]
"""How parts are worded: "the gender", "tell me the gender", or any sentence, such as "is that a woman"."""


@cache
def pieces() -> Mapping[str, tuple[str, ...]]:
    """All pieces."""
    table = tomllib.loads(files(__package__).joinpath("pieces.toml").read_text(encoding="utf-8"))
    return {name: tuple(texts) for name, texts in table.items()}


def build_template(kind: str, rng: np.random.Generator, *, german: bool = False, style: Style = "phrases") -> str:
    """A template with places for what speaks of the parts, `{0}` first in the answer.

    Args:
        kind: `pipe2`, `pipe3`, `json2`, `json3`, or those with `_with_exclusion` behind, whose last place is not wanted; also
            `single` and `single_with_exclusion`.
        rng: decides which.
        german: whether in German.
        style: what the places take; clauses can only be listed, in English.
    """

    def choice(name: str) -> str:
        some = pieces()[f"{name}_de" if german else name]
        return some[int(rng.integers(len(some)))]

    suffix = "" if style == "phrases" else f"_{style}"
    wanted, _, excluding = kind.partition("_with_")
    count = 1 if wanted == "single" else int(wanted[-1])
    part_list = choice(("one", "two", "three")[count - 1] + suffix)
    if not wanted.startswith("json"):
        whole = f"{choice('before' + suffix)} {part_list} {choice('after')}"
    elif rng.random() < (0.2 if suffix else 0.5):
        whole = f"{choice('before_json')} {part_list} {choice('after') if rng.random() < 0.2 else ''}"
    else:
        whole = f"{choice('before' + suffix)} {part_list} {choice('after_json')}"
    if excluding:
        unwanted, separator = choice("without" + suffix).format(f"{{{count}}}"), (",", ";", " -", ".")[int(rng.integers(4))]
        whole = f"{whole.rstrip()}{separator} {unwanted}" if rng.random() < 0.6 else f"{unwanted}{separator} {whole}"
    return " ".join(whole.split()).replace(" ,", ",")
