"""Labels: which one of a closed set an answer gives, and whether the labels of a manifest are of the set at all.

The rule, for masks and prompts alike: an answer gives the label that it names, if it names exactly one of the set, as whole
words, case and punctuation aside, in a clause without a negation. "The speaker is female." gives "female"; "not female",
"male or female", "woman" and "" give none. Longer labels are looked for first, so that "very angry" does not name "angry".
An answer in the form of a composite ("female|put the red box", a JSON object) answers several tasks, and so none.
"""

import json
import re
import string
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int

from ..errors import DataError
from .intervals import Sample
from .normalise import tokens
from .tasks import BAR, TaskSpec

_CLAUSES = re.compile(r"[,.;:!?()\n，。；：！？、]|\s[-–—]\s|—")
_NOT = re.compile(r"n['’ʼ]t\b")
NEGATIONS = frozenset(
    ("not", "no", "non", "never", "neither", "nor", "none", "without", "cannot", "nicht", "kein", "pas", "不", "没")
)


def find_label(answer: str, labels: Sequence[str]) -> str | None:
    """The one label of a closed set that an answer gives; None where it gives none, several, or one under a negation.

    Labels that only differ in symbols ("c", "c++") are found where they are the whole answer.
    """
    exact = exact_label(answer, labels)
    wanted = {label: tokens(label) for label in labels}
    if exact is not None or BAR in answer or _is_object(answer):
        return exact
    if not all(wanted.values()) or len(set(map(tuple, wanted.values()))) < len(labels):
        return None
    clauses = [tokens(_NOT.sub(" not", clause)) for clause in _CLAUSES.split(answer.lower())]
    words = [(word, number) for number, clause in enumerate(clauses) for word in clause]
    found: dict[str, set[int]] = {}
    for label in sorted(labels, key=lambda label: len(wanted[label]), reverse=True):
        words, touched = _take(wanted[label], words)
        if touched:
            found[label] = touched
    negated = {number for word, number in words if word in NEGATIONS}
    if len(found) != 1:
        return None
    label, touched = next(iter(found.items()))
    return None if touched & negated else label


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _take(wanted: list[str], words: list[tuple[str, int]]) -> tuple[list[tuple[str, int]], set[int]]:
    """Take every occurrence of some words out of others; the words that stay, and the clauses that it was in."""
    touched: set[int] = set()
    at = 0
    while at <= len(words) - len(wanted):
        here = words[at : at + len(wanted)]
        if [word for word, _ in here] == wanted:
            touched.update(number for _, number in here)
            words = [*words[:at], ("", -1), *words[at + len(wanted) :]]  # so that the words around do not become neighbours
        at += 1
    return words, touched


def exact_label(answer: str, labels: Sequence[str]) -> str | None:
    """The label that an answer is, and nothing else, case and surrounding punctuation aside; None where it is none."""
    for around in ("", string.punctuation + string.whitespace):
        same = [label for label in labels if bare(label, around) == bare(answer, around)]
        if len(same) == 1:
            return same[0]
    return None


def bare(text: str, around: str = "") -> str:
    """A text without case, double spaces, and some characters at either end."""
    return " ".join(text.casefold().split()).strip(around or None)


def same_answer(answer: str, reference: str) -> bool:
    """Whether open text is right as a whole, case and spaces aside; of JSON neither order nor layout counts."""
    try:
        left, right = (json.loads(bare(text)) for text in (answer, reference))
    except (ValueError, RecursionError):
        return bare(answer) == bare(reference)
    return left == right and json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)  # 1, 1.0 and true differ


def require_labels(spec: TaskSpec, labels: Mapping[str, str], where: str) -> str:
    """The right answer for a clip's labels, if it can be one.

    Args:
        spec: the task.
        labels: the clip's, by single task.
        where: what to call the clip in a message.

    Raises:
        DataError: a label is missing, outside its task's closed set, or cannot stand in the task's form.
    """
    for part in spec.parts:
        if part.name not in labels:
            raise DataError(f"{where} has no label for {part.name}")
        if part.labels and exact_label(labels[part.name], part.labels) is None:
            known = ", ".join(part.labels)
            raise DataError(f"{where}: {labels[part.name]!r} is not a label of {part.name}; expected one of {known}")
    try:
        return spec.target(labels)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def equal_error_rate(
    answers: Sequence[str],
    references: Sequence[str],
    labels: Sequence[str],
    likelihoods: Sequence[Mapping[str, float]] | None = None,
) -> Sample:
    """Where as many of the second label are taken for the first as of the first for the second, in percent.

    Where no threshold gives equal rates, the line between the two nearest does (as in a ROC curve).

    Args:
        answers: what the model said.
        references: what is right.
        labels: two; the first is what is detected, such as "yes".
        likelihoods: how likely the model finds each label, for each row. Without them an answer is a hard decision: 1 for
            the first label, 0 for the second, and 0.5 where none is found.

    Raises:
        DataError: there are not two labels, or the references are all of one.
    """
    if len(labels) != 2:
        raise DataError(f"an equal error rate takes two labels, got {', '.join(labels)}; use the metric acc")
    truth = np.array([exact_label(reference, labels) == labels[0] for reference in references])
    if truth.all() or not truth.any():
        raise DataError(f"an equal error rate takes clips of both labels, {' and '.join(labels)}; got one of them only")
    if likelihoods is None:
        decided = {labels[0]: 1.0, labels[1]: 0.0, None: 0.5}
        scores = np.array([decided[find_label(answer, labels)] for answer in answers])
    else:
        scores = np.array([row[labels[0]] / max(row[labels[0]] + row[labels[1]], 1e-300) for row in likelihoods])
    value = _equal_error(truth, scores)

    def rate(rows: Int[np.ndarray, " chosen"]) -> float:
        some = truth[rows]
        return value if some.all() or not some.any() else _equal_error(some, scores[rows])  # of one label only there is no rate

    return Sample(len(truth), rate)


def _equal_error(truth: Bool[np.ndarray, " row"], scores: Float64[np.ndarray, " row"]) -> float:
    order = np.argsort(-scores)
    truth, scores = truth[order], scores[order]
    edges = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # equal scores pass a threshold together
    hits, false_alarms = (np.append(0, np.cumsum(each)[edges] / each.sum()) for each in (truth, ~truth))
    return float(100 * np.interp(0, false_alarms - (1 - hits), false_alarms))
