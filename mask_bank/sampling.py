"""From mask logits to sampled gates: relaxed Bernoulli noise and the straight-through gradient.

A head is sampled on where `logit + noise > 0`, so the noise's distribution decides how often: with "logistic" noise with
probability σ(logit), the binary Concrete distribution (Maddison et al. 2017; Jang et al. 2017); with "gumbel" noise, which
the AHAMask authors draw, with probability exp(-exp(-logit)), which is 0.368 at a logit of 0. All functions work on any
shape: noise of shape (row, layer, head) over logits of shape (layer, head) gives every row of a batch its own gates.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

NoiseKind = Literal["logistic", "gumbel"]


def draw_noise(
    shape: tuple[int, ...], kind: NoiseKind, generator: torch.Generator, device: torch.device | str = "cpu"
) -> Float[Tensor, "..."]:
    """Draw the noise that makes gates random.

    Args:
        shape: of the noise, such as (row, layer, head).
        kind: "logistic", the difference of two Gumbels, which has no bias; or "gumbel", the log of an Exp(1) sample (a
            left-tailed Gumbel) as in the released code of AHAMask.
        generator: the source of randomness. Noise is drawn on its device, so that a CPU generator gives the same noise to
            every kind of device.
        device: where the noise goes.
    """
    noise = torch.empty(shape, device=generator.device)
    if kind == "gumbel":
        noise.exponential_(generator=generator).log_()
    else:
        noise.uniform_(generator=generator).logit_(eps=1e-7)  # a uniform sample may be 0, whose logit is -inf
    return noise.to(device)


def relaxed(logits: Float[Tensor, "..."], noise: Float[Tensor, "..."], tau: float) -> Float[Tensor, "..."]:
    """Soft gates between 0 and 1: S = σ((M + G) / τ) (AHAMask, section 3)."""
    return torch.sigmoid((logits + noise) / tau)


def straight_through(soft: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """Hard gates, exactly 1 where a soft gate is above 0.5 and else 0, with the gradient of the soft ones.

    When sampling, 0.5 itself is off, as in the authors' code; a trained mask's threshold, which is on from 0.5
    (`logit >= 0`), is `mask.threshold`.
    """
    hard = (soft > 0.5).to(soft.dtype)
    return hard + (soft - soft.detach())
