"""What the network's pointer is to learn: which token asks for which task, and where each part is spoken of.

Requests that were put together from phrases tell it exactly; of whole ones only how many parts there are is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .example import Example
from .intent import SLOTS, UNSUPPORTED
from .network import PointerOutput

UNKNOWN = -100


@dataclass(frozen=True)
class PointerTargets:
    """What is right for some requests.

    Attributes:
        token: the task that each token asks for, or none; `UNKNOWN` where unlabelled.
        where: the places that each part may be spoken of at, nowhere before the first token; none where unlabelled.
    """

    token: Int[Tensor, "row token"]
    where: Bool[Tensor, "row slot place"]

    def loss(self, pointer: PointerOutput) -> Float[Tensor, ""]:
        """Cross-entropy of tokens and of places, each the mean over those that are known."""
        token = nn.functional.cross_entropy(
            pointer.token.flatten(0, 1), self.token.flatten(), ignore_index=UNKNOWN, reduction="sum"
        )
        known = self.where.any(-1)
        where = -pointer.position_logp.masked_fill(~self.where, -1e4).logsumexp(-1)[known].sum()
        return token / (self.token != UNKNOWN).sum().clamp(min=1) + where / known.sum().clamp(min=1)


def pointer_targets(
    examples: Sequence[Example], offsets: Sequence[Sequence[tuple[int, int]]], tokens: int, tasks: Sequence[str]
) -> PointerTargets:
    """The targets of some requests.

    Args:
        examples: the requests.
        offsets: where each of their tokens begins and ends, in letters.
        tokens: how many tokens the longest has.
        tasks: names of the tasks, in the network's order.
    """
    token = torch.full((len(examples), tokens), UNKNOWN)
    where = torch.zeros(len(examples), SLOTS, tokens + 1, dtype=torch.bool)
    for row, (example, places) in enumerate(zip(examples, offsets, strict=True)):
        if example.fully_labelled or example.intent != UNSUPPORTED:
            where[row, len(example.span_tasks) :, 0] = True
        if not example.fully_labelled:
            continue
        for at, (start, end) in enumerate(places[:tokens]):
            within = [
                slot for slot, (first, last) in enumerate(example.part_spans) if first < end and start < last and start < end
            ]
            task = example.span_tasks[within[0]] if within else None
            token[row, at] = len(tasks) if task is None else tasks.index(task)
            for slot in within:
                where[row, slot, at + 1] = True
    return PointerTargets(token, where)
