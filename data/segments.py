"""Long clips in pieces that a model can hear, cut where it is quietest."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from numpy.lib.stride_tricks import sliding_window_view

from ..errors import AudioError
from .decoding import MIN_SECONDS

SEARCHED = 0.5  # share of a piece, from its end, in which the quietest place is looked for
PAUSE = 0.3  # seconds: what is quiet so long is a pause between words rather than a stop within one
STEP = 0.01  # seconds between places where a clip may be cut


@dataclass(frozen=True)
class Segment:
    """A piece of a clip.

    Attributes:
        start, end: seconds from the clip's beginning.
    """

    start: float
    end: float

    def of(self, wave: Float32[np.ndarray, " time"], rate: int) -> Float32[np.ndarray, " piece"]:
        """The piece of the clip that was cut, as a view."""
        return wave[round(self.start * rate) : round(self.end * rate)]


def split_at_pauses(wave: Float32[np.ndarray, " time"], rate: int, longest: float) -> list[Segment]:
    """Cut a clip into pieces one after the other, each at the quietest 0.3 s of the second half of what a model can hear.

    Args:
        wave: samples.
        rate: Hz.
        longest: seconds that a piece may last, at least 1.

    Returns:
        Pieces that together are the clip, without gap or overlap; one of a clip that is no longer than `longest`. None is
        shorter than 0.1 s, unless the clip is.

    Raises:
        AudioError: `longest` is below 1 s.
    """
    if longest < 1:
        raise AudioError(f"cannot cut into pieces of at most {longest} s; expected 1 s or more")
    most, cuts = int(longest * rate), [0]
    while len(wave) - cuts[-1] > most:
        latest = min(most, len(wave) - cuts[-1] - round(MIN_SECONDS * rate))
        earliest = round(most * (1 - SEARCHED))
        cuts.append(cuts[-1] + earliest + _quietest(wave[cuts[-1] :][earliest:latest], rate))
    cuts.append(len(wave))
    return [Segment(start / rate, end / rate) for start, end in zip(cuts, cuts[1:], strict=False)]


def _quietest(wave: Float32[np.ndarray, " time"], rate: int) -> int:
    """The sample in the middle of the quietest stretch; the last of several that are equally quiet."""
    step = max(round(STEP * rate), 1)
    power = np.square(wave[: len(wave) // step * step].reshape(-1, step)).mean(axis=1)
    stretch = round(PAUSE / STEP)
    quiet = sliding_window_view(power, stretch).mean(axis=1)
    last = len(quiet) - 1 - int(quiet[::-1].argmin())
    return (last + stretch // 2) * step
