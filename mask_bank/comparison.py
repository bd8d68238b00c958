"""How alike some masks are: heads that they share, pair by pair and all together."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from ..errors import MaskError
from ..lalm.identity import Identity
from .ahamask_files import UNVOUCHED
from .mask import HeadMask


@dataclass(frozen=True)
class Pair:
    """Two masks.

    Attributes:
        masks: their names.
        jaccard: heads on in both over heads on in either; 1.0 for two empty masks.
        both: heads on in both.
        only_first, only_second: heads on in one and not in the other.
        neither: heads on in none.
    """

    masks: tuple[str, str]
    jaccard: float
    both: int
    only_first: int
    only_second: int
    neither: int


@dataclass(frozen=True)
class Region:
    """One field of a Venn diagram.

    Attributes:
        masks: names of some masks.
        heads: on in all of these and in no other.
    """

    masks: tuple[str, ...]
    heads: int


@dataclass(frozen=True)
class Comparison:
    """Some masks of one model.

    Attributes:
        masks: their names.
        heads_total: how many heads of the model a mask may switch; those of fixed layers count nowhere.
        heads_on: of each mask.
        heads_only: of each mask those that are on in no other.
        in_all, in_none: heads on in all of them, and in none.
        pairs: each two of them, in order.
        regions: the fields of their Venn diagram that hold a head, the largest first.
        layers: of each layer how many heads each mask has on.
    """

    masks: tuple[str, ...]
    heads_total: int
    heads_on: tuple[int, ...]
    heads_only: tuple[int, ...]
    in_all: int
    in_none: int
    pairs: tuple[Pair, ...]
    regions: tuple[Region, ...]
    layers: tuple[tuple[int, ...], ...]

    @property
    def jaccard(self) -> list[list[float]]:
        """The Jaccard index of each mask with each."""
        size = len(self.masks)
        matrix = [[1.0] * size for _ in range(size)]
        for (row, column), pair in zip(combinations(range(size), 2), self.pairs, strict=True):
            matrix[row][column] = matrix[column][row] = pair.jaccard
        return matrix

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self) | {"jaccard": self.jaccard}


def _comparable(one: Identity, other: Identity) -> bool:
    """Whether the heads of two masks are the same heads, as far as can be known.

    A mask that was imported without its model at hand is known to belong to a model of that name and geometry only.
    """
    if one.same(other):
        return True
    unsure = any(identity.fingerprint.startswith(UNVOUCHED) for identity in (one, other))
    return unsure and one.geometry == other.geometry and one.name == other.name


def compare(masks: Sequence[tuple[str, HeadMask]]) -> Comparison:
    """Compare two masks or more, given with their names.

    Raises:
        MaskError: there are fewer, or they are not of one model.
    """
    if len(masks) < 2:
        raise MaskError("one mask alone cannot be compared; name two or more")
    first = masks[0][1]
    for name, mask in masks[1:]:
        if not _comparable(mask.identity, first.identity):
            mask.require(first, name)
    bits = torch.stack([mask.bits for _, mask in masks]) & first.geometry.switchable
    counts = bits.sum(0)
    pairs = []
    for (one, a), (other, b) in combinations(zip([name for name, _ in masks], bits, strict=True), 2):
        both, either = int((a & b).sum()), int((a | b).sum())
        only = int(a.sum()) - both, int(b.sum()) - both
        pairs.append(Pair((one, other), round(both / either, 4) if either else 1.0, both, *only, first.heads_total - either))
    names = tuple(name for name, _ in masks)
    return Comparison(
        masks=names,
        heads_total=first.heads_total,
        heads_on=tuple(mask.heads_on for _, mask in masks),
        heads_only=tuple(int((each & (counts == 1)).sum()) for each in bits),
        in_all=int((counts == len(masks)).sum()),
        in_none=int(((counts == 0) & first.geometry.switchable).sum()),
        pairs=tuple(pairs),
        regions=_regions(names, bits),
        layers=tuple(map(tuple, bits.sum(2).T.tolist())),
    )


def _regions(names: Sequence[str], bits: Bool[Tensor, "mask layer head"]) -> tuple[Region, ...]:
    """Each combination of masks that some head is on in, and how many heads are."""
    counts = Counter(tuple(name for name, on in zip(names, head, strict=True) if on) for head in bits.flatten(1).T.tolist())
    return tuple(Region(some, heads) for some, heads in counts.most_common() if some)
