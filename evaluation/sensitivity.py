"""Instruction sensitivity: how much a task's score moves with the words that ask for it, by prompt, by mask, by predicted bits.

A prompted model is told the words. A masked one is unprompted: the words go to the predictor, and what it decides is run.
A refused instruction counts as if every answer were empty, so that refusing is never free.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, pstdev
from typing import Literal

from ..data.atomic_write import write_atomic
from ..data.manifest import Manifest
from ..data.metrics import score
from ..data.tasks import TaskSpec
from ..lalm.answering import Rows
from ..lalm.base import LALM
from ..mask_bank.mask import HeadMask
from ..predictor.router import InstructionRouter
from .harness import Trial, predict

Condition = Literal["prompt", "mask", "bits"]
CONDITIONS: tuple[Condition, ...] = ("prompt", "mask", "bits")


@dataclass(frozen=True)
class SensitivityRow:
    """A task's score over some wordings.

    Attributes:
        task: the task's name.
        condition: told the words ("prompt"), the bank's mask that they are snapped to ("mask"), or the predicted bits ("bits").
        seen: whether the wordings are those that the model may have been trained with.
        metric: the headline metric.
        mean, std, worst: of `values`.
        values: one for each wording, in percent.
    """

    task: str
    condition: Condition
    seen: bool
    metric: str
    mean: float
    std: float
    worst: float
    values: tuple[float, ...]


def measure_sensitivity(
    model: LALM,
    router: InstructionRouter,
    features: Rows,
    clips: Manifest,
    task: TaskSpec,
    wordings: Sequence[str],
    condition: Condition,
    seen: bool,
    on_progress: Callable[[int, str], None] = lambda _done, _note: None,
) -> SensitivityRow:
    """Have a task done once for each wording.

    Args:
        model: the model.
        router: reads the wordings for its masks.
        features: the clips, encoded.
        clips: their labels.
        task: what the wordings ask for.
        wordings: at least one.
        condition: by prompt, mask or bits.
        seen: for the result.
        on_progress: told how many are done, and the wording.
    """
    references = [task.target(clip.labels) for clip in clips]
    answered: dict[str, list[str]] = {}
    values: list[float] = []
    for done, wording in enumerate(wordings):
        on_progress(done, wording)
        mask = None if condition == "prompt" else _mask(router, wording, condition == "bits")
        if condition != "prompt" and mask is None:
            answers = [""] * len(references)
        else:
            key = wording if mask is None else mask.digest
            if key not in answered:
                trial = Trial("prompt", wording) if mask is None else Trial("mask", "", mask)
                answered[key] = [
                    prediction.answer for prediction in predict(model, features, clips.clips, task, trial, unconstrained=False)
                ]
            answers = answered[key]
        head = score(task, answers, references)[0]
        values.append(round(head.value, 2))
    worst = (max if head.better == "lower" else min)(values)
    figures = (round(mean(values), 2), round(pstdev(values), 2), worst)
    return SensitivityRow(task.name, condition, seen, head.metric, *figures, tuple(values))


def _mask(router: InstructionRouter, wording: str, raw: bool) -> HeadMask | None:
    """What the predictor has run; None where it refuses, or where no single mask does it."""
    return router.route([wording], use_predicted_bits=raw, neighbours=False)[0].mask


def save_sensitivity_plot(rows: Sequence[SensitivityRow], path: Path) -> None:
    """A picture: a panel a task, a dot a wording, a column each for prompts and masks with seen and unseen wordings.

    Args:
        rows: of `measure_sensitivity`.
        path: ends in `.png` or `.svg`.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415  (heavy, and needed for pictures only)

    tasks = list(dict.fromkeys(row.task for row in rows))
    figure = Figure(figsize=(1.0 + 2.4 * len(tasks), 3.2), facecolor="white")
    for at, task in enumerate(tasks):
        axes = figure.add_subplot(1, len(tasks), at + 1)
        own = [row for row in rows if row.task == task]
        for column, row in enumerate(own):
            colour = {"prompt": "#e76f51", "mask": "#2a9d8f", "bits": "#457b9d"}[row.condition]
            places = [column + 0.5 * (number / max(1, len(row.values) - 1) - 0.5) for number in range(len(row.values))]
            axes.scatter(places, row.values, s=9, color=colour, alpha=0.7, linewidths=0)
            axes.hlines(row.mean, column - 0.35, column + 0.35, color=colour, linewidth=1.5)
        axes.set_xticks(range(len(own)), [f"{row.condition}\n{'seen' if row.seen else 'unseen'}" for row in own], fontsize=6)
        axes.set_title(f"{task} ({own[0].metric})", fontsize=9)
        axes.tick_params(labelsize=6, length=0)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    drawn = io.BytesIO()
    figure.savefig(drawn, format=path.suffix.removeprefix(".") or "png", dpi=180)
    write_atomic(drawn.getvalue(), path)
