"""Silence: how loud a clip is where, whether it is silent, and how to cut silence off its ends."""

import numpy as np
from jaxtyping import Bool, Float, Float32

FRAME = 0.02  # seconds
EDGE_FRAMES = 5  # frames that tell how loud the background is
PEAK_RANK = 5  # so many frames are louder than what counts as the loudest: a click is not sound, a word of a long clip is
MIN_RISE_DB = 8.0  # dB by which sound stands out of the background
FLOOR_RANGE_DB = (
    40.0,
    12.0,
)  # below the loudest: softer than the first is silence, louder than the second sound
SILENCE_DBFS = -60.0  # dBFS (of the mean square; full scale is 1.0): a clip no frame of which reaches it is silent


def levels(wave: Float32[np.ndarray, " time"], rate: int) -> Float[np.ndarray, " frame"]:
    """How loud each 20 ms are, in dBFS; the rest that fills no frame is left out."""
    frame = int(FRAME * rate)
    power = (wave[: len(wave) // frame * frame].reshape(-1, frame) ** 2).mean(1)
    return 10 * np.log10(power + 1e-12)


def is_silent(wave: Float32[np.ndarray, " time"], rate: int) -> bool:
    """Whether no 20 ms of a clip reach -60 dBFS: the noise of a recorder's electronics, or nothing at all."""
    return bool(levels(wave, rate).max(initial=-np.inf) < SILENCE_DBFS)


def cut_silence(wave: Float32[np.ndarray, " time"], rate: int, keep: float) -> Float32[np.ndarray, " kept"]:
    """Cut silence from both ends, but for some of it; noise that a clip begins or ends with is silence, too.

    Args:
        wave: samples.
        rate: Hz.
        keep: seconds of silence that are left at each end.

    Returns:
        What is between; all of it where nothing stands out.
    """
    frame, edge = int(FRAME * rate), round(keep * rate)
    level = levels(wave, rate)
    if len(level) <= EDGE_FRAMES:
        return wave
    before, behind = _stands_out(level), _stands_out(level[::-1])
    start, end = int(before.argmax()) * frame - edge, len(wave) - int(behind.argmax()) * frame + edge
    return wave[max(start, 0) : end]


def _stands_out(level: Float[np.ndarray, " frame"]) -> Bool[np.ndarray, " frame"]:
    """Which frames are louder than the background that the clip begins with; levels in dB."""
    loudest = np.sort(level)[-PEAK_RANK - 1]
    threshold = np.median(level[:EDGE_FRAMES]) + MIN_RISE_DB
    return level > np.clip(threshold, loudest - FLOOR_RANGE_DB[0], loudest - FLOOR_RANGE_DB[1])
