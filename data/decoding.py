"""Decoding audio of any common format: all of its samples, or a reason why not, never a part without a word.

Headers may promise more than a file holds (a broken download) or less (joined or streamed files); both are found out.
"""

import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float32, Float64

from ..errors import AudioError
from .headers import TAGS, Corrected, Stream, correct

# libsndfile reads others, too, but not whether they are whole; of VOC it reads the blocks' headers as sound.
FORMATS = frozenset({"AIFF", "AU", "CAF", "FLAC", "MP3", "NIST", "OGG", "RF64", "W64", "WAV", "WAVEX"})
EXPECTED = "expected wav, flac, mp3, ogg, opus, aiff, caf, au or w64"
# Endings by which folders and patterns know audio that libsndfile reads.
AUDIO_SUFFIXES = (
    *(".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".aif", ".aifc", ".au", ".caf", ".mp2", ".oga", ".rf64"),
    *(".snd", ".sph", ".w64", ".wave"),
)
# Endings of other audio, and of films with sound.
OTHER_SUFFIXES = (
    *(".3gp", ".aac", ".ac3", ".amr", ".ape", ".avi", ".dsf", ".m4a", ".m4b", ".mka", ".mkv", ".mov", ".mp4", ".mpc"),
    *(".ra", ".spx", ".tta", ".voc", ".webm", ".wma", ".wv"),
)
MIN_SECONDS = 0.1  # seconds
MAX_PEAK = 10.0  # times full scale: float files overshoot 1 a little; a hundredfold is a file of unscaled integers
RATES = range(1_000, 1_000_001)  # Hz
SLACK = 0.1  # seconds by which a header may promise too much: the encoder's padding
MAX_UNREAD = 0.05  # share of an MP3's bytes that may be left when its samples are all decoded
BLOCK = (2**16, 2**22)  # samples that are decoded at a time, at least of each channel and at most of all
MAX_STREAM_BYTES = 2**31  # of a stream, which is kept in memory
SEEK_FAILED = 39  # libsndfile's answer after the last samples of a FLAC that does not say how long it is


@dataclass(frozen=True)
class Source:
    """Encoded audio, open for reading.

    Attributes:
        name: what messages call it.
        convert: how to make a plain file of it, for messages.
        stream: its bytes; can seek.
        size: how many they are.
    """

    name: str
    convert: str
    stream: Stream
    size: int


@dataclass(frozen=True)
class Decoded:
    """Decoded audio in one channel.

    Attributes:
        wave: the samples, full scale 1.0.
        rate: Hz.
        seconds: how long all of it is, as far as known without decoding more.
        exact: whether `seconds` is that; if not, it is longer than that.
        power: of each channel, the sum of squares, where they are averaged.
        warning: what was wrong with its header, if anything.
    """

    wave: Float32[np.ndarray, " time"]
    rate: int
    seconds: float
    exact: bool
    power: Float64[np.ndarray, " channel"]
    warning: str


def printable_path(path: Path | str) -> str:
    """A path fit for a one-line message, whatever characters it has."""
    text = str(path)
    return text if text.isprintable() and text else repr(text)


@contextmanager
def open_source(audio: Path | Stream) -> Iterator[Source]:
    """Open a file, or read a stream such as standard input to its end; the stream stays open.

    Raises:
        AudioError: the file is missing, unreadable, no file or empty; the stream is empty or above 2 GiB.
    """
    if not isinstance(audio, Path):
        data = audio.read(MAX_STREAM_BYTES + 1)
        name = "standard input" if getattr(audio, "name", None) in ("<stdin>", 0) else "the stream"
        if len(data) > MAX_STREAM_BYTES:
            raise AudioError(f"{name} has more than {MAX_STREAM_BYTES} bytes; expected a clip; save it as a file")
        if not data:
            raise AudioError(f"{name} is empty (0 bytes); expected audio; check the command before the pipe")
        yield Source(name, "convert it: ffmpeg -i - -f wav -", io.BytesIO(data), len(data))
        return
    name = printable_path(audio)
    if audio.suffix.lower() == ".raw":
        raise AudioError(f"{name} has no header that tells its rate and format; save it as wav")
    with _open(audio) as stream:
        yield Source(name, f"convert it: ffmpeg -i {name} new.wav", stream, os.fstat(stream.fileno()).st_size)


def decode(source: Source, most: float | None, channel: int | None) -> Decoded:
    """Decode to one channel.

    Args:
        source: what to decode.
        most: seconds after which to stop; None for all.
        channel: which to take, from 0; None for the mean.

    Raises:
        AudioError: no audio, damaged, broken off, without samples, or holds samples that are not finite or far beyond
            full scale.
    """
    _check_ogg(source)  # first, as libsndfile's answers to broken pages are many
    corrected = correct(source.stream, source.size, source.name)
    with _decoder(corrected, source) as file:
        promised = file.frames if corrected.frames is None else corrected.frames
        limit = None if most is None else round(most * file.samplerate)
        wave, power = _samples(file, source.name, promised, limit, channel)
        ended = limit is None or len(wave) < limit
        if ended:
            _check_whole(file, source, promised, len(wave))
        warning = corrected.warning
        if corrected.frames and len(wave) > corrected.frames:
            warning = f"its header promises {promised} samples, it holds {'' if ended else 'at least '}{len(wave)}; all are used"
        known = ended or (file.format != "MP3" and promised > 0)  # the header of an MP3 may hold anything
        seconds = max(len(wave), promised if known and not ended else 0) / file.samplerate
        return Decoded(wave, file.samplerate, seconds, known, power, warning)


def check_samples(block: Float32[np.ndarray, "*axes"], name: str) -> None:
    """Refuse samples that no recording has.

    Raises:
        AudioError: some are not finite, or far beyond full scale.
    """
    peak = np.abs(block).max(initial=0)  # NaN where there is one
    if not np.isfinite(peak):
        raise AudioError(f"{name} holds samples that are NaN or infinite; expected finite ones; export it again")
    if peak > MAX_PEAK:
        expected = f"full scale is 1.0 and at most {MAX_PEAK} is accepted"
        raise AudioError(f"{name} reaches {peak:.6g}; {expected}; export it again, scaled to [-1, 1]")


def _open(path: Path) -> io.BufferedReader:
    """Open a file for reading once it is known to be one: opening a pipe would wait for its writer."""
    try:
        info = path.stat()
        stream = path.open("rb") if stat.S_ISREG(info.st_mode) else None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"cannot read {printable_path(path)}: {reason}; check the name and the permissions") from None
    if stream is None:
        if stat.S_ISDIR(info.st_mode):
            raise AudioError(f"cannot read {printable_path(path)}: it is a folder; expected an audio file")
        remedy = "expected an audio file, or '-' with the audio piped in: cat clip.wav | amask run -"
        raise AudioError(f"cannot read {printable_path(path)}: it is a pipe or device; {remedy}")
    if info.st_size == 0:
        stream.close()
        raise AudioError(f"{printable_path(path)} is empty (0 bytes); expected an audio file; copy or record it again")
    return stream


