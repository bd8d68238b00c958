"""What requests are put together from, beside the wordings: frames, patterns, and what is held out."""

import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TypeVar

import numpy as np

from .wordings import read_wordings

Choice = TypeVar("Choice")


@cache
def load_frames() -> Mapping[str, tuple[str, ...]]:
    """What stands around requests."""
    table = tomllib.loads(files(__package__).joinpath("frames.toml").read_text(encoding="utf-8"))
    return {name: tuple(texts) for name, texts in table.items()}


def normalise(text: str) -> str:
    """A text without capitals and most marks, to tell whether two are the same request."""
    return " ".join(re.sub(r"[.,;:!?\"'()]", " ", text.casefold()).split())


@cache
def held_out_requests() -> frozenset[str]:
    """All whole requests that are held out."""
    said = read_wordings()
    texts = [
        *said.unsupported.far_held_out,
        *said.unsupported.near_held_out,
        *(r.text for r in said.composites.requests.held_out),
    ]
    return frozenset(map(normalise, (*texts, *(text for task in said.tasks.values() for text in task.held_out))))


@cache
def resources_digest() -> str:
    """A hash of all wordings, pieces, patterns and frames: of all that requests are put together from."""
    folder = files(__package__)
    tables = [each for place in (folder, folder / "wordings") for each in place.iterdir() if each.name.endswith(".toml")]
    return hashlib.sha256(b"".join(each.read_bytes() for each in sorted(tables, key=lambda each: each.name))).hexdigest()


@cache
def load_demands() -> Mapping[str, tuple[str, ...]]:
    """How people ask for the form of an answer, by kind of demand."""
    table = tomllib.loads(files(__package__).joinpath("wordings/forms.toml").read_text(encoding="utf-8"))
    return {kind: tuple(texts) for kind, texts in table["demands"].items()}


@cache
def load_patterns() -> tuple[Mapping[str, tuple[str, ...]], Mapping[str, tuple[str, ...]]]:
    """Words for the places of patterns; patterns by task, and under "none" those that no task serves."""
    table = tomllib.loads(files(__package__).joinpath("patterns.toml").read_text(encoding="utf-8"))
    slots, found = ({name: tuple(texts) for name, texts in table[part].items()} for part in ("slots", "patterns"))
    return slots, found


def fill_pattern(choices: Sequence[str], rng: np.random.Generator) -> str:
    """A pattern with words for its places."""
    slots = load_patterns()[0]
    return re.sub(r"\{(\w+)\}", lambda place: choice(slots[place[1]], rng), choice(choices, rng))


def choice(choices: Sequence[Choice], rng: np.random.Generator) -> Choice:
    """One of some choices, all equally likely."""
    return choices[int(rng.integers(len(choices)))]
