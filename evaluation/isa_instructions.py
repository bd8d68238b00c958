"""Instructions of amask's own for ISA-Bench's axes, in the benchmark's layout: withheld by wording and by combination.

A task is said in held-out wordings, and in those of `isa_instructions.toml`, which nothing was trained on; forms are asked for
as there. Of several tasks only sets are asked for that were never trained together.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from ..data.atomic_write import write_atomic
from ..predictor.augmentation import add_typo
from ..predictor.resources import choice
from ..predictor.synthesis import is_held_out
from ..predictor.wordings import read_wordings
from .isa_scores import LABELS, PREFIXES

TASKS = ("asr", "gr", "ser", "s2tt", "aac")
ITEMS = 12  # of each file
TYPOS = 3
LINKS = (", ", ". ", "; ", " and ")
SYMBOLS = ("!! ", " / ", " -> ", " ... ", " *** ", " :: ")
ARTICLES = frozenset(("the", "a", "an", "is", "are", "to", "of"))

Json = dict[str, Any]


@cache
def _words() -> Mapping[str, Mapping[str, Sequence[str]]]:
    return tomllib.loads(files(__package__).joinpath("isa_instructions.toml").read_text(encoding="utf-8"))


def write_instructions(folder: Path, seed: int = 0) -> None:
    """Write `asr_d.json`, `asr_f.json` and so on, and `own_n.json`; the same for the same seed.

    Args:
        folder: where they go.
        seed: of the choices.
    """
    rng = np.random.default_rng(seed)
    for task in TASKS:
        _write([_described(task, at, rng) for at in range(ITEMS)], folder / f"{task}_d.json")
        _write([_formed(task, at, rng) for at in range(ITEMS)], folder / f"{task}_f.json")
    _write([_several(at, rng) for at in range(5 * ITEMS)], folder / "own_n.json")


def _write(items: Sequence[Json], path: Path) -> None:
    write_atomic(json.dumps(items, ensure_ascii=False, indent=1).encode(), path, parents=True)


def _base(task: str, at: int) -> str:
    """A held-out wording, evenly spread over them."""
    texts = read_wordings().tasks[task].held_out
    return texts[at * len(texts) // ITEMS].rstrip(" .?!")


def _constraint(task: str, rng: np.random.Generator) -> str:
    """What the answer has to be like on axis D: it begins as the benchmark has it, or is one of the labels."""
    if task in LABELS:
        return choice(_words()["constrain"][task], rng)
    return choice(_words()["forms"]["prefix"], rng).format(f'"{PREFIXES[task]}"')


def _described(task: str, at: int, rng: np.random.Generator) -> Json:
    """One task in many words."""
    base, constraint = _base(task, at), _constraint(task, rng)

    def asked(text: str, link: str | None = None) -> str:
        return f"{text.rstrip(' .?!')}{link or choice(LINKS, rng)}{constraint}"

    whole = asked(base)
    variations = {
        "default": whole,
        "case": {"upper_case": [_outside_quotes(whole, str.upper)], "lower_case": [_outside_quotes(whole, str.lower)]},
        "robust": {"grammar_robust": [asked(_ungrammatical(base, rng))], "syntax_robust": [_misspelt(asked(base), rng)]},
        **{f"semantic_equal_{way}": [asked(choice(_words()[way][task], rng))] for way in ("simple", "neutral", "complex")},
        "alter_symbol": [asked(base, choice(SYMBOLS, rng))],
    }
    return {"task": task, "base_description": base, "base_constrain": constraint, "variations": variations}


def _outside_quotes(text: str, change: Any) -> str:  # noqa: ANN401 - a function of str
    return '"'.join(piece if at % 2 else change(piece) for at, piece in enumerate(text.split('"')))


def _misspelt(text: str, rng: np.random.Generator) -> str:
    """Slips in some words, none in a quoted text."""

    def slip(piece: str) -> str:
        for _ in range(TYPOS):
            piece = add_typo(piece, rng)
        return piece

    return _outside_quotes(text, slip)


def _ungrammatical(text: str, rng: np.random.Generator) -> str:
    """Without its small words, and with two neighbours swapped."""
    words = [word for word in text.split() if word.lower() not in ARTICLES] or text.split()
    if len(words) > 2:
        at = int(rng.integers(len(words) - 1))
        words[at], words[at + 1] = words[at + 1], words[at]
    return " ".join(words)


def _formed(task: str, at: int, rng: np.random.Generator) -> Json:
    """One task in many forms."""
    base, said, forms = _base(task, at), choice(_words()["constrain"][task], rng), _words()["forms"]
    prefix, suffix, wrap, key = (choice(forms[name], rng) for name in ("prefixes", "suffixes", "wraps", "keys"))
    left, _, right = wrap.partition("|")

    def asked(kind: str, **places: str) -> str:
        demand = choice(forms[kind], rng)
        demand = demand.format(f'"{places["text"]}"') if "text" in places else demand.format(**places)
        return f"{base}{choice(LINKS, rng)}{said}{choice(LINKS[:3], rng)}{demand}"

    variations = {
        "constrain": f"{base}{choice(LINKS, rng)}{said}",
        "upper_case": asked("upper_case"),
        "lower_case": asked("lower_case"),
        "prefix": [{"prefix": prefix, "inst": asked("prefix", text=prefix)}],
        "suffix": [{"suffix": suffix, "inst": asked("suffix", text=suffix)}],
        "wrap": [{"lrt": wrap, "inst": asked("wrap", left=f'"{left}"', right=f'"{right}"')}],
        "json": [{"key": key, "inst": asked("json", text=key)}],
    }
    return {"task": task, "base_description": base, "base_constrain": said, "variations": variations}


def _several(at: int, rng: np.random.Generator) -> Json:
    """Two or three tasks in one answer, of a set that was never trained together."""
    sets = [parts for parts in permutations(TASKS, 2 + at // 2 % 2) if is_held_out(parts)]
    parts, words = choice(sets, rng), _words()["number"]
    phrases = [choice(read_wordings().tasks[part].phrases_held_out, rng) for part in parts]
    said = f"{', '.join(phrases[:-1])} and {phrases[-1]}"
    item: Json = {"task": "|".join(parts).upper()}
    if at % 2:
        names = [f"{name}{'_' if rng.random() < 0.5 else ''}{'out' if rng.random() < 0.5 else 'x'}" for name in parts]
        keys = f"{', '.join(names[:-1])} and {names[-1]}"
        return item | {"key": "|".join(names), "inst": choice(words["json"], rng).format(parts=said, keys=keys)}
    separator = choice(words["separators"], rng)
    bare = separator.strip('"').strip()
    return item | {"separator": bare, "inst": choice(words["separation"], rng).format(parts=said, sep=separator)}
