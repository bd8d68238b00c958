"""Which words and letters an instruction has, whatever their order.

They tell requests that no task serves from others, and where one task is asked for alone, which that is: word statistics know
words that the encoder's tokens lose (docs/predictor.md compares them).

Each run of three to five letters of a word, each word and each two neighbouring words counts for or against, as in
logistic regression; what falls into one bucket of the hash counts together (Weinberger et al. 2009). scikit-learn's
HashingVectorizer does this, too, but takes a second to import, which an instruction is not to wait for.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .encoder import Encoder
from .material import bare

BUCKETS = 2**15
RUNS = (3, 4, 5)


@dataclass(frozen=True)
class Letters:
    """The buckets of some texts, one text behind the other.

    Attributes:
        buckets: of each piece of each text.
        starts: where each text's begin.
        weights: of each piece, such that their squares add up to 1 in each text.
    """

    buckets: Int[Tensor, " piece"]
    starts: Int[Tensor, " row"]
    weights: Float[Tensor, " piece"]


def _pieces(text: str) -> Iterator[bytes]:
    words = bare(text).split()
    for word in words:
        framed = f" {word} "
        whole = framed.encode()
        letters = list(framed) if len(whole) != len(framed) else None  # a letter is a byte in most words
        yield whole
        for count in RUNS:
            for at in range(len(framed) - count + 1):
                yield whole[at : at + count] if letters is None else "".join(letters[at : at + count]).encode()
    yield from (f"{one} {other}".encode() for one, other in pairwise(words))


@lru_cache(maxsize=20_000)
def _buckets(text: str) -> tuple[int, ...]:
    return tuple(sorted({zlib.crc32(piece) % BUCKETS for piece in _pieces(text)})) or (0,)


def letters(texts: Sequence[str]) -> Letters:
    """The buckets of some texts, each once a text."""
    found = [_buckets(text) for text in texts]
    counts = torch.tensor([len(each) for each in found])
    return Letters(
        torch.tensor([bucket for each in found for bucket in each]),
        counts.cumsum(0) - counts,
        counts.float().rsqrt().repeat_interleave(counts),
    )


def read_in(encoder: Encoder, texts: Sequence[str]) -> tuple[Tensor, Tensor, Letters]:
    """What the network is given of some texts."""
    return (*encoder.tokens(texts), letters(texts))


class LetterScore(nn.Module):
    """How much the letters speak for there being no task that serves.

    Args:
        dropout: while training: share of pieces that do not count.
    """

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(BUCKETS, 1, mode="sum")
        nn.init.zeros_(self.table.weight)
        self.dropout = nn.Dropout(dropout)

    def forward(self, given: Letters) -> Float[Tensor, " row"]:
        """Log-odds."""
        return self.table(given.buckets, given.starts, per_sample_weights=self.dropout(given.weights))[:, 0]


class LetterTasks(nn.Module):
    """Which task the letters speak for, of a request for one task: logistic regression beside the network.

    Args:
        parts: how many tasks there are to choose from.
        dropout: while training: share of pieces that do not count.
    """

    def __init__(self, parts: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(BUCKETS, parts, mode="sum")
        nn.init.zeros_(self.table.weight)
        self.dropout = nn.Dropout(dropout)

    def forward(self, given: Letters) -> Float[Tensor, "row task"]:
        """Log-odds, up to a number that all of a row share."""
        return self.table(given.buckets, given.starts, per_sample_weights=self.dropout(given.weights))
