"""Audio as arrays: one channel of samples at the model's rate, read from any common format or given by the caller.

A file is read as it is or refused with the reason, never read in part without a word: headers may promise more than a
file holds (a broken download) or less (joined or streamed MP3s), and both are found out.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32

from ..errors import AudioError

SHORTEST = 0.1  # seconds
LOUDEST = 10.0  # times full scale: float files overshoot 1 a little; a hundredfold is a file of unscaled integers
RATES = range(1_000, 1_000_001)  # Hz
MARGIN = 0.1  # seconds read beyond a cut, so that the resampler hears what follows
SLACK = 0.1  # seconds by which a header may promise too much: the encoder's padding
TAGS = 512  # bytes of tags behind the sound of an MP3 that need not be explained
OPEN_ENDED = 0x7FF00000  # bytes: sizes from here on are written by programs that do not know the size yet
BLOCK = 2**22  # samples (over all channels) that are decoded at a time
MOST_CHANNELS = 8  # of an array: the axis that is no longer than this is the channels'
FULL_SCALE = {np.dtype(np.int16): 2.0**15, np.dtype(np.int32): 2.0**31}

Channels = Literal["mean", "first"]


def read_audio(
    path: Path, rate: int = 16000, *, longest: float | None = None, trim: bool = False, channels: Channels = "mean"
) -> Float32[np.ndarray, " time"]:
    """Read an audio file as one channel at a given rate.

    Whatever libsndfile decodes is read: wav, flac, mp3, ogg (vorbis, opus), aiff and others. Full scale is 1.0; float
    files that go beyond it are passed on as they are, up to 10.0. Digital silence is legal. A file that breaks off is
    refused; an MP3 without a length in its header and a WAV written to a pipe do not tell, and are read to their end.

    Args:
        path: the file.
        rate: Hz of the result.
        longest: seconds that the model hears; None for no limit. No more than this is read, whatever the file's size.
        trim: use the first `longest` seconds of a longer file instead of refusing it.
        channels: "mean" averages the channels, "first" takes the first and ignores the others.

    Returns:
        The samples; where `longest` is given, at most `longest` seconds of them.

    Raises:
        AudioError: the file is missing, unreadable, no audio, damaged, broken off, too short, too long, or holds
            samples that are not finite or far beyond full scale.
    """
    with _open(path) as stream, _decoder(stream, path) as file:
        _check_header(file, path)
        most = None if longest is None else round((longest + MARGIN) * file.samplerate)
        wave = _decode(file, path, most, channels)
        if most is None or len(wave) < most:
            _check_whole(file, stream, path, len(wave))
        _check_length(file, path, len(wave), None if trim else longest, 1 / rate)
        file_rate = file.samplerate
    if file_rate != rate:
        wave = soxr.resample(wave, file_rate, rate)
    return wave if longest is None else wave[: round(longest * rate)]


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
    if seconds < SHORTEST:
        raise AudioError(f"the clip is {_number(seconds)} s long; at least {SHORTEST} s is needed; check its rate, {rate} Hz")
    if longest is not None and seconds > longest + 1 / rate:
        raise AudioError(f"the clip is {_number(seconds)} s long, the model hears at most {longest} s; cut it")
    array = _float32(array)
    _check_samples(array[:, None], "the clip")
    return array


def to_mono_rate(wave: object, rate: int, target: int) -> Float32[np.ndarray, " time"]:
    """Make one channel of floating-point samples at a given rate of any array of sound.

    Args:
        wave: floating-point samples, full scale 1.0, or int16 or int32 ones; (time,), (time, channel) or
            (channel, time): the axis of at most eight entries is the channels'.
        rate: Hz of the samples.
        target: Hz of the result.

    Returns:
        The mean of the channels.

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
    _check_samples(samples, "the clip")
    mono = samples.mean(axis=1)
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


def shown(path: Path | str) -> str:
    """A path fit for a one-line message, whatever characters it has."""
    text = str(path)
    return text if text.isprintable() and text else repr(text)


