"""The audio encoder: Whisper's weights in Qwen2-Audio's class, and its forward over clips cut to their length."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import WhisperFeatureExtractor, WhisperModel
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder

from ...data.silence import cut_silence
from ...errors import ModelError
from ...lalm.qwen2_audio import hidden_states, pool
from ..architecture import MARGIN
from ..corpus.synthesis import RATE


def start_encoder(tower: Qwen2AudioEncoder, name: str) -> None:
    """Give the encoder the weights of a Whisper model of the same sizes; of its positions the first that the window has.

    Raises:
        ModelError: it cannot be loaded, or its sizes are others.
    """
    try:
        state = WhisperModel.from_pretrained(name).encoder.state_dict()
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"cannot load the encoder {name!r}: {reason}; give a Hub id or a folder of a Whisper model") from None
    state["embed_positions.weight"] = state["embed_positions.weight"][: tower.config.max_source_positions]
    own = {key: value.shape for key, value in tower.state_dict().items()}
    if own != {key: value.shape for key, value in state.items()}:
        raise ModelError(f"encoder {name!r} has other sizes than architecture.py says; expected those of whisper-tiny.en")
    tower.load_state_dict(state)


def log_mels(
    paths: Sequence[Path], extractor: WhisperFeatureExtractor
) -> tuple[Float[Tensor, "row frame mel"], Int[Tensor, " row"]]:
    """Log-mels of some files as the model hears them: silence cut, padded to the longest; and their frames of 10 ms."""
    waves = [cut_silence(soundfile.read(path, dtype="float32")[0], RATE, MARGIN) for path in paths]
    made = extractor(waves, sampling_rate=RATE, padding="longest", return_tensors="pt", return_attention_mask=True)
    return made["input_features"].transpose(1, 2), made["attention_mask"].sum(-1)


def output_lengths(frames: Int[Tensor, " row"]) -> tuple[Int[Tensor, " row"], Int[Tensor, " row"]]:
    """Lengths after the second convolution (50 Hz) and after pooling (25 Hz)."""
    after_conv = (frames - 1) // 2 + 1
    return after_conv, (after_conv - 2) // 2 + 1


def within(lengths: Int[Tensor, " row"], longest: int) -> Tensor:
    """Which positions belong to a row: (row, position)."""
    return torch.arange(longest)[None] < lengths[:, None]


def encode(
    tower: Qwen2AudioEncoder, mels: Float[Tensor, "row frame mel"], lengths: Int[Tensor, " row"]
) -> tuple[Float[Tensor, "row position width"], Float[Tensor, "row pooled width"]]:
    """What the heads hear: the encoder's last states before pooling, normalised as its output is, and that output."""
    hidden = hidden_states(tower, mels.mT, lengths)
    return tower.layer_norm(hidden), pool(tower, hidden)


@torch.no_grad()
def features(tower: Qwen2AudioEncoder, paths: Sequence[Path], extractor: WhisperFeatureExtractor) -> list[np.ndarray]:
    """The final features of some files, at 25 Hz: (position, width) each."""
    mels, frames = log_mels(paths, extractor)
    _, pooled = encode(tower, mels, frames)
    return [row[:length].numpy() for row, length in zip(pooled, output_lengths(frames)[1].tolist(), strict=True)]
