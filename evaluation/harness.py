"""The harness: a task done by its mask, by prompts, by nothing, and by random masks, on the same clips.

The audio is encoded once. Predictions are kept before they are scored.
"""

from dataclasses import dataclass
from statistics import mean, pstdev

from ..data.manifest import Manifest
from ..data.metrics import Score, score
from ..data.tasks import TaskSpec
from ..data.wordings import wordings
from ..lalm.base import LALM
from ..lalm.listening import FeatureRows
from ..mask_bank.mask import HeadMask
from .controls import random_like
from .predictions import How, Prediction


def clips_for(task: TaskSpec, manifest: Manifest, split: str, kind: str | None = None) -> Manifest:
    """The clips of a split that measure a task: they have a label for each of its parts, and of asr a word to hear.

    Args:
        task: the task.
        manifest: the clips.
        split: train, dev or test.
        kind: only clips of this kind; by default the kinds of the task's parts, where every clip that has the labels has a
            kind and one of them is of these, else all.
    """
    labelled = manifest.select(split, task.names)
    found = [clip for clip in labelled if all(clip.labels[name] for name in task.names)]
    kinds = {kind} if kind else _kinds(task)
    own = [clip for clip in found if clip.kind in kinds]
    chosen = own if kind or (own and all(clip.kind for clip in found)) else found
    return Manifest(tuple(chosen), manifest.folder)


def _kinds(task: TaskSpec) -> set[str]:
    """The kinds of clips that measure a task: those that its parts ask for, or plain speech where none does."""
    return {part.kind for part in task.parts} - {"speech"} or {"speech"}


@dataclass(frozen=True)
class Trial:
    """One way of having a task done: a mask, a prompt, nothing, or a random mask."""

    how: How
    wording: str
    mask: HeadMask | None = None


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
    found = [Trial("mask", "", mask)] if mask else []
    said = wordings(task)
    chosen = [said[i * len(said) // prompts] for i in range(prompts)] if len(said) > prompts else said
    found += [Trial("prompt", wording) for wording in chosen]
    found.append(Trial("none", ""))
    if mask:
        found += [Trial("random", f"seed {seed}", random_like(mask, seed)) for seed in range(1, seeds + 1)]
    return found


def predict(
    model: LALM, features: FeatureRows, clips: Manifest, task: TaskSpec, trial: Trial, batch: int = 50
) -> list[Prediction]:
    """The model's answers in one trial.

    Raises:
        MaskError: the trial's mask is not for this model.
    """
    gates = None
    if trial.mask is not None:
        trial.mask.require(model)
        gates = trial.mask.gates.to(model.device)
    answers: list[str] = []
    room = model.room_for([task.target(clip.labels) for clip in clips])
    for start in range(0, len(clips), batch):
        rows = features.rows(list(range(start, min(start + batch, len(clips)))))
        said = [trial.wording] * len(rows) if trial.how == "prompt" else None
        answers += model.generate(rows, gates, said, max_new_tokens=room)
    return [
        Prediction(path=c.path, task=task.name, how=trial.how, wording=trial.wording, answer=a, reference=task.target(c.labels))
        for c, a in zip(clips, answers, strict=True)
    ]


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
