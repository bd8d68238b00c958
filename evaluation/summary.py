"""From predictions to a task's table: a row for each condition, and how far the mask is from each, in pairs of clips."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import mean, pstdev
from typing import Literal

from ..data.intervals import Clusters, Sample, paired_difference
from ..data.metrics import Score, score
from ..data.tasks import TaskSpec
from .predictions import CONDITIONS, Condition, Prediction

Answers = Literal["served", "unconstrained"]


@dataclass(frozen=True)
class Figures:
    """What some runs score, in percent; each run is a wording, a seed or a mask.

    Attributes:
        value: the headline metric; the mean over runs.
        low, high: where 95 % of the values would lie if other speakers (or clips, where none are known) had been drawn; over
            several runs the mean of each.
        best, worst, std: over runs; std is the standard deviation.
        detail: the other metrics, means likewise.
    """

    value: float
    low: float
    high: float
    best: float
    worst: float
    std: float
    detail: dict[str, float]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        task: the task's name.
        condition: "mask", "prompt", "unprompted", "random" or "other".
        mask: the mask's name and version; of controls, that of the mask that they are held against.
        wording: of a single run its prompt, seed or other mask.
        metric: the headline metric, such as "wer".
        served: of the answers that `amask run` gives, held to the task's labels or form.
        unconstrained: of what the model says held to nothing; None where nothing holds the others either (open text), or where
            it was not asked.
        clips: how many clips.
        speakers: how many of them are known to be of different speakers; 0 where none is known.
        runs: how many wordings, seeds or masks.
        truncated: share of the answers that ended at the limit of tokens, in percent.
    """

    task: str
    condition: Condition
    mask: str
    wording: str
    metric: str
    served: Figures
    unconstrained: Figures | None
    clips: int
    speakers: int
    runs: int
    truncated: float


@dataclass(frozen=True)
class Difference:
    """A mask's figure less another condition's on the same clips; of error rates a negative one is the better.

    Attributes:
        task: the task's name.
        mask: the mask.
        against: "prompt" (the mean of all), "best prompt" (chosen on these very clips, which is to its advantage),
            "unprompted", "random" (the mean), or "other".
        answers: "served", as `amask run` gives them, or "unconstrained".
        value: in points.
        low, high: its 95 % interval over resampled speakers, both figures on the same resamples.
        runs: how many wordings, seeds or masks stand on the other side.
    """

    task: str
    mask: str
    against: str
    answers: Answers
    value: float
    low: float
    high: float
    runs: int


@dataclass(frozen=True)
class TaskTable:
    """All that was measured of one task.

    Attributes:
        task: its name.
        metric: its headline metric.
        rows: one a condition, and for masks and their controls one a mask.
        differences: between each mask and every other condition.
        measured_on: what the figures are of: split, clips, speakers, and what is odd about them.
    """

    task: str
    metric: str
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    measured_on: str = ""

    def against(self, row: Row, answers: Answers = "served") -> list[Difference]:
        """How far each mask is from a row that is none: one for a control of one mask, one a mask for the rest."""
        fitting = (each for each in self.differences if (each.against, each.answers) == (row.condition, answers))
        return [each for each in fitting if row.mask in ("", each.mask)]


@dataclass(frozen=True, eq=False)
class Run:
    """One run's predictions and scores, the headline first."""

    predictions: Sequence[Prediction]
    served: list[Score]
    unconstrained: list[Score] | None

    def sample(self, answers: Answers) -> Sample | None:
        """The headline over any choice of the rows; None where there are no such answers."""
        scores = self.served if answers == "served" else self.unconstrained
        return scores[0].sample if scores else None


