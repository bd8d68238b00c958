"""Many clips through the encoder: in batches, once, and kept for every mask and prompt that follows."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from .assembly import AudioFeatures
from .base import LALM


def join_features(pieces: Sequence[AudioFeatures]) -> AudioFeatures:
    """Rows of several encodings as one, padded to the longest."""
    longest = max(int(piece.lengths.max()) for piece in pieces)
    lengths = torch.cat([piece.lengths for piece in pieces])
    width = pieces[0].embeds.shape[-1]
    embeds = pieces[0].embeds.new_zeros(len(lengths), longest, width)
    at = 0
    for piece in pieces:
        embeds[at : at + len(piece), : piece.embeds.shape[1]] = piece.embeds[:, :longest]
        at += len(piece)
    return AudioFeatures(embeds, lengths)


def listen(
    model: LALM, paths: Sequence[Path], read: Callable[[Path], object], batch: int = 32, tell: Callable[[int], None] | None = None
) -> AudioFeatures:
    """Encode audio files.

    Args:
        model: whose ears.
        paths: the files.
        read: path → waveform at the model's rate; decides what to do with clips that are too long.
        batch: clips at once.
        tell: called with the number of clips done.
    """
    pieces = []
    for start in range(0, len(paths), batch):
        pieces.append(model.encode([read(path) for path in paths[start : start + batch]]))
        if tell:
            tell(min(start + batch, len(paths)))
    return join_features(pieces)
