"""From predictions to the lines of a table: one for each way of having a task done."""

from dataclasses import dataclass
from statistics import mean, pstdev

from ..data.confidence import Interval
from ..data.metrics import Score, score
from ..data.tasks import TaskSpec
from .predictions import How, Prediction

WAYS: tuple[How, ...] = ("mask", "prompt", "none", "random")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        task: the task's name.
        how: "mask", "prompt", "none" or "random".
        mask: the mask's name and version; of random masks, that of the mask that they are made like.
        metric: the headline metric, such as "wer".
        value: its value in percent; for prompts and random masks the mean over wordings or seeds.
        low, high: where 95 % of the values would lie if other clips had been drawn; over several runs the mean of each.
        clips: how many clips.
        best, worst, spread: over wordings or seeds; the spread is the standard deviation.
        runs: how many wordings or seeds.
        cut: share of the answers that ended at the limit of tokens, in percent.
        detail: the other figures, means likewise.
    """

    task: str
    how: How
    mask: str
    metric: str
    value: float
    low: float
    high: float
    clips: int
    best: float
    worst: float
    spread: float
    runs: int
    cut: float
    detail: dict[str, float]


def table(task: TaskSpec, predictions: list[Prediction]) -> list[Row]:
    """Score the predictions for a task: one row for each way, and each mask, that is among them.

    Raises:
        DataError: they cannot be scored, see `score`.
    """
    ways: dict[tuple[int, str], dict[str, list[Prediction]]] = {}
    for each in predictions:
        if each.task == task.name:
            ways.setdefault((WAYS.index(each.how), each.mask), {}).setdefault(each.wording, []).append(each)
    return [_row(task, WAYS[way], list(runs.values())) for (way, _), runs in sorted(ways.items())]


def _row(task: TaskSpec, how: How, runs: list[list[Prediction]]) -> Row:
    scored = [_scores(task, run) for run in runs]
    heads = [scores[0] for scores in scored]
    values = [head.value for head in heads]
    around: list[Interval] = [head.interval or (head.value, head.value) for head in heads]
    best, worst = (min(values), max(values)) if heads[0].better == "lower" else (max(values), min(values))
    cut = 100 * mean(float(prediction.cut) for run in runs for prediction in run)
    figures = {
        "value": mean(values),
        "low": mean(low for low, _ in around),
        "high": mean(high for _, high in around),
        "best": best,
        "worst": worst,
        "spread": pstdev(values),
        "cut": cut,
    }
    return Row(
        task=task.name,
        how=how,
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
    return score(task, answers, references, given, intervals=True)
