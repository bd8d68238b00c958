"""What a mask is trained by: the loss of each row of a batch under its gates."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..lalm.base import LALM
from ..lalm.batching import AudioFeatures
from ..lalm.constrained_decoding import Constraint
from .recipe import Recipe

FEW = 64  # tokens; where no more are allowed, a label is chosen


def row_losses(
    model: LALM,
    features: AudioFeatures,
    targets: Sequence[str],
    gates: Float[Tensor, "row layer head"],
    recipe: Recipe,
    constraints: Sequence[Constraint | None] = (),
) -> Float[Tensor, " row"]:
    """Loss of each row: weighed cross-entropy of its answer, of which only what its form leaves open where answers are held.

    Args:
        model: the frozen model.
        features: what is heard in each row's clip.
        targets: the right answers.
        gates: of each row; differentiable.
        recipe: the weights, and whether answers are held to the constraints.
        constraints: of each row's task; needed where answers are held to them.
    """
    gates = gates.to(model.device)
    allowed = model.allowed_tokens(targets, constraints) if recipe.held else None
    losses, real = model.token_losses(features, targets, gates, allowed=allowed)
    weights = real.to(losses.dtype)
    if allowed is None:
        weights[:, 0] *= recipe.first
    else:
        choices = allowed.sum(2).to(weights.device)
        weights = weights * (choices > 1) * torch.where(choices <= FEW, recipe.first, 1.0)
    sure = torch.exp(-losses.detach())
    # Not divided by the sum of focal weights: a row that is all but right should count little.
    return (weights * (1 - sure) ** recipe.focal * losses).sum(1) / weights.sum(1).clamp(min=1)