@contextmanager
def _decoder(corrected: Corrected, source: Source) -> Iterator[soundfile.SoundFile]:
    corrected.stream.seek(0)
    try:
        file = soundfile.SoundFile(corrected.stream)
    except soundfile.SoundFileError:
        raise AudioError(f"{source.name} is no audio or is damaged; {EXPECTED}; if it is sound, {source.convert}") from None
    with file:
        if file.format not in FORMATS:
            raise AudioError(f"{source.name} is of the format {file.format}; {EXPECTED}; {source.convert}")
        if file.samplerate not in RATES:
            expected = f"expected {RATES[0]} to {RATES[-1]} Hz"
            rate = f"its sample rate is {file.samplerate} Hz"
            raise AudioError(f"{source.name} says that {rate}; {expected}; its header is damaged")
        yield file


def _samples(
    file: soundfile.SoundFile, name: str, promised: int, most: int | None, channel: int | None
) -> tuple[Float32[np.ndarray, " time"], Float64[np.ndarray, " channel"]]:
    """The samples, all or as many as `most`, mixed to one channel; and the sum of squares of each channel."""
    waves, power, got, ended = [np.zeros(0, np.float32)], np.zeros(file.channels), 0, False
    while not ended and (most is None or got < most):
        # One more than the header says, so that a full buffer means that there may be more.
        room = min(max(BLOCK[1] // file.channels, 1), max(promised - got + 1, BLOCK[0]))
        room = room if most is None else min(room, most - got)
        block = _block(file, name, room)
        heard = block if channel is None else block[:, channel : channel + 1]
        check_samples(heard, name)
        waves.append(heard.mean(axis=1))
        power += np.einsum("tc,tc->c", block, block, dtype=np.float64) if channel is None else 0
        got, ended = got + len(block), len(block) < room
    return np.concatenate(waves), power


def _block(file: soundfile.SoundFile, name: str, room: int) -> Float32[np.ndarray, "time channel"]:
    """The next samples; fewer than there is room for at the end."""
    block = np.full((room, file.channels), np.nan, np.float32)
    try:
        return file.read(out=block)
    except soundfile.LibsndfileError as error:
        if file.format == "FLAC" and error.code == SEEK_FAILED:
            return block[: np.isfinite(block).all(axis=1).sum()]  # samples of a FLAC are integers, and so finite
        reason = error.error_string.removeprefix("Error : ").rstrip(".")
        raise AudioError(f"{name} is damaged or breaks off ({reason}); copy or record it again") from None


def _check_whole(file: soundfile.SoundFile, source: Source, promised: int, got: int) -> None:
    """Compare what was decoded to the file's end with what the file should hold."""
    if file.format == "MP3":
        _check_mp3(source)
    elif got < promised - SLACK * file.samplerate:
        seconds, held = (f"{round(frames / file.samplerate, 4)} s" for frames in (promised, got))
        raise AudioError(f"{source.name} breaks off: its header promises {seconds}, it holds {held}; copy or record it again")
    if not got:
        raise AudioError(f"{source.name} holds no samples; at least {MIN_SECONDS} s is needed; record it again")


def _check_ogg(source: Source) -> None:
    """Walk through the pages, if it is an Ogg file: one stream, the last page complete (RFC 3533, section 6)."""
    start, begun = 0, False
    while start < source.size:
        source.stream.seek(start)
        page = source.stream.read(27 + 255)
        if not page.startswith(b"OggS"):
            break  # another format, or a tag behind the sound
        segments = page[26] if len(page) > 26 else 0
        start += 27 + segments + sum(page[27 : 27 + segments])
        if start > source.size:
            raise AudioError(f"{source.name} breaks off: its last page is incomplete; copy or record it again")
        first = bool(page[5] & 2)
        if first and begun:
            expected = f"expected one; {source.convert}"
            raise AudioError(f"{source.name} holds several streams, one after the other; {expected}")
        begun = begun or not first


def _check_mp3(source: Source) -> None:
    """Compare an MP3's bytes with those that it promises in a Xing or Info header and with those that were read.

    The decoder stops early where several files were joined, and where the bit rate varies and no header tells the
    length: then it guesses by the first frames. Tags may follow the sound.
    """
    read = source.stream.tell()
    source.stream.seek(0)
    head = source.stream.read(10)
    start = 0
    if head.startswith(b"ID3"):  # its size: four bytes of seven bits
        start = 10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    source.stream.seek(start)
    # The name, four bytes of flags (1: frames follow, 2: bytes follow), the number of frames, the number of bytes.
    tag = re.search(rb"(?:Xing|Info)\0\0\0[\x03\x07\x0b\x0f].{4}(.{4})", source.stream.read(64), re.DOTALL)
    promised = int.from_bytes(tag.group(1), "big") if tag else 0
    if source.size - start < promised - TAGS:
        reason = f"its header promises {promised} bytes, it holds {source.size - start}"
        raise AudioError(f"{source.name} breaks off: {reason}; copy or record it again")
    if source.size - read > max(MAX_UNREAD * source.size, TAGS):
        reason = f"only {read} of {source.size} bytes are within the length that its header says"
        raise AudioError(f"{source.name} would be cut: {reason}; {source.convert}")
