"""The harness: a task done by its mask, by prompts, by nothing, and by random masks, on the same clips.

The audio is encoded once. Predictions are kept before they are scored.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import mean, pstdev

from ..data.instructions import wordings
from ..data.manifest import Manifest
from ..data.tasks import TaskSpec
from ..lalm.assembly import AudioFeatures
from ..lalm.base import LALM, Gates
from ..mask_bank.mask import HeadMask
from .controls import random_like
from .metrics import Score, score
from .predictions import How, Prediction

LONGEST_ANSWER = 80  # tokens


@dataclass(frozen=True)
class Trial:
    """One way of having a task done: a mask, a prompt, nothing, or a random mask."""

    how: How
    wording: str
    gates: Gates


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        task: the task's name.
        how: "mask", "prompt", "none" or "random".
        metric: the headline metric, such as "wer".
        value: its value in percent; for prompts and random masks the mean over wordings or seeds.
        clips: how many clips.
        best, worst, spread: over wordings or seeds; the spread is the standard deviation.
        runs: how many wordings or seeds.
        detail: the other figures, means likewise.
    """

    task: str
    how: How
    metric: str
    value: float
    clips: int
    best: float
    worst: float
    spread: float
    runs: int
    detail: dict[str, float]


def trials(task: TaskSpec, mask: HeadMask | None, prompts: int, seeds: int) -> list[Trial]:
    """What is tried for a task: its mask if there is one, up to some prompts, nothing, and random masks."""
    found = [Trial("mask", "", mask.gates)] if mask else []
    said = wordings(task)
    chosen = [said[i * len(said) // prompts] for i in range(prompts)] if len(said) > prompts else said
    found += [Trial("prompt", wording, None) for wording in chosen]
    found.append(Trial("none", "", None))
    if mask:
        found += [Trial("random", f"seed {seed}", random_like(mask, seed).gates) for seed in range(1, seeds + 1)]
    return found


def predict(
    model: LALM, features: AudioFeatures, clips: Manifest, task: TaskSpec, trial: Trial, batch: int = 50
) -> list[Prediction]:
    """The model's answers in one trial."""
    answers: list[str] = []
    for start in range(0, len(clips), batch):
        rows = features.rows(list(range(start, min(start + batch, len(clips)))))
        said = [trial.wording] * len(rows) if trial.how == "prompt" else None
        gates = None if trial.gates is None else trial.gates.to(model.device)
        answers += model.generate(rows, gates, said, max_new_tokens=LONGEST_ANSWER)
    return [
        Prediction(path=c.path, task=task.name, how=trial.how, wording=trial.wording, answer=a, reference=task.target(c.labels))
        for c, a in zip(clips, answers, strict=True)
    ]


def evaluate(
    model: LALM,
    features: AudioFeatures,
    clips: Manifest,
    task: TaskSpec,
    mask: HeadMask | None,
    prompts: int = 8,
    seeds: int = 3,
    tell: Callable[[Trial], None] | None = None,
) -> Iterator[list[Prediction]]:
    """Predictions of each trial of a task, one list a trial."""
    for trial in trials(task, mask, prompts, seeds):
        if tell:
            tell(trial)
        yield predict(model, features, clips, task, trial)


def table(task: TaskSpec, predictions: list[Prediction]) -> list[Row]:
    """Score predictions: one row for each way that is among them."""
    rows = []
    for how in ("mask", "prompt", "none", "random"):
        runs: dict[str, list[Prediction]] = {}
        for prediction in predictions:
            if prediction.how == how and prediction.task == task.name:
                runs.setdefault(prediction.wording, []).append(prediction)
        if runs:
            rows.append(_row(task, how, list(runs.values())))
    return rows


def _row(task: TaskSpec, how: How, runs: list[list[Prediction]]) -> Row:
    scored: list[list[Score]] = [score(task, [p.answer for p in run], [p.reference for p in run]) for run in runs]
    head = scored[0][0]
    values = [scores[0].value for scores in scored]
    best, worst = (min(values), max(values)) if head.better == "lower" else (max(values), min(values))
    detail = {part.name: round(mean(scores[at].value for scores in scored), 2) for at, part in enumerate(scored[0]) if at}
    figures = (round(figure, 2) for figure in (mean(values), best, worst, pstdev(values)))
    value, best, worst, spread = figures
    return Row(task.name, how, head.metric, value, len(runs[0]), best, worst, spread, len(runs), detail)
