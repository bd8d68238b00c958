"""What a constraint leaves open while a given answer is said, so that masks are trained for the choices that are left to them."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Bool
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from .constrained_decoding import Constraint, ConstraintProcessor

CACHED_ANSWERS = 512  # an answer of 20 tokens over a vocabulary of 14 000 takes 280 kB


@lru_cache(maxsize=CACHED_ANSWERS)
def allowed_tokens(
    tokenizer: PreTrainedTokenizerBase, constraint: Constraint, answer: tuple[int, ...], width: int, ends: tuple[int, ...]
) -> Bool[Tensor, "token vocabulary"]:
    """Which tokens a constraint allows at each place of an answer, given the tokens before it.

    The answer's own tokens are always among them, also where the grammar spells it by others.

    Args:
        tokenizer: the model's.
        constraint: what the answer is held to.
        answer: token ids, its end included.
        width: of the vocabulary, as the model's logits have it.
        ends: the tokens that end an answer.
    """
    processor = ConstraintProcessor(tokenizer, [constraint], 0, len(answer) + 1, ends)
    said, scores = torch.tensor(answer)[None], torch.zeros(1, width)
    rows = [processor(said[:, :place], scores)[0] == 0 for place in range(len(answer))]
    found = torch.stack(rows)
    found[torch.arange(len(answer)), said[0]] = True
    return found


def allowed_by_row(
    tokenizer: PreTrainedTokenizerBase,
    constraints: Sequence[Constraint | None],
    answers: Sequence[Sequence[int]],
    width: int,
    ends: Sequence[int],
) -> Bool[Tensor, "row token vocabulary"]:
    """`allowed_tokens` of some answers, each held to its own constraint; all where there is none, and in the padding."""
    found = torch.ones(len(answers), max(map(len, answers)), width, dtype=torch.bool)
    for at, (constraint, answer) in enumerate(zip(constraints, answers, strict=True)):
        if constraint is not None:
            found[at, : len(answer)] = allowed_tokens(tokenizer, constraint, tuple(answer), width, tuple(ends))
    return found
