"""Several masks for the same clips: rows of one batch over one audio encoding, each row with the gates of its own mask."""

from collections.abc import Mapping, Sequence

import torch

from ..data.tasks import BAR, TaskSpec
from .answering import Answer
from .base import LALM, Mask
from .batching import AudioFeatures
from .constrained_decoding import Constraints, task_constraint

BATCH_ROWS = 16  # rows that are answered at once: on a CPU more of them take longer each, as attention leaves its cache


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
    """What each of several masks answers to each clip.

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
    gates = torch.stack([model.gates_of(mask) for mask in masks]).to(model.device)
    longest_first = sorted(range(len(features)), key=features.count, reverse=True)
    rows = [(clip, at) for clip in longest_first for at in range(len(masks))]  # clips of like length waste no padding
    found: dict[tuple[int, int], Answer] = {}
    for start in range(0, len(rows), batch):
        together = rows[start : start + batch]
        clips, chosen = zip(*together, strict=True)
        held = None if constraints is None else [constraints[at] for at in chosen]
        heard = features.rows(list(clips))
        answers = model.answer(heard, gates[list(chosen)], max_new_tokens=max_new_tokens, beams=beams, constraints=held)
        found.update(zip(together, answers, strict=True))
    return [[found[clip, at] for clip in range(len(features))] for at in range(len(masks))]


def answer_texts(
    model: LALM, features: AudioFeatures, masks: Sequence[Mask], *, constraints: Constraints = None, max_new_tokens: int
) -> list[list[str]]:
    """The texts of `answer_rows`."""
    found = answer_rows(model, features, masks, constraints=constraints, max_new_tokens=max_new_tokens)
    return [[answer.text for answer in answers] for answers in found]


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
    constraints = None if unconstrained else [task_constraint(TaskSpec(parts=(part,))) for part in spec.parts]
    found = answer_rows(model, features, masks, constraints=constraints, max_new_tokens=max_new_tokens, beams=beams)
    return [
        Answer(
            assemble(spec, {name: answer.text for name, answer in zip(spec.names, parts, strict=True)}),
            any(answer.truncated for answer in parts),
        )
        for parts in zip(*found, strict=True)
    ]


def assemble(spec: TaskSpec, answers: Mapping[str, str]) -> str:
    """A composite's answer of its parts' answers, in the right form whatever they say.

    Between the bars of a pipe an answer's own bars and line breaks become spaces.
    """
    if spec.form == "pipe":
        answers = {name: " ".join(text.replace(BAR, " ").split()) for name, text in answers.items()}
    return spec.target(answers)
