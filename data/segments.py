"""Long clips in segments that a model can take, split at every pause, or at the quietest place where there is none."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from numpy.lib.stride_tricks import sliding_window_view

from ..errors import AudioError
from .silence import FLOOR_RANGE_DB, FRAME, MIN_RISE_DB, PEAK_RANK, levels

SEARCHED = 0.5  # share of a segment, from its end, in which the quietest place is looked for
PAUSE = 0.3  # seconds: what is quiet so long is a pause between words rather than a stop within one
STEP = 0.01  # seconds between places where a clip may be split
SHORTEST = 1.0  # seconds of a segment between pauses; less is a word, and a model loses its context
BACKGROUND = 10  # percentile of the levels that tells how loud the background is


@dataclass(frozen=True)
class Segment:
    """A part of a clip.

    Attributes:
        start, end: seconds from the clip's beginning.
    """

    start: float
    end: float

    def of(self, wave: Float32[np.ndarray, " time"], rate: int) -> Float32[np.ndarray, " segment"]:
        """The segment's samples, as a view of the clip's."""
        return wave[round(self.start * rate) : round(self.end * rate)]


def split_at_pauses(wave: Float32[np.ndarray, " time"], rate: int, longest: float, shortest: float = SHORTEST) -> list[Segment]:
    """Split a clip into segments one after the other: in the middle of every pause that leaves them long enough.

    A pause is 0.3 s or more between sounds that stay near the background's level. What is still too long is split at the
    quietest 0.3 s of the second half of what a model can take.

    Args:
        wave: samples.
        rate: Hz.
        longest: seconds that a segment may last, at least 1.
        shortest: seconds that a segment between two pauses lasts at least; at most a quarter of `longest` counts.

    Returns:
        Segments that together are the clip, without gap or overlap; one of a clip that is no longer than `longest`.

    Raises:
        AudioError: `longest` is below 1 s.
    """
    if longest < 1:
        raise AudioError(f"cannot split into segments of at most {longest} s; expected 1 s or more")
    most, least = int(longest * rate), round(min(shortest, longest / 4) * rate)
    if len(wave) <= most:
        return [Segment(0.0, len(wave) / rate)]
    cuts = [0]
    for middle in [*_pauses(wave, rate), len(wave)]:
        if middle < len(wave) and min(middle - cuts[-1], len(wave) - middle) < least:
            continue
        while middle - cuts[-1] > most:
            latest = min(most, middle - cuts[-1] - least)
            earliest = round(most * (1 - SEARCHED))
            cuts.append(cuts[-1] + earliest + _quietest(wave[cuts[-1] :][earliest:latest], rate))
        cuts.append(middle)
    return [Segment(start / rate, end / rate) for start, end in zip(cuts, cuts[1:], strict=False)]


def _pauses(wave: Float32[np.ndarray, " time"], rate: int) -> list[int]:
    """The samples in the middle of pauses that stand between two sounds."""
    level = levels(wave, rate)
    loudest = np.sort(level)[-PEAK_RANK - 1]
    threshold = np.clip(np.percentile(level, BACKGROUND) + MIN_RISE_DB, loudest - FLOOR_RANGE_DB[0], loudest - FLOOR_RANGE_DB[1])
    sounding = np.flatnonzero(level > threshold)
    gaps = np.flatnonzero(np.diff(sounding) > PAUSE / FRAME)
    return [int((sounding[at] + 1 + sounding[at + 1]) / 2 * int(FRAME * rate)) for at in gaps]


def _quietest(wave: Float32[np.ndarray, " time"], rate: int) -> int:
    """The sample in the middle of the quietest stretch; the last of several that are equally quiet."""
    step = max(round(STEP * rate), 1)
    power = np.square(wave[: len(wave) // step * step].reshape(-1, step)).mean(axis=1)
    stretch = min(round(PAUSE / STEP), len(power))  # where a model takes 1 s, less than a pause is searched
    quiet = sliding_window_view(power, stretch).mean(axis=1)
    last = len(quiet) - 1 - int(quiet[::-1].argmin())
    return (last + stretch // 2) * step