def _number(seconds: float) -> str:
    return str(round(seconds, 4))


def _convert(path: Path) -> str:
    return f"convert it: ffmpeg -i {shown(path)} new.wav"


def _open(path: Path) -> BinaryIO:
    """Open a file for reading once it is known to be one: opening a pipe would wait for its writer."""
    try:
        info = path.stat()
        stream = path.open("rb") if stat.S_ISREG(info.st_mode) else None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"cannot read {shown(path)}: {reason}; check the name and the permissions") from None
    if stream is None:
        kind = "a folder" if stat.S_ISDIR(info.st_mode) else "a pipe or device"
        raise AudioError(f"cannot read {shown(path)}: it is {kind}; expected an audio file")
    if info.st_size == 0:
        stream.close()
        raise AudioError(f"{shown(path)} is empty (0 bytes); expected an audio file; copy or record it again")
    return stream


def _check_ogg(stream: BinaryIO, path: Path) -> None:
    """Walk through the pages, if it is an Ogg file: one stream, the last page complete (RFC 3533, section 6)."""
    size, start, begun = os.fstat(stream.fileno()).st_size, 0, False
    while start < size:
        stream.seek(start)
        page = stream.read(27 + 255)
        if not page.startswith(b"OggS"):
            break  # another format, or a tag behind the sound
        segments = page[26] if len(page) > 26 else 0
        start += 27 + segments + sum(page[27 : 27 + segments])
        if start > size:
            raise _broken_off(path, "its last page is incomplete")
        first = bool(page[5] & 2)
        if first and begun:
            raise AudioError(f"{shown(path)} holds several streams, one after the other; expected one; {_convert(path)}")
        begun = begun or not first
    stream.seek(0)


@contextmanager
def _decoder(stream: BinaryIO, path: Path) -> Iterator[soundfile.SoundFile]:
    if path.suffix.lower() == ".raw":
        raise AudioError(f"{shown(path)} has no header that tells its rate and format; save it as wav")
    _check_ogg(stream, path)  # first, as libsndfile's answers to broken pages are many
    try:
        file = soundfile.SoundFile(stream)
    except soundfile.SoundFileError:
        expected = "expected wav, flac, mp3, ogg or opus"
        raise AudioError(f"{shown(path)} is no audio or is damaged; {expected}; if it is sound, {_convert(path)}") from None
    with file:
        yield file


def _check_header(file: soundfile.SoundFile, path: Path) -> None:
    if file.samplerate not in RATES:
        expected = f"expected {RATES[0]} to {RATES[-1]} Hz"
        raise AudioError(f"{shown(path)} says that its sample rate is {file.samplerate} Hz; {expected}; its header is damaged")
    if file.frames > 2**62:  # libsndfile's word for "unknown"; its FLAC decoder cannot find the end of such a file
        raise AudioError(f"{shown(path)} does not say how long it is (it was written to a pipe); {_convert(path)}")


