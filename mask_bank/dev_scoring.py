"""What a mask does on dev clips, answered by the function that `run` answers by (`lalm.parallel.answer_task_rows`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..data.metrics import score
from ..data.tasks import TaskSpec
from ..lalm.base import LALM
from ..lalm.batching import AudioFeatures
from ..lalm.parallel import TaskRow, answer_task_rows
from .labelled_clips import LabelledClips
from .mask import HeadMask

EVAL_BATCH = 50  # dev clips that are answered at once

ScoreFn = Callable[[TaskSpec, list[str], list[str]], float]
"""(task, answers, references) → a figure of merit; higher is better."""


@dataclass(frozen=True)
class DevScore:
    """What a mask does on dev clips; higher is better.

    Attributes:
        value: a figure of merit of its answers, as they are served.
        merit: what a training's masks are compared by: the value, for a task with labels averaged with the percent of clips for
            which the model says the right label by itself. Held to its labels a model often needs no mask, and a mask that
            leaves it so has learned nothing.
    """

    value: float
    merit: float


def headline(task: TaskSpec, answers: list[str], references: list[str]) -> float:
    """The task's headline metric as a figure of merit: error rates count downwards."""
    head = score(task, answers, references)[0]
    return -head.value if head.better == "lower" else head.value


@torch.no_grad()
def score_mask(
    model: LALM, task: TaskSpec, mask: HeadMask, dev: LabelledClips, clips: Sequence[int], score_answers: ScoreFn = headline
) -> DevScore:
    """What a mask does on dev clips.

    Args:
        model: the model.
        task: what the mask does.
        mask: the mask.
        dev: clips with labels.
        clips: those of them that count.
        score_answers: scores the answers.
    """
    clips = sorted(clips, key=dev.features.count)  # so that little is padded
    references = [task.target(dev.labels[clip]) for clip in clips]
    gates = mask.gates.to(model.device)
    found: list[str] = []
    by_itself: list[bool] = []
    for start in range(0, len(clips), EVAL_BATCH):
        some = slice(start, start + EVAL_BATCH)
        found += dev_answers(model, task, gates, dev, clips[some], references[some])
        if model.can_score and task.labels:
            by_itself += _says(model, dev.features.rows(clips[some]), references[some], gates).tolist()
    value = score_answers(task, found, references)
    return DevScore(value, (value + 100 * sum(by_itself) / len(by_itself)) / 2 if by_itself else value)


def _says(
    model: LALM, features: AudioFeatures, answers: Sequence[str], gates: Float[Tensor, "layer head"]
) -> Bool[Tensor, " clip"]:
    """Whether greedy search gives exactly these answers, unconstrained."""
    return (model.token_margins(features, answers, gates)[0] > 0).all(1)


def dev_answers(
    model: LALM,
    task: TaskSpec,
    gates: Float[Tensor, "layer head"],
    dev: LabelledClips,
    clips: Sequence[int],
    references: Sequence[str],
) -> list[str]:
    """What a model answers for some dev clips, without decoding wherever one pass tells.

    A task with labels answers with the likeliest of them. Otherwise a pass over the right answers tells where greedy search
    gives exactly these (all margins above 0; a constraint, which they meet, takes only other tokens away), and only the other
    clips' answers are decoded.
    """
    features = dev.features.rows(list(clips))
    said = list(references)
    missed = list(range(len(clips)))
    if model.can_score and not task.labels:
        missed = (~_says(model, features, references, gates)).nonzero()[:, 0].tolist()
    rows = [TaskRow(at, gates, task=task) for at in missed]
    answered = answer_task_rows(model, features, rows, max_new_tokens=model.max_tokens_for(references), batch=EVAL_BATCH)
    for at, answer in zip(missed, answered, strict=True):
        said[at] = answer.text
    return said
