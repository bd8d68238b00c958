"""Controls: masks that should *not* do a task, so that a mask's score means something."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..lalm.gating import Geometry
from ..mask_bank.mask import HeadMask


def random_like(mask: HeadMask, seed: int) -> HeadMask:
    """A random mask with as many heads on in each layer as a mask has; the same for the same seed.

    It has no task of its own; its lineage names the seed and the mask it was made like.
    """
    noise = torch.rand(mask.geometry.shape, generator=torch.Generator().manual_seed(seed))
    noise[~mask.geometry.present] = 2.0  # absent heads come last, where no layer's count reaches
    rank = noise.argsort(dim=1, stable=True).argsort(dim=1)
    bits = rank < mask.bits.cpu().sum(dim=1, keepdim=True)
    lineage = {"operation": "random", "seed": seed, "parents": [mask.reference()]}
    return mask.with_(bits=bits, logits=None, task=None, lineage=lineage, scores={})


def random_order(geometry: Geometry, seed: int) -> Float[Tensor, "layer head"]:
    """A random key a head, to switch heads on in order of; heads that no mask may switch come last. The same for a seed."""
    keys = torch.rand(geometry.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return keys.masked_fill(~geometry.switchable, -1.0)
