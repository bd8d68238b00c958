"""Clips as callers have them (files, samples, bytes, streams, audio of `datasets`), and what a model hears of them."""

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from ..data.audio import Stream, check_wave, load_audio, to_mono_rate
from ..data.segments import split_at_pauses
from ..data.silence import SILENCE_DBFS, is_silent
from ..errors import AudioError
from ..lalm.base import LALM

LongClipPolicy = Literal["refuse", "trim", "split"]
"""What is done with a clip that is longer than the model hears."""
LONG_CLIP_POLICIES: tuple[LongClipPolicy, ...] = ("refuse", "trim", "split")

Clip = str | Path | bytes | Stream | tuple[Any, int] | Mapping[str, Any] | Any
"""A file; its bytes; a binary stream; samples with their rate in Hz; an audio dict of `datasets` (array and sampling_rate, or
bytes), or a row that has one as `audio`; a decoder with `get_all_samples()`, as `datasets` and torchcodec have; `NamedClip`."""


@dataclass(frozen=True)
class NamedClip:
    """A clip and what results call it, such as `-` for standard input."""

    name: str
    clip: Clip


@dataclass(frozen=True)
class HeardClip:
    """A clip as the model hears it.

    Attributes:
        name: what results call it.
        segments: the samples, in as many segments as they are answered in.
        seconds: how long it is.
        warnings: what is odd about it.
        file: the file, where it is one.
        trimmed: whether only its beginning was to be heard.
    """

    name: str
    segments: tuple[Float32[np.ndarray, " _"], ...]
    seconds: float
    warnings: tuple[str, ...] = ()
    file: Path | None = None
    trimmed: bool = False


def is_one_clip(clips: object) -> bool:
    """Whether a value is one clip rather than several."""
    if isinstance(clips, str | Path | bytes | bytearray | Mapping | NamedClip) or hasattr(clips, "read"):
        return True
    if isinstance(clips, tuple):
        return len(clips) == 2 and isinstance(clips[1], int | np.integer) and not isinstance(clips[0], int)
    return hasattr(clips, "get_all_samples") or not isinstance(clips, Iterable)


def hear_clip(clip: Clip, number: int, model: LALM, policy: LongClipPolicy) -> HeardClip:
    """Read a clip, of whatever kind, as a model hears it.

    Args:
        clip: the clip.
        number: its place among the others, from 1, which names what has no name.
        model: who hears it.
        policy: what is done if it is longer than the model hears.

    Raises:
        AudioError: it cannot be read, or is too long.
    """
    name, source = clip_name(clip, number), _source(clip)
    warnings: tuple[str, ...] = ()
    longest = None if policy == "split" else model.longest
    if isinstance(source, tuple):
        wave = _samples(source, name, model, longest, policy)
        if is_silent(wave, model.rate):
            warnings = (f"it is silent or almost so: nothing in it reaches {SILENCE_DBFS:.0f} dBFS",)
    else:
        heard = load_audio(source, model.rate, longest=longest, trim=policy == "trim", channels=model.channels)
        wave, warnings = heard.wave, heard.warnings
    segments = split_wave(wave, model) if policy == "split" else (wave,)
    return HeardClip(
        name, segments, len(wave) / model.rate, warnings, source if isinstance(source, Path) else None, policy == "trim"
    )


def split_wave(wave: Float32[np.ndarray, " time"], model: LALM) -> tuple[Float32[np.ndarray, " _"], ...]:
    """The segments in which a model hears samples: as many as it needs, split at pauses."""
    if model.longest is None or len(wave) <= model.longest * model.rate:
        return (wave,)
    return tuple(segment.of(wave, model.rate) for segment in split_at_pauses(wave, model.rate, model.longest))


def clip_name(clip: Clip, number: int) -> str:
    """What results call a clip: its file, the name that it was given, or else its number."""
    if isinstance(clip, NamedClip):
        return clip.name
    if isinstance(clip, str | os.PathLike):
        return str(clip)
    if isinstance(clip, Mapping):
        return clip_name(clip["audio"], number) if "audio" in clip else str(clip.get("path") or f"clip {number}")
    return f"clip {number}"


def _source(clip: Clip) -> Path | Stream | tuple[np.ndarray, int]:
    """What a clip is read from."""
    if isinstance(clip, NamedClip):
        return _source(clip.clip)
    if isinstance(clip, str | os.PathLike):
        return Path(clip)
    if isinstance(clip, bytes | bytearray):
        return io.BytesIO(clip)
    if isinstance(clip, Mapping):
        return _from_mapping(clip)
    if hasattr(clip, "get_all_samples"):  # torchcodec's decoder, which `datasets` gives from version 4 on
        decoder: Any = clip
        samples = decoder.get_all_samples()
        return _array(samples.data), int(samples.sample_rate)
    if isinstance(clip, tuple) and len(clip) == 2 and isinstance(clip[1], int | np.integer):
        return _array(clip[0]), int(clip[1])
    if hasattr(clip, "read"):
        return clip
    expected = "a file, bytes, a binary stream, (samples, rate), or an audio dict of datasets"
    raise AudioError(f"cannot hear a {type(clip).__name__}; expected {expected}")


def _from_mapping(clip: Mapping[str, Any]) -> Path | Stream | tuple[np.ndarray, int]:
    if "audio" in clip:
        return _source(clip["audio"])
    if clip.get("array") is not None and clip.get("sampling_rate"):
        return _array(clip["array"]), int(clip["sampling_rate"])
    if clip.get("bytes") is not None:
        return io.BytesIO(clip["bytes"])
    if clip.get("path"):
        return Path(clip["path"])
    keys = ", ".join(map(str, clip)) or "nothing"
    raise AudioError(f"cannot hear a dict with {keys}; expected array and sampling_rate, bytes, or path")


def _array(samples: object) -> np.ndarray:
    try:
        array = np.asarray(samples)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AudioError(f"cannot hear a {type(samples).__name__} of samples: {error}; give a numpy array") from None
    return array.astype(np.float32) if array.dtype.kind == "f" and array.dtype != np.float32 else array


def _samples(
    source: tuple[np.ndarray, int], name: str, model: LALM, longest: float | None, policy: LongClipPolicy
) -> Float32[np.ndarray, " time"]:
    try:
        wave = to_mono_rate(*source, model.rate)
        if policy == "trim" and longest is not None:
            wave = wave[: round(longest * model.rate)]
        return check_wave(wave, model.rate, longest)
    except AudioError as error:
        raise AudioError(f"{name}: {error}") from None


def iterate_clips(clips: Iterable[Clip]) -> Iterator[tuple[int, Clip]]:
    """Clips with their numbers, from 1.

    Raises:
        AudioError: it is one clip, not several.
    """
    if is_one_clip(clips):
        raise AudioError("expected several clips, got one; put it into a list")
    return enumerate(clips, 1)