def summarise(task: TaskSpec, predictions: Sequence[Prediction], measured_on: str = "") -> TaskTable:
    """Score the predictions for a task.

    Raises:
        DataError: they cannot be scored, see `score`.
    """
    groups: dict[tuple[int, str], dict[str, list[Prediction]]] = {}
    for each in predictions:
        if each.task == task.name:
            groups.setdefault((CONDITIONS.index(each.condition), each.mask), {}).setdefault(each.wording, []).append(each)
    runs = {key: [score_run(task, run) for run in groups[key].values()] for key in sorted(groups)}
    rows = tuple(_row(task, CONDITIONS[at], mask, some) for (at, mask), some in runs.items())
    metric = rows[0].metric if rows else task.parts[0].metric
    return TaskTable(task.name, metric, rows, tuple(_differences(task, runs)), measured_on)


def score_run(task: TaskSpec, run: Sequence[Prediction]) -> Run:
    """Score one run's predictions; errors as of `score`."""
    clusters = Clusters.by([each.speaker for each in run])
    references = [each.reference for each in run]
    given = [each.likelihoods for each in run if each.likelihoods]
    likelihoods = given if len(given) == len(run) else None
    free = [each.unconstrained for each in run if each.unconstrained is not None]
    unconstrained = score(task, free, references, clusters=clusters) if len(free) == len(run) else None
    served = score(task, [each.answer for each in run], references, likelihoods, clusters=clusters)
    return Run(run, served, unconstrained)


def _row(task: TaskSpec, condition: Condition, mask: str, runs: Sequence[Run]) -> Row:
    first = runs[0].predictions
    unconstrained = [run.unconstrained for run in runs if run.unconstrained]
    return Row(
        task=task.name,
        condition=condition,
        mask=mask,
        wording=first[0].wording if len(runs) == 1 else "",
        metric=runs[0].served[0].metric,
        served=_figures([run.served for run in runs]),
        unconstrained=_figures(unconstrained) if len(unconstrained) == len(runs) else None,
        clips=len(first),
        speakers=len({each.speaker for each in first} - {""}),
        runs=len(runs),
        truncated=round(100 * mean(float(each.truncated) for run in runs for each in run.predictions), 2),
    )


def _figures(runs: Sequence[Sequence[Score]]) -> Figures:
    heads = [scores[0] for scores in runs]
    values = [head.value for head in heads]
    bounds = [head.interval or (head.value, head.value) for head in heads]
    ordered = sorted(values, reverse=heads[0].better == "higher")
    low, high = mean(low for low, _ in bounds), mean(high for _, high in bounds)
    detail = {part.name: round(mean(scores[at].value for scores in runs), 2) for at, part in enumerate(runs[0]) if at}
    return Figures(
        value=round(mean(values), 2),
        low=round(low, 2),
        high=round(high, 2),
        best=round(ordered[0], 2),
        worst=round(ordered[-1], 2),
        std=round(pstdev(values), 2),
        detail=detail,
    )


def _differences(task: TaskSpec, runs: Mapping[tuple[int, str], list[Run]]) -> Iterator[Difference]:
    masks = {mask: found[0] for (at, mask), found in runs.items() if CONDITIONS[at] == "mask"}
    kinds: tuple[Answers, ...] = ("served", "unconstrained")
    for (name, own), answers in product(masks.items(), kinds):
        clusters = Clusters.by([each.speaker for each in own.predictions])
        for (at, mask), found in runs.items():
            samples = [sample for run in found if (sample := run.sample(answers)) is not None]
            mine = own.sample(answers)
            if CONDITIONS[at] == "mask" or mask not in ("", name) or mine is None or not samples:
                continue
            yield _difference(task, name, CONDITIONS[at], answers, mine, samples, clusters)
            if CONDITIONS[at] == "prompt" and len(samples) > 1:
                pick = min if found[0].served[0].better == "lower" else max
                best = pick(samples, key=lambda sample: sample.value)
                yield _difference(task, name, "best prompt", answers, mine, [best], clusters)


def _difference(
    task: TaskSpec, mask: str, against: str, answers: Answers, mine: Sample, others: Sequence[Sample], clusters: Clusters
) -> Difference:
    value, (low, high) = paired_difference(mine, others, clusters)
    return Difference(task.name, mask, against, answers, round(value, 2), round(low, 2), round(high, 2), runs=len(others))
