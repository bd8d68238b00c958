"""The masks that expressions stand for: by bits, by logits, and weighted sums of logits."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import AmaskError, MaskError
from ..mask_bank.mask import HeadMask
from .expression import And, AtLeast, Expression, Name, Not, Or, Xor, names_in, to_text

Lookup = Callable[[str], HeadMask]

BINARY_LOGIT = 4.0  # where logits start in training: on is +4, off -4 for a mask that has bits only


def look_up(expression: Expression, lookup: Lookup) -> dict[str, HeadMask]:
    """Name → mask for each name of an expression, in order; an error about one tells its column."""
    found: dict[str, HeadMask] = {}
    for leaf in names_in(expression):
        try:
            mask = lookup(leaf.name)
            mask.require(next(iter(found.values()), mask), leaf.name)
        except AmaskError as error:
            if leaf.span:
                error.args = (f"{error} (at {leaf.span})",)
            raise
        found[leaf.name] = mask
    return found


def _evaluate_bits(expression: Expression, bits: Mapping[str, Bool[Tensor, "layer head"]]) -> Bool[Tensor, "layer head"]:
    """Where an expression is true, by counting its operands that are."""
    if isinstance(expression, Name):
        return bits[expression.name]
    parts = torch.stack([_evaluate_bits(part, bits) for part in expression.parts])
    match expression:
        case Not():
            return ~parts[0]
        case And():
            return parts.all(0)
        case Or():
            return parts.any(0)
        case Xor():
            return parts.sum(0) % 2 == 1
        case AtLeast(count=count):
            return parts.sum(0) >= count
    raise AssertionError(expression)


def _negate(logits: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Logits of the opposite: -x, but just below 0 where x is 0, since 0 counts as on."""
    return torch.where(logits == 0, -torch.finfo(logits.dtype).tiny, -logits)


def _fuzzy_logits(expression: Expression, logits: Mapping[str, Float[Tensor, "layer head"]]) -> Float[Tensor, "layer head"]:
    """An expression's logits; at least 0 wherever `_on` is true of the logits' bits."""
    if isinstance(expression, Name):
        return logits[expression.name]
    parts = torch.stack([_fuzzy_logits(part, logits) for part in expression.parts])
    match expression:
        case Not():
            return _negate(parts[0])
        case And():
            return parts.amin(0)
        case Or():
            return parts.amax(0)
        case Xor():
            smallest = parts.abs().amin(0)
            return torch.where((parts >= 0).sum(0) % 2 == 1, smallest, _negate(smallest))
        case AtLeast(count=count):
            return parts.topk(count, dim=0).values[-1]
    raise AssertionError(expression)


def logits_of(mask: HeadMask) -> Float[Tensor, "layer head"]:
    """A mask's logits, or ±`BINARY_LOGIT` by its bits where it has none."""
    return mask.logits if mask.logits is not None else (2 * mask.gates - 1) * BINARY_LOGIT


def _composed(masks: Sequence[HeadMask], bits: Bool[Tensor, "layer head"], operation: str, **about: object) -> HeadMask:
    """A mask of the model of some masks, which its lineage names."""
    lineage = {"operation": operation, **about, "parents": [mask.reference() for mask in masks]}
    identity = masks[0].identity
    return HeadMask(identity.geometry.allowed(bits), identity, lineage=lineage)


def evaluate(expression: Expression, lookup: Lookup) -> HeadMask:
    """The mask that an expression stands for, by the bits of its masks; a name alone is that mask as it is.

    Args:
        expression: e.g. `parse("gr AND asr")`.
        lookup: name → mask; called once for each name. Its `AmaskError`s gain the name's column.

    Raises:
        MaskError: masks of different models meet.
    """
    masks = look_up(expression, lookup)
    if isinstance(expression, Name):
        return masks[expression.name]
    bits = _evaluate_bits(expression, {name: mask.bits for name, mask in masks.items()})
    return _composed(list(masks.values()), bits, "expression", expression=to_text(expression))


def evaluate_logits(expression: Expression, lookup: Lookup) -> HeadMask:
    """Like `evaluate`, with logits: how sure the masks are of each head, and the same heads on.

    AND is the smallest logit, OR the largest, NOT the opposite, `k OF` the k-th largest, and XOR the smallest in size, above
    0 where an odd number is on (fuzzy logic after Zadeh, around 0). A mask without logits counts as ±`BINARY_LOGIT`.

    Raises:
        MaskError: masks of different models meet.
    """
    masks = look_up(expression, lookup)
    logits = _fuzzy_logits(expression, {name: logits_of(mask).float() for name, mask in masks.items()})
    mask = evaluate(expression, masks.__getitem__)
    return mask.with_(logits=logits)


def sum_logits(masks: Sequence[HeadMask], weights: Sequence[float] | None = None) -> HeadMask:
    """The mask of a weighted sum of logits: a head is on where the masks, by how sure they are of it, say so.

    Args:
        masks: of one model; one without logits counts as ±`BINARY_LOGIT`.
        weights: one a mask; None is the mean, which has the same heads on as the plain sum but a single mask's scale.

    Raises:
        MaskError: there is no mask, not one weight a mask, or masks of different models meet.
    """
    shares = [1 / max(1, len(masks))] * len(masks) if weights is None else list(weights)
    if not masks or len(shares) != len(masks):
        raise MaskError(f"a sum of logits takes one weight for each mask; got {len(masks)} masks and {len(shares)} weights")
    for mask in masks[1:]:
        mask.require(masks[0])
    logits = torch.stack([logits_of(mask).float() for mask in masks])
    total = logits.mean(0) if weights is None else torch.tensordot(torch.tensor(shares), logits, dims=1)
    mask = _composed(masks, total >= 0, "sum of logits", weights=shares)
    return mask.with_(logits=total)
