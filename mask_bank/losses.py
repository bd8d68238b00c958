"""What a mask is trained by: the loss of each row of a batch under its gates."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..lalm.base import LALM
from ..lalm.batching import AudioFeatures
from ..lalm.constrained_decoding import Constraint
from ..lalm.scoring import token_losses
from .recipe import Recipe

FEW = 64  # tokens; where no more are allowed, a label is chosen


def row_losses(
    model: LALM,
    features: AudioFeatures,
    targets: Sequence[str],
    gates: Float[Tensor, "row layer head"],
    recipe: Recipe,
    constraints: Sequence[Constraint | None] = (),
    prompts: Sequence[str] = (),
) -> Float[Tensor, " row"]:
    """Loss of each row: weighed cross-entropy of its answer; for the share `held` of it, of what the constraint leaves open.

    Of the rest, the share `distillation` is how far the masked model is from the prompted one (`divergences`).

    Args:
        model: the frozen model.
        features: what is heard in each row's clip.
        targets: the right answers.
        gates: of each row; differentiable.
        recipe: the weights, and how far answers are held to the constraints.
        constraints: of each row's task; needed where answers are held to them.
        prompts: of each row; needed where something is distilled.
    """
    logits, ids, real = model.answered(features, targets, gates.to(model.device))
    found = logits.new_zeros(len(targets))
    if recipe.held < 1:
        weights = real.to(logits.dtype)
        weights[:, 0] *= recipe.first
        learned = (1 - recipe.distillation) * _focal(token_losses(logits, ids, real), weights, recipe.focal)
        if recipe.distillation > 0:
            with torch.no_grad():
                prompted, *_ = model.answered(features, targets, None, prompts)
            learned = learned + recipe.distillation * _focal(divergences(logits, prompted, real), weights, 0.0)
        found = (1 - recipe.held) * learned
    if recipe.held > 0:
        allowed = model.allowed_tokens(targets, constraints)
        choices = allowed.sum(2).to(logits.device)
        weights = real * (choices > 1) * torch.where(choices <= FEW, recipe.first, 1.0)
        found = found + recipe.held * _focal(token_losses(logits, ids, real, allowed), weights, recipe.focal)
    return found


def divergences(
    masked: Float[Tensor, "token vocabulary"], prompted: Float[Tensor, "token vocabulary"], real: Bool[Tensor, "row longest"]
) -> Float[Tensor, "row longest"]:
    """Kullback-Leibler divergence KL(prompted ‖ masked) at each place of some answers; 0 in padding.

    The prompted model teaches the masked one what else might have been said there, which a right answer does not (context
    distillation: Snell et al. 2022, Learning by distilling context, section 2).

    Args:
        masked: logits of all answers' tokens under the gates.
        prompted: logits of the same tokens by the whole model, prompted.
        real: where a row has them.
    """
    found = masked.new_zeros(real.shape)
    ours, taught = masked.log_softmax(-1), prompted.log_softmax(-1)
    found[real] = nn.functional.kl_div(ours, taught, reduction="none", log_target=True).sum(-1)
    return found


def _focal(losses: Float[Tensor, "row token"], weights: Float[Tensor, "row token"], focal: float) -> Float[Tensor, " row"]:
    sure = torch.exp(-losses.detach())
    # Not divided by the sum of focal weights: a row that is all but right should count little.
    return (weights * (1 - sure) ** focal * losses).sum(1) / weights.sum(1).clamp(min=1)
