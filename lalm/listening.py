"""Many clips through the encoder: in batches, once, and kept for every mask and prompt that follows."""

from collections.abc import Callable, Sequence

import torch

from ..data.manifest import Manifest
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


def listen(model: LALM, manifest: Manifest, batch: int = 32, tell: Callable[[int], None] | None = None) -> AudioFeatures:
    """Encode the clips of a manifest; the only place where clips become what a model hears.

    Args:
        model: whose ears; its rate, channels and longest clip count.
        manifest: the clips.
        batch: clips at once.
        tell: called with the number of clips done.

    Raises:
        AudioError: a clip cannot be read or is too long for the model.
    """
    clips = list(manifest)
    pieces = []
    for start in range(0, len(clips), batch):
        some = clips[start : start + batch]
        waves = [manifest.wave(clip, model.rate, longest=model.longest, channels=model.channels) for clip in some]
        pieces.append(model.encode(waves))
        if tell:
            tell(start + len(some))
    return join_features(pieces)
