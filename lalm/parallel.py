"""Rows of one batch that each have gates or a prompt, a task and a constraint of their own, over one encoding of the clips.

Runs, the server's mixed batches and the tries of a search come through here. What has a closed set of answers is answered by
their likelihoods; everything else is decoded, under the task's constraint.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..data.tasks import BAR, TaskSpec
from .answering import Answer, texts
from .base import LALM, Mask
from .batching import AudioFeatures
from .constrained_decoding import Constraint, Constraints, task_constraint
from .text_follower import Listener

BATCH_ROWS = 16  # rows that are answered at once: on a CPU more of them take longer each, as attention leaves its cache


@dataclass(frozen=True)
class TaskRow:
    """One answer that is wanted.

    Attributes:
        clip: the row of the features that it is about.
        gates: 1 where a head is on, 0 where it is off; None for all on.
        prompt: what the model is told; None for nothing.
        task: what the answer is held to; None for what the model says by itself.
        constraint: what it is held to instead, such as a JSON schema.
        listener: who is told the text while it is decoded.
    """

    clip: int
    gates: Float[Tensor, "layer head"] | None = None
    prompt: str | None = None
    task: TaskSpec | None = None
    constraint: Constraint | None = None
    listener: Listener | None = None


def answer_task_rows(
    model: LALM,
    features: AudioFeatures,
    rows: Sequence[TaskRow],
    *,
    max_new_tokens: int,
    beams: int = 1,
    batch: int = BATCH_ROWS,
) -> list[Answer]:
    """Answer rows of different masks, prompts and tasks together.

    Args:
        model: the model.
        features: the clips, encoded once.
        rows: what is wanted.
        max_new_tokens: where decoded answers are truncated.
        beams: 1 for greedy search.
        batch: rows at once.

    Returns:
        An answer a row, with its confidence where that is known; of a closed set the likeliest one.
    """
    found: dict[int, Answer] = {}
    constraints = [_constraint(row) for row in rows]
    longest_first = sorted(range(len(rows)), key=lambda at: features.count(rows[at].clip), reverse=True)
    groups: dict[tuple[str, ...], list[int]] = {}
    for at in longest_first:  # clips of like length waste no padding, and closed sets need no decoding
        constraint = constraints[at]
        groups.setdefault(constraint.answers if constraint else (), []).append(at)
    for members in groups.values():
        for start in range(0, len(members), batch):
            chosen = members[start : start + batch]
            some = [rows[at] for at in chosen]
            held = [constraints[at] for at in chosen]
            answers = model.answer(
                features.rows([row.clip for row in some]),
                _gates(model, some),
                _prompts(some),
                max_new_tokens=max_new_tokens,
                beams=beams,
                constraints=held if any(held) else None,
                confidence=True,
                listeners=[row.listener for row in some] if any(row.listener for row in some) else None,
            )
            found.update(zip(chosen, answers, strict=True))
    return [found[at] for at in range(len(rows))]


def _constraint(row: TaskRow) -> Constraint | None:
    return row.constraint or (None if row.task is None else task_constraint(row.task))


def _gates(model: LALM, rows: Sequence[TaskRow]) -> Float[Tensor, "row layer head"] | None:
    if all(row.gates is None for row in rows):
        return None
    everything = model.geometry.present.float()
    return torch.stack([everything if row.gates is None else row.gates for row in rows]).to(model.device)


def _prompts(rows: Sequence[TaskRow]) -> list[str] | None:
    return [row.prompt or "" for row in rows] if any(row.prompt for row in rows) else None


def answer_rows(
    model: LALM,
    features: AudioFeatures,
    masks: Sequence[Mask],
    *,
    constraints: Constraints = None,
    max_new_tokens: int,
    beams: int = 1,
    batch: int = BATCH_ROWS,
) -> list[list[Answer]]:
    """What each of several masks answers to each clip, decoded.

    Args:
        model: the model.
        features: the clips, encoded once.
        masks: of this model.
        constraints: what each mask's answers are held to.
        max_new_tokens: where an answer is truncated.
        beams: 1 for greedy search.
        batch: rows at once, a row being a clip with a mask.

    Returns:
        Answers by mask and clip.

    Raises:
        MaskError: a mask is for another model.
    """
    held = constraints or [None] * len(masks)
    gates = [model.gates_of(mask) for mask in masks]
    rows = [
        TaskRow(clip, gate, constraint=constraint)
        for gate, constraint in zip(gates, held, strict=True)
        for clip in range(len(features))
    ]
    answers = answer_task_rows(model, features, rows, max_new_tokens=max_new_tokens, beams=beams, batch=batch)
    return [answers[at * len(features) : (at + 1) * len(features)] for at in range(len(masks))]


def answer_texts(
    model: LALM, features: AudioFeatures, masks: Sequence[Mask], *, constraints: Constraints = None, max_new_tokens: int
) -> list[list[str]]:
    """The texts of `answer_rows`."""
    found = answer_rows(model, features, masks, constraints=constraints, max_new_tokens=max_new_tokens)
    return [texts(answers) for answers in found]


def answer_parts(
    model: LALM,
    features: AudioFeatures,
    spec: TaskSpec,
    masks: Sequence[Mask],
    *,
    unconstrained: bool = False,
    max_new_tokens: int,
    beams: int = 1,
) -> list[Answer]:
    """A composite in parallel: each part by its own mask, assembled by code.

    Args:
        model: the model.
        features: the clips.
        spec: the composite.
        masks: the parts' own, in the order of the answer.
        unconstrained: do not hold the parts' answers to their labels.
        max_new_tokens: where a part's answer is truncated.
        beams: 1 for greedy search.

    Raises:
        MaskError: a mask is for another model.
    """
    rows = [
        TaskRow(clip, model.gates_of(mask), task=None if unconstrained else TaskSpec(parts=(part,)))
        for clip in range(len(features))
        for part, mask in zip(spec.parts, masks, strict=True)
    ]
    found = answer_task_rows(model, features, rows, max_new_tokens=max_new_tokens, beams=beams)
    per_clip = [found[start : start + len(masks)] for start in range(0, len(found), len(masks))]
    return [
        Answer(
            assemble(spec, {name: answer.text for name, answer in zip(spec.names, parts, strict=True)}),
            any(answer.truncated for answer in parts),
        )
        for parts in per_clip
    ]


def assemble(spec: TaskSpec, answers: Mapping[str, str]) -> str:
    """A composite's answer of its parts' answers, in the right form whatever they say.

    Between the bars of a pipe an answer's own bars and line breaks become spaces.
    """
    if spec.form == "pipe":
        answers = {name: " ".join(text.replace(BAR, " ").split()) for name, text in answers.items()}
    return spec.target(answers)
