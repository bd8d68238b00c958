"""What was recorded, and what both kinds of tests do with it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.torch import load_file
from torch import Tensor


@dataclass
class Recorded:
    """The files of the golden set."""

    folder: Path

    def json(self, name: str) -> dict:
        return json.loads((self.folder / f"{name}.json").read_text())

    def tensors(self, name: str) -> dict[str, Tensor]:
        return load_file(self.folder / f"{name}.safetensors")


@dataclass
class Batch:
    """Clips that were encoded together, and all stages recorded of them."""

    clips: list[str]
    waves: list[np.ndarray]
    stages: dict[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.stages[name]


def read(recorded, model, clip):
    from amask.data.audio import read_audio

    path = recorded.folder / "wavs" / f"{clip}.wav"
    return model._pad_to_minimum(read_audio(path, model.rate, longest=model.longest, channels=model.channels))


def head_gates(model, weight_tensor):
    """Head gates (…, layer, head) of the authors' mask, whose last column a layer is the feed-forward's."""
    return weight_tensor.unflatten(-1, (len(model.geometry.heads), -1))[..., :-1]
