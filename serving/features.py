"""Segments to features: what training, evaluation or an earlier run has encoded is taken from the disk."""

from collections.abc import Sequence
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from ..data.manifest import Clip, Manifest
from ..lalm.base import LALM
from ..lalm.batching import AudioFeatures
from ..lalm.feature_cache import FeatureCache, stack_rows
from .clips import HeardClip


class SegmentEncoder:
    """Encodes segments for one model; features of whole files are looked up on disk and kept there, no others.

    Args:
        model: the model.
    """

    def __init__(self, model: LALM) -> None:
        self.model = model

    @cached_property
    def _cache(self) -> FeatureCache:
        return FeatureCache(self.model)

    def __call__(self, segments: Sequence[tuple[HeardClip, int]]) -> AudioFeatures:
        """Features of some segments, each given by its clip and its number in it."""
        keys = [self._key(clip) for clip, _ in segments]
        rows = [None if key is None else self._cache.find(key) for key in keys]
        alone = self.model.device.type == "cpu"  # there a batch is no faster, and what is encoded alone can be kept
        if alone:
            for at, ((clip, _), key) in enumerate(zip(segments, keys, strict=True)):
                if rows[at] is None and key is not None:
                    rows[at] = self._cache.encode(clip.segments[0], key)
        missing = [at for at, row in enumerate(rows) if row is None]
        encoded = self._encode([segments[at] for at in missing])
        for at, row in zip(missing, encoded, strict=True):
            rows[at] = row
        return stack_rows([row for row in rows if row is not None], self.model.device)

    def _encode(self, segments: Sequence[tuple[HeardClip, int]]) -> list[Float[Tensor, "position width"]]:
        if not segments:
            return []
        features = self.model.encode([clip.segments[at] for clip, at in segments])
        return [row[:length].cpu() for row, length in zip(features.embeds, features.lengths.tolist(), strict=True)]

    def _key(self, clip: HeardClip) -> str | None:
        """What tells a whole file's sound apart, as `ClipFeatures` has it; None for a segment, and for what is no file."""
        if clip.file is None or len(clip.segments) > 1 or not clip.file.is_file():
            return None
        try:
            digest = Manifest((), clip.file.parent).digest(Clip(path=clip.file.name))
        except ValueError:  # it cannot be read (AudioError), or its name is no text
            return None
        model = self.model
        return f"{digest} {model.rate} {model.longest} {model.channels} {clip.trimmed}"
