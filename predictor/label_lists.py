"""Labels that an instruction lists ("M or F", "happy, sad or angry") and names for them ("0 for neutral, 1 for happy")."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import OSA

from .form_cues import table
from .literals import Masked

Names = dict[str, dict[str, str]]
"""A task's name → our label → the user's name."""
_LISTED = r"(?:[\uE100-\uE1FF]|[^\W_][\w-]*)"
_LIST = re.compile(
    rf"{_LISTED}(?:\s*(?:,\s*(?:or\s+|oder\s+|and\s+|und\s+)?|/|\||;|\s(?:or|oder|and|und|vs\.?|&)\s)\s*{_LISTED})+",
    re.IGNORECASE,
)
_ITEM = re.compile(_LISTED)
_PAIR = re.compile(
    rf"({_LISTED})\s*(=|:|->|=>|\b(?:for|if|means|meaning|when|für|wenn|as|als|heißt)\b)\s*({_LISTED})"
    r"(?![\w-])(?!\s+(?:for|if|means|meaning|für|wenn)\b)",
    re.IGNORECASE,
)
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
    """Names for labels, `F for female`, `neutral = 0`; the text without them."""
    found: Names = {}
    spans: dict[str, list[tuple[int, int]]] = {}
    for match in _PAIR.finditer(text):
        left, right = masked.shown(match[1]), masked.shown(match[3])
        for task, names in table()["label_names"].items():
            label = next((label for label in names if left.casefold() == label), None)
            other = next((label for label in names if right.casefold() == label), None)
            if (label is None) != (other is None):
                found.setdefault(task, {})[label or other or ""] = right if label else left
                spans.setdefault(task, []).append(match.span())
    for task, names in found.items():
        if len(names) >= 2:
            first, last = min(start for start, _ in spans[task]), max(end for _, end in spans[task])
            return {task: names}, f"{text[:first]} {text[last:]}"
    return {}, text


def _label_of(item: str, names: Mapping[str, Sequence[str]]) -> str:
    """The label that a word means, its typos too; empty for none."""
    word = item.casefold()
    exact = next((label for label, said in names.items() if word in said), "")
    if exact or len(word) < 4:
        return exact
    return next((label for label in names if label[0] == word[0] and OSA.distance(word, label, score_cutoff=1) <= 1), "")