def _decode(file: soundfile.SoundFile, path: Path, most: int | None, channels: Channels) -> Float32[np.ndarray, " time"]:
    """The file's samples, mixed to one channel: all, or as many as `most`."""
    waves, got, ended = [np.zeros(0, np.float32)], 0, False
    while not ended and (most is None or got < most):
        # One more than the header says, so that a full buffer means that there may be more.
        room = min(max(BLOCK // file.channels, 1), max(file.frames - got, 0) + 1)
        room = room if most is None else min(room, most - got)
        try:
            block = file.read(out=np.empty((room, file.channels), np.float32))
        except soundfile.SoundFileError as error:
            reason = str(error).removeprefix("Error : ").rstrip(".")
            raise AudioError(f"{shown(path)} is damaged or breaks off ({reason}); copy or record it again") from None
        block = block[:, :1] if channels == "first" else block
        _check_samples(block, shown(path))
        waves.append(block.mean(axis=1))
        got, ended = got + len(block), len(block) < room
    return np.concatenate(waves)


def _check_length(file: soundfile.SoundFile, path: Path, got: int, longest: float | None, tolerance: float) -> None:
    """Refuse a file by its length in seconds, as decoded or, where that stopped early, as the header says."""
    guessed = file.format == "MP3"  # such a header may hold anything
    decoded = got / file.samplerate
    seconds = decoded if guessed else max(decoded, file.frames / file.samplerate)
    if seconds < SHORTEST:
        raise AudioError(f"{shown(path)} is {_number(seconds)} s long; at least {SHORTEST} s is needed")
    if longest is not None and seconds > longest + tolerance:
        length = f"more than {longest} s" if guessed else f"{_number(seconds)} s"
        advice = "cut it; 'amask run --trim' uses its beginning"
        raise AudioError(f"{shown(path)} is {length} long, the model hears at most {longest} s; {advice}")


def _check_samples(block: Float32[np.ndarray, "time channel"], name: str) -> None:
    peak = np.abs(block).max(initial=0)  # NaN where there is one
    if not np.isfinite(peak):
        raise AudioError(f"{name} holds samples that are NaN or infinite; expected finite ones; export it again")
    if peak > LOUDEST:
        expected = f"full scale is 1.0 and at most {LOUDEST} is accepted"
        raise AudioError(f"{name} reaches {peak:.6g}; {expected}; export it again, scaled to [-1, 1]")


def _check_whole(file: soundfile.SoundFile, stream: BinaryIO, path: Path, got: int) -> None:
    """Compare what was decoded to the file's end with what the file should hold."""
    read = stream.tell()
    if file.format == "MP3":
        _check_mp3(stream, path, read)
    # libsndfile corrects the sizes in a header by the file's, and notes it in its log. One byte may be padding.
    noted = re.search(r"^ *(?:data|SSND|Riff size) : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    promised, held = map(int, noted.groups()) if noted else (0, 0)
    if held + 1 < promised < OPEN_ENDED:
        raise _broken_off(path, f"its header promises {promised} bytes of samples, it holds {held}")
    if file.format != "MP3" and got < file.frames - SLACK * file.samplerate:
        promised_seconds, held_seconds = _number(file.frames / file.samplerate), _number(got / file.samplerate)
        raise _broken_off(path, f"its header promises {promised_seconds} s, it holds {held_seconds} s")
    if not got:
        raise AudioError(f"{shown(path)} holds no samples; at least {SHORTEST} s is needed; record it again")


def _broken_off(path: Path, reason: str) -> AudioError:
    return AudioError(f"{shown(path)} breaks off: {reason}; copy or record it again")


def _check_mp3(stream: BinaryIO, path: Path, read: int) -> None:
    """Compare an MP3's bytes with those it promises in a Xing or Info header and with those that were read.

    The decoder stops early where several files were joined, and where the bit rate varies and no header tells the
    length: then it guesses by the first frames. Tags may follow the sound.
    """
    size = os.fstat(stream.fileno()).st_size
    stream.seek(0)
    head = stream.read(10)
    start = 0
    if head.startswith(b"ID3"):  # its size: four bytes of seven bits
        start = 10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    stream.seek(start)
    # The name, four bytes of flags (1: frames follow, 2: bytes follow), the number of frames, the number of bytes.
    tag = re.search(rb"(?:Xing|Info)\0\0\0[\x03\x07\x0b\x0f].{4}(.{4})", stream.read(64), re.DOTALL)
    promised = int.from_bytes(tag.group(1), "big") if tag else 0
    if size - start < promised - TAGS:
        raise _broken_off(path, f"its header promises {promised} bytes, it holds {size - start}")
    if size - read > max(0.05 * size, TAGS):
        reason = f"only {read} of {size} bytes are within the length that its header says"
        raise AudioError(f"{shown(path)} would be cut: {reason}; {_convert(path)}")
