"""What a step of a training is made of: rows, what each is to say, and which of them go through the model together."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..data.tasks import TaskSpec
from ..data.wordings import wordings
from ..lalm.answering import Rows
from ..lalm.base import LALM
from ..lalm.constrained_decoding import Constraint
from .losses import row_losses
from .recipe import Recipe

MAX_ROWS = 24  # rows that go through the model at once
MAX_LENGTH_RATIO = 1.3  # how much longer the longest of them may be than the shortest; shorter ones are padded
MAX_TOKENS = 4096  # of all rows that go through the model at once, padding included; halved where memory runs out


@dataclass(frozen=True)
class Lesson:
    """A row of a step: a clip, what is to be said of it, what that is held to, and the prompt that is distilled, if one is."""

    clip: int
    target: str
    constraint: Constraint | None
    prompt: str | None


def draw_prompts(task: TaskSpec, recipe: Recipe, generator: torch.Generator) -> list[str] | list[None]:
    """The prompt of each row of a task's batch, any of its wordings; None where nothing is distilled."""
    if recipe.distillation == 0:
        return [None] * recipe.batch
    texts = wordings(task)
    return [texts[int(pick)] for pick in torch.randint(len(texts), (recipe.batch,), generator=generator)]


def lesson_losses(
    model: LALM, features: Rows, lessons: Sequence[Lesson], gates: Float[Tensor, "row layer head"], recipe: Recipe
) -> Float[Tensor, " row"]:
    """The loss of each of some lessons under its gates (`losses.row_losses`)."""
    heard = features.rows([lesson.clip for lesson in lessons])
    targets, constraints = [lesson.target for lesson in lessons], [lesson.constraint for lesson in lessons]
    prompts = [lesson.prompt for lesson in lessons if lesson.prompt is not None]
    return row_losses(model, heard, targets, gates, recipe, constraints, prompts)


def group_by_length(lengths: Sequence[float], max_tokens: int = MAX_TOKENS) -> list[list[int]]:
    """Rows in pieces of similar length, the shortest first: so little is padded, which costs as much as what is heard.

    Args:
        lengths: of each row, in tokens.
        max_tokens: of a piece, padding included; a longer row is a piece of its own.
    """
    pieces: list[list[int]] = []
    for at in sorted(range(len(lengths)), key=lambda at: lengths[at]):
        last = pieces[-1] if pieces else []
        fits = len(last) < MAX_ROWS and (len(last) + 1) * lengths[at] <= max_tokens
        if not last or not fits or lengths[at] > MAX_LENGTH_RATIO * lengths[last[0]]:
            pieces.append([])
        pieces[-1].append(at)
    return pieces
