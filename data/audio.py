"""Audio as arrays: one channel of samples at the model's rate, read from any common format or given by the caller."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soxr
from jaxtyping import Float32, Float64

from ..errors import AudioError
from .decoding import MIN_SECONDS, RATES, Decoded, check_samples, decode, open_source
from .headers import Stream
from .silence import SILENCE_DBFS, is_silent

MARGIN = 0.1  # seconds read beyond a cut, so that the resampler hears what follows
OPPOSITE = 0.1  # channels cancel if their mean has less than this of the power it would have were they unrelated
CLIPPED = 0.01  # share of samples that stay at full scale
MOST_CHANNELS = 8  # of an array: the axis that is no longer than this is the channels'
FULL_SCALE = {np.dtype(np.int16): 2.0**15, np.dtype(np.int32): 2.0**31}

Channels = Literal["mean", "first"]


@dataclass(frozen=True)
class LoadedAudio:
    """A clip as a model hears it, and what a user should know of it.

    Attributes:
        wave: the samples, full scale 1.0.
        seconds: how long they are.
        warnings: sentences without the clip's name: a header that is wrong about the data, channels that cancel each
            other, (almost) nothing but silence (no 20 ms reach -60 dBFS), clipped samples.
    """

    wave: Float32[np.ndarray, " time"]
    seconds: float
    warnings: tuple[str, ...] = ()


def read_audio(
    audio: Path | Stream, rate: int = 16000, *, longest: float | None = None, trim: bool = False, channels: Channels = "mean"
) -> Float32[np.ndarray, " time"]:
    """The samples alone of what `load_audio` reads.

    Raises:
        AudioError: as `load_audio`.
    """
    return load_audio(audio, rate, longest=longest, trim=trim, channels=channels).wave


def load_audio(
    audio: Path | Stream, rate: int = 16000, *, longest: float | None = None, trim: bool = False, channels: Channels = "mean"
) -> LoadedAudio:
    """Read audio as one channel at a given rate, and tell what is odd about it.

    Whatever libsndfile decodes is read: wav, flac, mp3, ogg (vorbis, opus), aiff, caf, w64 and others. Full scale is 1.0;
    float files that go beyond it are passed on as they are, up to 10.0. Digital silence is legal. The data decides how
    long a file is: a header that promises less than there is, or nothing, is corrected; a file that breaks off is refused.

    Args:
        audio: the file, or a binary stream such as `sys.stdin.buffer`, which is read to its end.
        rate: Hz of the result.
        longest: seconds that the model hears; None for no limit. No more than this is decoded, whatever the file's size.
        trim: use the first `longest` seconds of a longer file instead of refusing it.
        channels: "mean" averages the channels, unless they cancel each other: then it is the loudest; "first" takes the
            first and ignores the others.

    Returns:
        The samples, at most `longest` seconds of them where it is given, and warnings.

    Raises:
        AudioError: the file is missing, unreadable, no audio, damaged, broken off, too short, too long, or holds
            samples that are not finite or far beyond full scale.
    """
    most = None if longest is None else longest + MARGIN
    with open_source(audio) as source:
        decoded = decode(source, most, 0 if channels == "first" else None)
        _check_length(decoded, source.name, None if trim else longest, 1 / rate)
        warnings = [decoded.warning] if decoded.warning else []
        if _cancel(decoded.wave, decoded.power):
            loudest = int(decoded.power.argmax())
            decoded = decode(source, most, loudest)
            warnings.append(f"its channels cancel each other (opposite phase); channel {loudest + 1} is used alone")
    wave = decoded.wave
    held = (wave[1:] == wave[:-1]) & (np.abs(wave[1:]) > 0.99)
    if held.mean() > CLIPPED:
        warnings.append(f"it is clipped: {held.mean():.0%} of its samples stay at full scale")
    if decoded.rate != rate:
        wave = soxr.resample(wave, decoded.rate, rate)
    wave = wave if longest is None else wave[: round(longest * rate)]
    if is_silent(wave, rate):
        warnings.append(f"it is silent or almost so: nothing in it reaches {SILENCE_DBFS:.0f} dBFS")
    return LoadedAudio(wave, len(wave) / rate, tuple(warnings))


def check_wave(wave: object, rate: int, longest: float | None = None) -> Float32[np.ndarray, " time"]:
    """Check samples that a caller gives before a model hears them.

    Args:
        wave: one channel of floating-point samples, full scale 1.0; silence is legal. `to_mono_rate` makes such of others.
        rate: Hz of the samples, which an array does not tell.
        longest: seconds that the model hears; None for no limit.

    Returns:
        The samples in float32, as they are.

    Raises:
        AudioError: not an array, not one axis, not floating-point, empty, shorter than 0.1 s, longer than `longest`,
            not finite, or beyond ten times full scale.
    """
    array = _array(wave)
    scale = "'to_mono_rate' scales int16 and int32"
    if array.ndim != 1:
        raise AudioError(f"cannot hear an array of shape {array.shape}; expected one axis, time; 'to_mono_rate' mixes channels")
    if array.dtype.kind != "f":
        raise AudioError(f"cannot hear samples of type {array.dtype}; expected float, full scale 1.0; {scale}")
    seconds = len(array) / rate
    if seconds < MIN_SECONDS:
        raise AudioError(f"the clip is {_number(seconds)} s long; at least {MIN_SECONDS} s is needed; check its rate, {rate} Hz")
    if longest is not None and seconds > longest + 1 / rate:
        raise AudioError(f"the clip is {_number(seconds)} s long, the model hears at most {longest} s; cut it")
    array = _float32(array)
    check_samples(array, "the clip")
    return array


def to_mono_rate(wave: object, rate: int, target: int) -> Float32[np.ndarray, " time"]:
    """Make one channel of floating-point samples at a given rate of any array of sound.

    Args:
        wave: floating-point samples, full scale 1.0, or int16 or int32 ones; (time,), (time, channel) or
            (channel, time): the axis of at most eight entries is the channels'.
        rate: Hz of the samples.
        target: Hz of the result.

    Returns:
        The mean of the channels; where they cancel each other, the loudest.

    Raises:
        AudioError: not an array, no samples, another type, axes that do not tell which is time, a rate that no recording
            has, samples that are not finite or beyond ten times full scale.
    """
    array = _array(wave)
    for hertz in (rate, target):
        if hertz not in RATES:
            raise AudioError(f"cannot resample from {rate} to {target} Hz; expected {RATES[0]} to {RATES[-1]} Hz")
    if array.dtype.kind != "f" and array.dtype not in FULL_SCALE:
        raise AudioError(f"cannot hear samples of type {array.dtype}; expected float, full scale 1.0, int16 or int32")
    if not array.size:
        raise AudioError(f"cannot hear an array of shape {array.shape}: it has no samples")
    samples = _float32(_time_first(array))
    samples = samples / np.float32(FULL_SCALE.get(array.dtype, 1.0))
    check_samples(samples, "the clip")
    mono, power = samples.mean(axis=1), np.einsum("tc,tc->c", samples, samples, dtype=np.float64)
    mono = samples[:, int(power.argmax())] if _cancel(mono, power) else mono
    return mono if rate == target else soxr.resample(mono, rate, target)


def hash_wave(wave: Float32[np.ndarray, " time"]) -> str:
    """32 hex digits that tell samples apart: of the SHA-256 of their bytes as little-endian float32."""
    return hashlib.sha256(np.ascontiguousarray(wave, "<f4").tobytes()).hexdigest()[:32]


def _array(wave: object) -> np.ndarray:
    if not isinstance(wave, np.ndarray):
        kind = type(wave).__name__
        raise AudioError(f"cannot hear a {kind}; expected a numpy array of samples; make one with np.asarray")
    return wave


def _float32(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # too large for float32 is infinite, and that is refused
        return array.astype(np.float32, copy=False)


def _time_first(array: np.ndarray) -> np.ndarray:
    """The array as (time, channel)."""
    if array.ndim == 1:
        return array[:, None]
    short = [axis for axis, size in enumerate(array.shape) if size <= MOST_CHANNELS]
    if array.ndim != 2 or len(short) != 1:
        expected = f"(time,), (time, channel) or (channel, time) with at most {MOST_CHANNELS} channels"
        raise AudioError(f"cannot tell time from channels in an array of shape {array.shape}; expected {expected}")
    return array if short == [1] else array.T


def _cancel(mean: Float32[np.ndarray, " time"], power: Float64[np.ndarray, " channel"]) -> bool:
    """Whether channels (each with its sum of squares) cancel each other in their mean; unrelated ones don't."""
    unrelated = power.sum() / len(power) ** 2
    return len(power) > 1 and bool(np.square(mean, dtype=np.float64).sum() < OPPOSITE * unrelated)


def _check_length(decoded: Decoded, name: str, longest: float | None, tolerance: float) -> None:
    if decoded.seconds < MIN_SECONDS:
        raise AudioError(f"{name} is {_number(decoded.seconds)} s long; at least {MIN_SECONDS} s is needed")
    if longest is not None and decoded.seconds > longest + tolerance:
        length = f"{_number(decoded.seconds)} s" if decoded.exact else f"more than {longest} s"
        advice = "cut it; 'amask run --long trim' uses its beginning, '--long split' all of it"
        raise AudioError(f"{name} is {length} long, the model hears at most {longest} s; {advice}")


def _number(seconds: float) -> str:
    return str(round(seconds, 4))
