"""Labels that an instruction lists ("M or F", "happy, sad or angry") and names for them ("0 for neutral, 1 for happy")."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import OSA

from .clause_text import asked_for, words_of
from .form_cues import noun_tasks, table
from .literals import Masked, is_mark

Names = dict[str, dict[str, str]]
"""A task's name → our label → the user's name."""
_LISTED = r"(?:[\uE100-\uE1FF]|[^\W_][\w-]*)"
_LIST = re.compile(
    rf"{_LISTED}(?:\s*(?:,\s*(?:or\s+|oder\s+|and\s+|und\s+)?|/|\||;|\s(?:or|oder|and|und|vs\.?|&)\s)\s*{_LISTED})+",
    re.IGNORECASE,
)
_ITEM = re.compile(_LISTED)
_PAIR = re.compile(
    rf"({_LISTED})\s*(=|:|->|=>|\b(?:for|if|means|meaning|when|für|wenn|as|als|heißt)\b)\s*(?:(?:an?|the|eine?n?|der|die|das)\s+)?({_LISTED})"
    r"(?![\w-])(?!\s+(?:for|if|means|meaning|für|wenn)\b)",
    re.IGNORECASE,
)
SHORT = 2  # letters of a name that stands without quotes beside a word for a label
_LINKS = frozenset(("or", "oder", "and", "und", "vs"))


@dataclass(frozen=True)
class LabelRun:
    """A list of labels.

    Attributes:
        start, end: where it is in the masked text.
        names: for each task that all of it may be labels of.
    """

    start: int
    end: int
    names: Names


def label_runs(masked: Masked, text: str) -> list[LabelRun]:
    """Lists of labels in a text: the longest that are labels of one task."""
    found: list[LabelRun] = []
    for match in _LIST.finditer(text):
        items = [item for item in _ITEM.finditer(text, match.start(), match.end()) if item[0].lower() not in _LINKS]
        at = 0
        while at < len(items):
            count = max(
                (n for n in range(2, len(items) - at + 1) if _names(masked, [i[0] for i in items[at : at + n]])), default=0
            )
            if count:
                names = _names(masked, [item[0] for item in items[at : at + count]])
                found.append(LabelRun(items[at].start(), items[at + count - 1].end(), names))
            at += max(1, count)
    return found


def _names(masked: Masked, items: Sequence[str]) -> Names:
    """For each task that all items may be labels of: our label → the user's name."""
    shown = [masked.shown(item).strip(" .,") for item in items]
    found = {}
    for task, names in table()["label_names"].items():
        ours = [_label_of(item, names) for item in shown]
        if all(ours) and len(set(ours)) == len(ours):
            given = {name for names_of in names.values() for name in names_of}
            found[task] = {label: name if name.casefold() in given else label for label, name in zip(ours, shown, strict=True)}
    return found


def is_complete(named: Names) -> bool:
    """Whether a list has all labels of one task."""
    return len(named) == 1 and all(len(names) == len(table()["label_names"][task]) for task, names in named.items())


def label_pairs(text: str) -> list[tuple[int, int]]:
    """Where a text may name labels, as in `F for female`."""
    return [match.span() for match in _PAIR.finditer(text)]


def named_labels(masked: Masked, text: str) -> tuple[Names, str]:
    """Names for labels, `F for female`, `neutral = 0`; the text without them.

    Names for all labels of a task of which the rest says nothing ask for it: "say W for a woman and M for a man".
    """
    found: Names = {}
    spans: dict[str, list[tuple[int, int]]] = {}
    for match in _PAIR.finditer(text):
        left, right = masked.shown(match[1]), masked.shown(match[3])
        for task, names in table()["label_names"].items():
            pair = _named_pair(left, right, names, bool(is_mark(match[1]) or is_mark(match[3])))
            if pair is not None:
                found.setdefault(task, {})[pair[0]] = pair[1]
                spans.setdefault(task, []).append(match.span())
    for task, names in found.items():
        if len(names) >= 2:
            first, last = min(start for start, _ in spans[task]), max(end for _, end in spans[task])
            before, after = text[:first], text[last:]
            asks = is_complete({task: names}) and not _speaks_of(f"{before} {after}", task)
            return {task: names}, f"{before} {asked_for(task) if asks else ''} {after}"
    return {}, text


def _speaks_of(text: str, task: str) -> bool:
    """Whether a word of a text names a task's answer or one of its labels."""
    names = table()["label_names"][task]
    return any(task in noun_tasks(word) or (len(word) > 1 and _label_of(word, names)) for word in words_of(text))


def _named_pair(left: str, right: str, names: Mapping[str, Sequence[str]], quoted: bool) -> tuple[str, str] | None:
    """Our label and the user's name for it, where one side is a label and the other is not.

    Where neither is to the letter, one may be a word for a label ("W for a woman"), if the other is quoted or short.
    """
    sides = [text.casefold() if text.casefold() in names else "" for text in (left, right)]
    if not any(sides):
        words = [_label_of(text, names, slips=False) if len(text) > SHORT else "" for text in (left, right)]
        sides = words if quoted or len(left if words[1] else right) <= SHORT else sides
    if bool(sides[0]) == bool(sides[1]):
        return None
    return (sides[0], right) if sides[0] else (sides[1], left)


def _label_of(item: str, names: Mapping[str, Sequence[str]], *, slips: bool = True) -> str:
    """The label that a word means, with slips also one that is misspelt; empty for none."""
    word = item.casefold()
    exact = next((label for label, said in names.items() if word in said), "")
    if exact or len(word) < 4 or not slips:
        return exact
    return next((label for label in names if label[0] == word[0] and OSA.distance(word, label, score_cutoff=1) <= 1), "")
