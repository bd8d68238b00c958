"""The words of demands for a form (`wordings/forms.toml`): for a role, for an answer, or with nothing more to say."""

import re
import tomllib
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

from rapidfuzz.distance import OSA


@cache
def table() -> dict[str, Any]:
    """The tables of the file."""
    return tomllib.loads(files(__package__).joinpath("wordings/forms.toml").read_text(encoding="utf-8"))


@cache
def phrases(kind: str) -> tuple[re.Pattern[str], ...]:
    """Demands without a literal, of a kind."""
    return tuple(re.compile(rf"(?<!\w)(?:{text})(?!\w)", re.IGNORECASE) for text in table()["phrases"][kind])


@cache
def named_patterns(kind: str) -> tuple[tuple[re.Pattern[str], Any], ...]:
    """Names and what they stand for: of "separators" or "wrappers"."""
    return tuple(
        (re.compile(rf"(?<!\w)(?:{name})\w{{0,4}}(?!\w)", re.IGNORECASE), value) for name, value in table()[kind].items()
    )


@cache
def unsupported_forms() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Forms that cannot be had, by name."""
    return tuple((name, re.compile(rf"(?<!\w)(?:{text})(?!\w)", re.IGNORECASE)) for name, text in table()["unsupported"].items())


@cache
def _vocabulary() -> frozenset[str]:
    words = table()["words"]
    return frozenset(word for kind in ("function", "verbs", "nouns", "forms") for word in words[kind])


def is_known(word: str) -> bool:
    """Whether a word is spelled as demands have it."""
    return word in _vocabulary()


@cache
def nouns() -> dict[str, frozenset[str]]:
    """What answers are called, and of which tasks."""
    found: dict[str, set[str]] = {}
    for task, words in table()["task_nouns"].items():
        for word in words:
            found.setdefault(word, set()).add(task)
    return {word: frozenset(tasks) for word, tasks in found.items()}


@lru_cache(maxsize=20_000)
def is_cue(word: str, role: str) -> bool:
    """Whether a word speaks for a role, its typos too."""
    if word in nouns():
        return False
    if has_stem(word, role):
        return True
    return word not in _vocabulary() and any(has_stem(known, role) for known in similar_words(word))


def has_stem(word: str, role: str) -> bool:
    """Whether a word speaks for a role as it is spelled."""
    return any(
        word == stem
        or (len(stem) >= 4 and word.startswith(stem))
        or (len(stem) < 4 and word in (f"{stem}s", f"{stem}ed", f"{stem}ing"))
        for stem in table()["cues"][role]
    )


@lru_cache(maxsize=20_000)
def similar_words(word: str) -> tuple[str, ...]:
    """The known words that a word may be a typo of."""
    if len(word) < 4:
        return ()
    most = 1 if len(word) < 8 else 2
    near = [
        (OSA.distance(word, known, score_cutoff=most), known)
        for known in _vocabulary()
        if known[0] == word[0] and len(known) >= 4
    ]
    return tuple(known for distance, known in near if distance <= most)


@lru_cache(maxsize=20_000)
def is_demand_word(word: str) -> bool:
    """Whether a word may stand in a demand without naming a task."""
    if word in _vocabulary():
        return True
    if word in nouns():
        return False
    if any(is_cue(word, role) for role in ("prefix", "suffix", "wrap", "only", "separator")) or has_stem(word, "key"):
        return True
    return bool(len(word) >= 5 and not noun_tasks(word) and similar_words(word))


@lru_cache(maxsize=20_000)
def noun_tasks(word: str) -> frozenset[str]:
    """The tasks whose answer a word may mean, its typos too."""
    if word in nouns():
        return nouns()[word]
    if len(word) >= 6:
        for known, tasks in nouns().items():
            if len(known) >= 6 and known[0] == word[0] and OSA.distance(word, known, score_cutoff=1) <= 1:
                return tasks
    return frozenset()
