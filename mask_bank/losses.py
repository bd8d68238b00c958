"""What a mask is trained by: the loss of each row of a batch under its gates."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..lalm.base import LALM
from ..lalm.batching import AudioFeatures
from ..lalm.constrained_decoding import Constraint
from .recipe import Recipe

SLOPE = 0.01  # of the margin loss, where an answer is far from right


FEW = 64  # tokens; where no more are allowed, a label is chosen


def row_losses(
    model: LALM,
    features: AudioFeatures,
    targets: Sequence[str],
    gates: Float[Tensor, "row layer head"],
    recipe: Recipe,
    constraints: Sequence[Constraint | None] = (),
) -> Float[Tensor, " row"]:
    """Loss of each row: of its margins where the recipe has a sharpness for them, else weighed cross-entropy.

    Args:
        model: the frozen model.
        features: what is heard in each row's clip.
        targets: the right answers.
        gates: of each row; differentiable.
        recipe: the weights, and whether answers are held to the constraints.
        constraints: of each row's task; needed where answers are held to them.
    """
    gates = gates.to(model.device)
    if recipe.margin:
        return margin_loss(model.token_margins(features, targets, gates)[0], recipe.margin)
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


def margin_loss(margins: Float[Tensor, "row token"], sharpness: float) -> Float[Tensor, " row"]:
    """A smooth form of "greedy search gives another answer": `1 − exp(−d) + d/100`, where `d = log(1 + Σ exp(−k·margin)) / k`.

    For a large k, d is how far the worst margin is below 0. What counts are the tokens that are not the likeliest, or only
    just, wherever they stand in the answer; a token that is far ahead counts no more. An answer that is far from right counts
    little, but never nothing, so that a mask can be learned where all answers are.

    Args:
        margins: of each token, as `LALM.token_margins` gives them; infinity where there is none.
        sharpness: k, in 1/nat.
    """
    behind = torch.cat([margins.new_zeros(len(margins), 1), -sharpness * margins], 1).logsumexp(1) / sharpness
    return 1 - torch.exp(-behind) + SLOPE * behind
