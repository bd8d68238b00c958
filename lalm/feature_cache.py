"""Features on disk, under a hash of everything that they depend on: sound, weights, settings and code.

So a second training, another mask, a prompt, or the same clip in another manifest encodes nothing again.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float, Float32
from safetensors import SafetensorError
from torch import Tensor

from ..data.audio import hash_wave
from ..data.cache import DiskCache, cache_bytes, cache_folder
from .batching import AudioFeatures
from .prompting import PromptedModel
from .source_hash import hash_source

POINTER = b"amask-features "  # what a file begins with that says under which key the features are


class FeatureCache:
    """Features of clips, each encoded alone, so that its features are the same to the bit whenever they are made.

    Args:
        model: the one that encodes.
    """

    def __init__(self, model: PromptedModel) -> None:
        self.model = model
        self._source = hash_source(model)
        self._disk = DiskCache(cache_folder() / "features", cache_bytes())

    def _key(self, sound: str) -> str:
        return hashlib.sha256(f"{self._source} {sound}".encode()).hexdigest()[:32]

    def __contains__(self, sound: str) -> bool:
        """Whether features are there for a clip, by what tells its sound apart."""
        return self._key(sound) in self._disk

    def find(self, sound: str) -> Float[Tensor, "position width"] | None:
        """A clip's features on the CPU; None where there are none."""
        stored = self._disk.get(self._key(sound))
        if stored is not None and stored.startswith(POINTER):
            stored = self._disk.get(stored.removeprefix(POINTER).decode())
        try:
            return None if stored is None else safetensors.torch.load(stored)["embeds"]
        except (SafetensorError, KeyError):
            return None

    def encode(self, wave: Float32[np.ndarray, " time"], sound: str = "") -> Float[Tensor, "position width"]:
        """A clip's features on the CPU, from the disk or encoded and kept there, under its samples.

        Args:
            wave: its samples.
            sound: what tells it apart before it is read, under which it can be found next time.
        """
        samples = self._key(hash_wave(wave))
        row = self.find(hash_wave(wave))
        if row is None:
            features = self.model.encode([wave])
            row = features.embeds[0, : int(features.lengths[0])].cpu().contiguous()
            self._disk.put(samples, safetensors.torch.save({"embeds": row}))
        if sound:
            self._disk.put(self._key(sound), POINTER + samples.encode())
        return row

    def encode_all(self, waves: Sequence[Float32[np.ndarray, " _"]]) -> AudioFeatures:
        """Features of clips that are given as samples: those on disk, and the others encoded."""
        return stack_rows([self.encode(wave) for wave in waves], self.model.device)


def stack_rows(rows: Sequence[Float[Tensor, "_ width"]], device: torch.device) -> AudioFeatures:
    """Features of several clips as one batch."""
    embeds = rows[0].new_zeros(len(rows), max(map(len, rows)), rows[0].shape[-1])
    for place, row in zip(embeds, rows, strict=True):
        place[: len(row)] = row
    return AudioFeatures(embeds.to(device), torch.tensor([len(row) for row in rows]))
