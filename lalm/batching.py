"""From pieces to a batch: text around audio, answers behind it, padding on either side."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class PromptTemplate:
    """The exact text around the audio.

    Attributes:
        before: from the start to the audio.
        after: behind the audio; holds `{}` where a prompt goes, empty for none.
        end: the token that ends an answer; empty for the tokenizer's end token.
    """

    before: str
    after: str
    end: str = ""


@dataclass(frozen=True)
class AudioFeatures:
    """Audio as the language model gets it: independent of masks and prompts, so encoded once and used often.

    Attributes:
        embeds: audio embeddings, padded on the right.
        lengths: how many of them each row has.
    """

    embeds: Float[Tensor, "row position width"]
    lengths: Int[Tensor, " row"]

    def __len__(self) -> int:
        return len(self.lengths)

    def rows(self, chosen: list[int]) -> "AudioFeatures":
        """Some rows, in the given order; a row may come more than once."""
        lengths = self.lengths[chosen]
        return AudioFeatures(self.embeds[chosen, : int(lengths.max())], lengths)

    def count(self, at: int) -> int:
        """How many embeddings a row has."""
        return int(self.lengths[at])

    def prefetch(self, chosen: Iterable[int]) -> None:
        """Nothing: all rows are in memory."""


def answer_spans(
    states: Float[Tensor, "row position width"], rows: Sequence[Tensor], answers: Sequence[Tensor]
) -> Float[Tensor, "token width"]:
    """What predicts each answer's tokens, one answer after the other.

    Args:
        states: of rows padded on the right.
        rows: prompt and answer of each, the answer's last token left out.
        answers: their tokens.
    """
    spans = zip(states, map(len, rows), map(len, answers), strict=True)
    return torch.cat([state[end - count : end] for state, end, count in spans])


def pad_rows(
    rows: list[Float[Tensor, "_ width"]], side: Literal["left", "right"]
) -> tuple[Float[Tensor, "row position width"], Int[Tensor, "row position"]]:
    """Stack rows of different lengths, padded with zeros; also the attention mask (1 = real)."""
    longest = max(len(row) for row in rows)
    embeds = rows[0].new_zeros(len(rows), longest, rows[0].shape[-1])
    mask = torch.zeros(len(rows), longest, dtype=torch.long, device=rows[0].device)
    for at, row in enumerate(rows):
        place = slice(longest - len(row), longest) if side == "left" else slice(0, len(row))
        embeds[at, place] = row
        mask[at, place] = 1
    return embeds, mask
