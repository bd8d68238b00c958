"""From predictions to the lines of a table: one for each condition."""

from dataclasses import dataclass
from statistics import mean, pstdev

from ..data.intervals import Clusters, Interval
from ..data.metrics import Score, score
from ..data.tasks import TaskSpec
from .predictions import Condition, Prediction

CONDITIONS: tuple[Condition, ...] = ("mask", "prompt", "unprompted", "random")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        task: the task's name.
        condition: "mask", "prompt", "unprompted" or "random".
        mask: the mask's name and version; of random masks, that of the mask that they are made like.
        metric: the headline metric, such as "wer".
        value: its value in percent; for prompts and random masks the mean over wordings or seeds.
        low, high: where 95 % of the values would lie if other clips had been drawn; over several runs the mean of each.
        clips: how many clips.
        best, worst, std: over wordings or seeds; std is the standard deviation.
        runs: how many wordings or seeds.
        truncated: share of the answers that ended at the limit of tokens, in percent.
        detail: the other figures, means likewise.
    """

    task: str
    condition: Condition
    mask: str
    metric: str
    value: float
    low: float
    high: float
    clips: int
    best: float
    worst: float
    std: float
    runs: int
    truncated: float
    detail: dict[str, float]


def summarise(task: TaskSpec, predictions: list[Prediction]) -> list[Row]:
    """Score the predictions for a task: one row for each way, and each mask, that is among them.

    Raises:
        DataError: they cannot be scored, see `score`.
    """
    ways: dict[tuple[int, str], dict[str, list[Prediction]]] = {}
    for each in predictions:
        if each.task == task.name:
            ways.setdefault((CONDITIONS.index(each.condition), each.mask), {}).setdefault(each.wording, []).append(each)
    return [_row(task, CONDITIONS[way], list(runs.values())) for (way, _), runs in sorted(ways.items())]


def _row(task: TaskSpec, condition: Condition, runs: list[list[Prediction]]) -> Row:
    scored = [_scores(task, run) for run in runs]
    heads = [scores[0] for scores in scored]
    values = [head.value for head in heads]
    intervals: list[Interval] = [head.interval or (head.value, head.value) for head in heads]
    best, worst = (min(values), max(values)) if heads[0].better == "lower" else (max(values), min(values))
    truncated = 100 * mean(float(prediction.truncated) for run in runs for prediction in run)
    figures = {
        "value": mean(values),
        "low": mean(low for low, _ in intervals),
        "high": mean(high for _, high in intervals),
        "best": best,
        "worst": worst,
        "std": pstdev(values),
        "truncated": truncated,
    }
    return Row(
        task=task.name,
        condition=condition,
        mask=runs[0][0].mask,
        metric=heads[0].metric,
        clips=len(runs[0]),
        runs=len(runs),
        detail={part.name: round(mean(scores[at].value for scores in scored), 2) for at, part in enumerate(scored[0]) if at},
        **{name: round(figure, 2) for name, figure in figures.items()},
    )


def _scores(task: TaskSpec, run: list[Prediction]) -> list[Score]:
    likelihoods = [prediction.likelihoods for prediction in run if prediction.likelihoods]
    given = likelihoods if len(likelihoods) == len(run) else None
    answers, references = [p.answer for p in run], [p.reference for p in run]
    return score(task, answers, references, given, clusters=Clusters.by([""] * len(run)))
