"""Candidates for a composite: masks made of its parts' masks and of the bank's relatives, without any training."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from ..data.tasks import TaskSpec
from ..mask_bank.files import StoredMask
from ..mask_bank.mask import HeadMask
from .algebra import evaluate, sum_logits
from .expression import And, AtLeast, Expression, Name, Or, to_text

EMPHASIS_WEIGHT = 2.0  # weight of the part that a weighted sum prefers
MAX_PARTIAL_RELATIVES = 3  # composites of some of the parts, at most


@dataclass(frozen=True)
class Candidate:
    """A mask that may do a composite task.

    Attributes:
        name: how it came to be, such as `gr AND asr`, `logits 2 gr + asr` or the bank's `asr-gr@1`.
        mask: the mask.
    """

    name: str
    mask: HeadMask


def find_relatives(masks: Sequence[StoredMask], spec: TaskSpec, model: HeadMask) -> list[StoredMask]:
    """The composites of these parts among a bank's masks: those of all parts first, then by how many parts they lack.

    Of those the same task first, then same order, then same form. A composite of fewer parts does not do the task, but a
    training of it may start there.

    Args:
        masks: the bank's.
        spec: the composite.
        model: a mask of the model that they must be for.
    """
    own = [
        stored
        for stored in masks
        if stored.task is not None
        and len(stored.task.parts) > 1
        and set(stored.task.names) <= set(spec.names)
        and stored.identity.same(model.identity)
    ]

    def distance(stored: StoredMask) -> tuple[int, bool, bool, bool]:
        task = stored.task or spec
        order = [name for name in spec.names if name in task.names]
        near = list(task.names) == order, task.form == spec.form
        return len(spec.parts) - len(task.parts), not all(near), not near[0], not near[1]

    nearest = sorted(own, key=distance)
    whole = sum(len(stored.task.parts) == len(spec.parts) for stored in nearest if stored.task)
    return nearest[: whole + MAX_PARTIAL_RELATIVES]


def find_candidates(
    expression: Expression, parts: Mapping[str, HeadMask], relatives: Sequence[StoredMask] = ()
) -> tuple[Candidate, ...]:
    """All candidates, each set of heads once: under the first name that gives it.

    Args:
        expression: what the user wrote; it comes first.
        parts: mask by the name that the expression has for it, in the order of the answer.
        relatives: the bank's composites of the parts, or of some of them.
    """
    names = [Name(name) for name in parts]
    trees: list[Expression] = [expression, *names]
    if len(names) > 1:
        trees += [And(tuple(names)), Or(tuple(names))]
        trees += [AtLeast(count, tuple(names)) for count in range(len(names) - 1, 1, -1)]
    named = chain(
        (Candidate(stored.spec, stored) for stored in relatives),
        (Candidate(to_text(tree), evaluate(tree, parts.__getitem__)) for tree in trees),
        _sums(parts),
    )
    found: dict[bytes, Candidate] = {}
    for candidate in named:
        if candidate.mask.heads_on:
            found.setdefault(mask_key(candidate.mask), candidate)
    return tuple(found.values())


def _sums(parts: Mapping[str, HeadMask]) -> Iterator[Candidate]:
    """The sum of the parts' logits, and for each part the sum that counts it more."""
    if len(parts) < 2:
        return
    masks = list(parts.values())
    yield Candidate(f"logits {' + '.join(parts)}", sum_logits(masks))
    for preferred in parts:
        weights = [EMPHASIS_WEIGHT if name == preferred else 1.0 for name in parts]
        shown = " + ".join(f"{EMPHASIS_WEIGHT:g} {name}" if name == preferred else name for name in parts)
        yield Candidate(f"logits {shown}", sum_logits(masks, weights))


def mask_key(mask: HeadMask) -> bytes:
    """What tells two masks' heads apart."""
    return mask.bits.numpy().tobytes()
