"""Word and letter n-grams of an instruction, whatever their order.

They tell requests that no task serves from others, and where one task is asked for alone, which that is: word statistics know
words that the encoder's tokens lose (docs/predictor.md compares them).

Each run of three to five letters of a word, each word and each two neighbouring words counts for or against, as in
logistic regression; what falls into one bucket of the hash counts together (Weinberger et al. 2009). scikit-learn's
HashingVectorizer does this, too, but takes a second to import, too slow for the request path.
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
from .resources import normalise

BUCKETS = 2**15
NGRAM_SIZES = (3, 4, 5)


@dataclass(frozen=True)
class NgramBags:
    """The buckets of some texts, one text behind the other.

    Attributes:
        buckets: of each piece of each text.
        starts: where each text's begin.
        weights: of each piece, such that their squares add up to 1 in each text.
    """

    buckets: Int[Tensor, " piece"]
    starts: Int[Tensor, " row"]
    weights: Float[Tensor, " piece"]


def _ngrams(text: str) -> Iterator[bytes]:
    words = normalise(text).split()
    for word in words:
        framed = f" {word} "
        whole = framed.encode()
        letters = list(framed) if len(whole) != len(framed) else None  # a letter is a byte in most words
        yield whole
        for count in NGRAM_SIZES:
            for at in range(len(framed) - count + 1):
                yield whole[at : at + count] if letters is None else "".join(letters[at : at + count]).encode()
    yield from (f"{one} {other}".encode() for one, other in pairwise(words))


@lru_cache(maxsize=20_000)
def _buckets(text: str) -> tuple[int, ...]:
    return tuple(sorted({zlib.crc32(piece) % BUCKETS for piece in _ngrams(text)})) or (0,)


def hash_ngrams(texts: Sequence[str]) -> NgramBags:
    """The buckets of some texts, each once a text."""
    found = [_buckets(text) for text in texts]
    counts = torch.tensor([len(each) for each in found])
    return NgramBags(
        torch.tensor([bucket for each in found for bucket in each]),
        counts.cumsum(0) - counts,
        counts.float().rsqrt().repeat_interleave(counts),
    )


def encode_batch(encoder: Encoder, texts: Sequence[str]) -> tuple[Tensor, Tensor, NgramBags]:
    """What the network is given of some texts."""
    return (*encoder.tokens(texts), hash_ngrams(texts))


class NgramRefusalHead(nn.Module):
    """Log-odds by the n-grams that no task serves.

    Args:
        dropout: while training: share of pieces that do not count.
    """

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(BUCKETS, 1, mode="sum")
        nn.init.zeros_(self.table.weight)
        self.dropout = nn.Dropout(dropout)

    def forward(self, given: NgramBags) -> Float[Tensor, " row"]:
        """Log-odds."""
        return self.table(given.buckets, given.starts, per_sample_weights=self.dropout(given.weights))[:, 0]


class NgramTaskHead(nn.Module):
    """Which task the n-grams say, of a request for one task: logistic regression beside the network.

    Args:
        parts: how many tasks there are to choose from.
        dropout: while training: share of pieces that do not count.
    """

    def __init__(self, parts: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(BUCKETS, parts, mode="sum")
        nn.init.zeros_(self.table.weight)
        self.dropout = nn.Dropout(dropout)

    def forward(self, given: NgramBags) -> Float[Tensor, "row task"]:
        """Log-odds, up to a number that all of a row share."""
        return self.table(given.buckets, given.starts, per_sample_weights=self.dropout(given.weights))
