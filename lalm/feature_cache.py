"""Features on disk, under a hash of everything that they depend on: sound, weights, settings and code.

So a second training, another mask, a prompt, or the same clip in another manifest encodes nothing again.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import transformers
from jaxtyping import Float, Float32
from safetensors import SafetensorError
from torch import Tensor, nn

from ..data.audio import hash_wave
from ..data.cache import DiskCache, cache_bytes, cache_folder
from .base import LALM
from .batching import AudioFeatures

SAMPLES = 1024  # values of each weight that tell models apart
JSON_TYPES = (str, int, float, bool, type(None))


class FeatureCache:
    """Features of clips, each encoded alone, so that its features are the same to the bit whenever they are made.

    Args:
        model: the one that encodes.
    """

    def __init__(self, model: LALM) -> None:
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
        try:
            return None if stored is None else safetensors.torch.load(stored)["embeds"]
        except (SafetensorError, KeyError):
            return None

    def encode(self, wave: Float32[np.ndarray, " time"], sound: str) -> Float[Tensor, "position width"]:
        """Encode a clip, keep its features, and give them on the CPU."""
        features = self.model.encode([wave])
        row = features.embeds[0, : int(features.lengths[0])].cpu().contiguous()
        self._disk.put(self._key(sound), safetensors.torch.save({"embeds": row}))
        return row

    def encode_all(self, waves: Sequence[Float32[np.ndarray, " _"]]) -> AudioFeatures:
        """Features of clips that are given as samples: those on disk, and the others encoded."""
        rows = []
        for wave in waves:
            sound = hash_wave(wave)
            found = self.find(sound)
            rows.append(self.encode(wave, sound) if found is None else found)
        return stack_rows(rows, self.model.device)


def stack_rows(rows: Sequence[Float[Tensor, "_ width"]], device: torch.device) -> AudioFeatures:
    """Features of several clips as one batch."""
    embeds = rows[0].new_zeros(len(rows), max(map(len, rows)), rows[0].shape[-1])
    for place, row in zip(embeds, rows, strict=True):
        place[: len(row)] = row
    return AudioFeatures(embeds.to(device), torch.tensor([len(row) for row in rows]))


@cache
def _hash_code() -> str:
    """Of the code that turns sound into features, and the versions of the libraries that it leans on most."""
    hashed = hashlib.sha256(f"{torch.__version__} {transformers.__version__} {np.__version__}".encode())
    here = Path(__file__).resolve().parent
    for path in sorted([*here.rglob("*.py"), *(here.parent / "data").glob("*.py")]):
        hashed.update(path.read_bytes())
    return hashed.hexdigest()


def _settings(thing: object) -> dict[str, object]:
    """The plain settings of a model and of its parts, and those of its processor; not its name, which may be a folder."""
    found: dict[str, object] = {}
    for key, value in vars(thing).items():
        if isinstance(value, JSON_TYPES) and key != "name":
            found[key] = value
        elif callable(getattr(value, "to_json_string", None)):
            found[key] = value.to_json_string()
        elif isinstance(value, nn.Module) and isinstance(thing, LALM):
            found[key] = _settings(value)
    return found


def hash_source(model: LALM) -> str:
    """Hash of all that turns samples into features: weights, settings, precision, kind of device, code.

    Other than the fingerprint, which masks go by, it need not be the same tomorrow, but must never be the same for features
    that differ.
    """
    facts = [_hash_code(), model.rate, model.device.type, str(model.template), _settings(model)]
    hashed = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for module in [value for value in vars(model).values() if isinstance(value, nn.Module)]:
        for name, tensor in module.state_dict().items():
            hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            if tensor.numel() and not tensor.is_meta:
                step = max(1, tensor.numel() // SAMPLES) | 1  # odd, so that it does not run along a column
                some = tensor.detach().flatten()[::step].cpu().contiguous()
                hashed.update(some.view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()
