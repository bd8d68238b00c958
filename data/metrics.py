"""Metrics: answers and references → figures, all in percent. A task's metric is one of `tasks.Metric`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..errors import DataError
from . import text_metrics
from .intervals import Clusters, Counts, Interval, Sample, interval
from .labels import equal_error_rate, exact_label, find_label, require_labels, same_answer
from .normalise import characters, plain, words_alike
from .tasks import Metric, Task, TaskSpec

# Metrics of open text that are a share of something, row by row.
COUNTS: dict[Metric, Callable[[Sequence[str], Sequence[str]], Counts]] = {
    "wer": text_metrics.word_errors,
    "cer": text_metrics.character_errors,
    "rouge_l": text_metrics.rouge_l,
    "meteor": text_metrics.meteor,
}
CORPUS = {"bleu": text_metrics.bleu, "chrf": text_metrics.chrf}
ERRORS = ("wer", "cer", "eer")


@dataclass(frozen=True)
class Score:
    """One figure of an evaluation.

    Attributes:
        metric: one of `tasks.Metric`; "exact": answers that are right as a whole (of a composite every part; of a label the
            plain match, with nothing around it); "ifr": answers in the asked form.
        value: in percent; error rates may exceed 100.
        part: the single task that is measured within a composite; empty where it is the whole answer.
        interval: where 95 % of the values would lie if other speakers or clips had been drawn; None where it was not asked for.
        sample: the figure over any choice of the rows.
    """

    metric: str
    value: float
    part: str = ""
    interval: Interval | None = None
    sample: Sample | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        """`wer`, or `asr.wer` for a part of a composite."""
        return f"{self.part}.{self.metric}" if self.part else self.metric

    @property
    def better(self) -> Literal["higher", "lower"]:
        """Which values are the better ones."""
        return "lower" if self.metric in ERRORS else "higher"


def _single(
    task: Task, answers: Sequence[str], references: Sequence[str], likelihoods: Sequence[Mapping[str, float]] | None = None
) -> list[tuple[str, Sample]]:
    """A single task's metric; where it has labels, also the share of answers that are a label and nothing else."""
    metric, labels = task.metric, task.labels
    if metric in COUNTS:
        return [(metric, Sample.ratio(COUNTS[metric](answers, references)))]
    if metric in CORPUS:
        return [(metric, CORPUS[metric](answers, references))]
    if metric == "exact":
        return [(metric, _share([same_answer(a, r) for a, r in zip(answers, references, strict=True)]))]
    right = [exact_label(reference, labels) for reference in references]
    exact = _share([exact_label(answer, labels) == label for answer, label in zip(answers, right, strict=True)])
    if metric == "eer":
        return [(metric, equal_error_rate(answers, references, labels, likelihoods)), ("exact", exact)]
    found = _share([find_label(answer, labels) == label for answer, label in zip(answers, right, strict=True)])
    return [(metric, found), ("exact", exact)]


def _share(right: Sequence[bool]) -> Sample:
    return Sample.ratio(np.array([[float(each), 1.0] for each in right]))


def is_right(task: Task, answer: str, reference: str) -> bool:
    """Whether an answer to a single task is right, whatever its metric overlooks aside: case, words around a label."""
    if task.labels:
        return find_label(answer, task.labels) == exact_label(reference, task.labels)
    if task.metric == "wer":
        left, right = words_alike(answer, reference)
        return left == right
    if task.metric == "exact":
        return same_answer(answer, reference)
    read = characters if task.metric == "cer" else plain
    return read(answer) == read(reference)


def score(
    spec: TaskSpec,
    answers: Sequence[str],
    references: Sequence[str],
    likelihoods: Sequence[Mapping[str, float]] | None = None,
    *,
    clusters: Clusters | None = None,
) -> list[Score]:
    """Score the answers to one task; the headline comes first.

    A single task has its metric, and with labels "exact" besides. A composite has "exact" (every part right), "ifr"
    (AHAMask's instruction following rate: the share of answers in the asked form), and each part's scores over all answers,
    where an answer that is not in the form counts as an empty answer to every part.

    Args:
        spec: the task.
        answers: the model's.
        references: what is right, in the task's form.
        likelihoods: of a single task with the metric "eer", how likely the model finds each label.
        clusters: which rows belong together, such as those of each speaker; the scores then have their 95 % intervals.

    Raises:
        DataError: there are no answers, or not as many as references; a reference is not in the task's form or not of its
            labels; or what the metric needs is missing.
    """
    if not answers or len(answers) != len(references):
        raise DataError(f"cannot score {spec.name!r}: got {len(answers)} answers for {len(references)} references")
    wanted = [_reference_parts(spec, reference) for reference in references]
    if spec.form == "plain":
        return [_scored(*each, "", clusters) for each in _single(spec.parts[0], answers, references, likelihoods)]
    found = [spec.split(answer) for answer in answers]
    exact = [
        got is not None and all(is_right(part, got[part.name], right[part.name]) for part in spec.parts)
        for got, right in zip(found, wanted, strict=True)
    ]
    scores = [
        _scored("exact", _share(exact), "", clusters),
        _scored("ifr", _share([got is not None for got in found]), "", clusters),
    ]
    for part in spec.parts:
        said = [got[part.name] if got is not None else "" for got in found]
        of_part = _single(part, said, [right[part.name] for right in wanted])
        scores += [_scored(*each, part.name, clusters) for each in of_part]
    return scores


def _scored(metric: str, sample: Sample, part: str, clusters: Clusters | None) -> Score:
    return Score(metric, sample.value, part, interval(sample, clusters) if clusters else None, sample)


def _reference_parts(spec: TaskSpec, reference: str) -> dict[str, str]:
    """What is right for each part.

    Raises:
        DataError: the reference is not in the task's form, or not of its labels.
    """
    parts = spec.split(reference)
    if parts is None:
        raise DataError(f"cannot score {spec.name!r}: reference {reference!r} is not in the {spec.form} form")
    require_labels(spec, parts, f"cannot score {spec.name!r}: reference {reference!r}")
    return parts
