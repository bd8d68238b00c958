"""BEATs' input: Kaldi log-mel filter banks of a clip, and which patches of a batch are padding.

Formulas: Kaldi's `compute-fbank-feats` with a Povey window, and the normalisation of BEATs (Chen et al. 2022).
"""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64
from torch import Tensor

RATE = 16_000  # Hz
FRAME, HOP, POINTS = 400, 160, 512  # samples: 25 ms every 10 ms, and the length of the transform
BINS, LOWEST, HIGHEST = 128, 20.0, 8000.0  # Hz
PREEMPHASIS = 0.97
MEAN, DEVIATION = 15.41663, 6.55582  # of AudioSet's filter banks, as BEATs was trained with


@cache
def _filters() -> Float64[np.ndarray, "frequency bin"]:
    """Triangles on the mel scale, 1127 · ln(1 + f / 700).

    In single precision, as Kaldi and torchaudio have them: where a triangle begins at a frequency of the transform, double
    precision differs by some 1e-5 in the result.
    """
    low, high = (1127 * math.log(1 + hertz / 700) for hertz in (LOWEST, HIGHEST))
    step = (high - low) / (BINS + 1)
    at = np.arange(BINS, dtype=np.float32)
    left, center, right = ((at + later) * np.float32(step) + np.float32(low) for later in (0, 1, 2))
    ratio = 1 + np.float32(RATE / POINTS) * np.arange(POINTS // 2, dtype=np.float32) / np.float32(700)
    mel = (np.float32(1127) * np.log(ratio, dtype=np.float64).astype(np.float32))[:, None]
    triangles = np.minimum((mel - left) / (center - left), (right - mel) / (right - center)).clip(min=0)
    return np.pad(triangles, ((0, 1), (0, 0))).astype(np.float64)  # the highest frequency is in no filter


def fbank(wave: Float32[np.ndarray, " time"]) -> Float32[np.ndarray, "frame bin"]:
    """Normalised log-mel filter banks of a waveform (16 kHz, full scale 1.0), whole frames only."""
    frames = np.lib.stride_tricks.sliding_window_view(wave.astype(np.float64) * 2**15, FRAME)[::HOP]
    frames = frames - frames.mean(1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    windowed = (frames - PREEMPHASIS * before) * np.hanning(FRAME) ** 0.85
    power = np.abs(np.fft.rfft(windowed, POINTS)) ** 2
    logs = np.log(np.maximum(power @ _filters(), np.finfo(np.float32).eps))
    return ((logs - MEAN) / (2 * DEVIATION)).astype(np.float32)


def batch_fbanks(
    waves: Sequence[Float32[np.ndarray, " _"]], patch: int
) -> tuple[Float32[Tensor, "row frame bin"], Bool[Tensor, "row patch"]]:
    """Filter banks of several clips, each as if it were alone, and which patches lie behind a clip's last whole one.

    Args:
        waves: the clips.
        patch: frames and bins of a patch; patches run over the bins first.
    """
    banks = [fbank(wave) for wave in waves]
    stacked = torch.zeros(len(banks), max(map(len, banks)), BINS)
    for row, bank in zip(stacked, banks, strict=True):
        row[: len(bank)] = torch.from_numpy(bank)
    across = BINS // patch
    real = torch.tensor([len(bank) // patch * across for bank in banks])
    return stacked, torch.arange(stacked.shape[1] // patch * across)[None] >= real[:, None]


def batch_fbanks_like_authors(
    waves: Sequence[Float32[np.ndarray, " _"]], patch: int
) -> tuple[Float32[Tensor, "row frame bin"], Bool[Tensor, "row patch"]]:
    """As `batch_fbanks`, but of clips that were padded with zeros before, and with the masks of the released code."""
    longest = max(map(len, waves))
    banks = np.stack([fbank(np.pad(wave, (0, longest - len(wave)))) for wave in waves])
    samples = torch.arange(longest)[None] >= torch.tensor([len(wave) for wave in waves])[:, None]
    frames = reduce_padding(samples, banks.shape[1])
    return torch.from_numpy(banks), reduce_padding(frames, banks.shape[1] // patch * (BINS // patch))


def reduce_padding(padding: Bool[Tensor, "row fine"], pieces: int) -> Bool[Tensor, "row piece"]:
    """A padding mask of fewer, equally long pieces, which are padding where they are nothing else; a rest is cut off."""
    length = padding.shape[1] // pieces
    return padding[:, : length * pieces].unflatten(1, (pieces, length)).all(2)
