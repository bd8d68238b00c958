"""Controls: masks that should *not* do a task, so that a mask's score means something."""

import torch

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
