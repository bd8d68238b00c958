"""Demands that are for one of several parts, such as "the gender in capitals, then the words"."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .clause_text import words_of
from .form_cues import noun_tasks, table
from .form_reading import FormReading

FIELDS = frozenset(("prefix", "suffix", "wrap", "case"))
"""What an `AnswerFormat` may have for a part alone."""

_BETWEEN = re.compile(r"[,;.!?:()\n]+|\b(?:and|und|but|aber|then|dann|plus|while|whereas)\b", re.IGNORECASE)


@dataclass(frozen=True)
class _Clause:
    """A clause that names one part, while others are named elsewhere.

    Attributes:
        start, end: where it is.
        task: the part.
        last: whether no other part is named behind it.
        told: whether it begins with a verb of its own.
    """

    start: int
    end: int
    task: str
    last: bool
    told: bool


def _clauses(text: str) -> list[_Clause]:
    edges = [0, *(edge for match in _BETWEEN.finditer(text) for edge in match.span()), len(text)]
    spans = list(zip(edges[::2], edges[1::2], strict=True))
    named = [frozenset(task for word in words_of(text[start:end]) for task in noun_tasks(word)) for start, end in spans]
    found = []
    for at, ((start, end), own) in enumerate(zip(spans, named, strict=True)):
        if len(own) == 1 and any(each - own for each in named):
            told = words_of(text[start:end])[0] in table()["words"]["verbs"]
            found.append(_Clause(start, end, next(iter(own)), not any(each - own for each in named[at + 1 :]), told))
    return found


def read_part_forms(text: str, read: Callable[[str], FormReading]) -> tuple[str, dict[str, Mapping[str, Any]]]:
    """The text without demands that are for one part, and these demands: a task's name → fields of a `TextFormat`.

    A demand at the end of a list, "the gender and the words in capitals", is for all of it, unless its clause has a verb of its
    own ("…, and put the words in capitals") or another part has a demand of its own.

    Args:
        text: a masked instruction.
        read: reads the form of a clause alone.
    """
    demands = []
    for clause in _clauses(text):
        form = read(text[clause.start : clause.end])
        if form.format and form.format.keys() <= FIELDS and form.content:
            demands.append((clause, form))
    found: dict[str, Mapping[str, Any]] = {}
    for clause, form in reversed(demands):
        if clause.last and not clause.told and len({each.task for each, _ in demands}) == 1:
            continue
        found[clause.task] = dict(form.format)
        text = f"{text[: clause.start]} {form.content.rstrip('. ')} {text[clause.end :]}"
    return text, found
