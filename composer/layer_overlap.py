"""What a composition is made of: in each layer the heads that its parts share, and those of one part alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..errors import MaskError
from ..mask_bank.mask import HeadMask


@dataclass(frozen=True)
class LayerOverlap:
    """Heads of one layer.

    Attributes:
        heads: how many the layer has.
        shared: on in all parts.
        only: of each part those that are on in no other part.
        composed: on in what was composed of them.
    """

    heads: int
    shared: int
    only: tuple[int, ...]
    composed: int


def layer_overlaps(parts: Sequence[HeadMask], composed: HeadMask) -> tuple[LayerOverlap, ...]:
    """Count the heads of each layer, first layer first.

    Raises:
        MaskError: there is no part, or the masks are of different models.
    """
    if not parts:
        raise MaskError("nothing to explain: got no parts; expected one mask or more")
    for part in parts:
        part.require(composed)
    bits = torch.stack([part.bits for part in parts]) & composed.geometry.switchable
    counts = bits.sum(0)
    shared = (counts == len(parts)).sum(1).tolist()
    only = (bits & (counts == 1)).sum(2).T.tolist()
    on = (composed.bits & composed.geometry.switchable).sum(1).tolist()
    return tuple(
        LayerOverlap(heads, both, tuple(alone), whole)
        for heads, both, alone, whole in zip(composed.geometry.heads, shared, only, on, strict=True)
    )
