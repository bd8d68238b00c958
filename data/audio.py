"""Reading audio files: any common format goes in, one channel of samples at the model's rate comes out.

A file is read as it is or refused with the reason, never read in part without a word: headers may promise more than a
file holds (a broken download) or less (joined or streamed MP3s), and both are found out.
"""

import glob
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32

from ..errors import AudioError

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aiff", ".aif")
SHORTEST = 0.1  # seconds
LOUDEST = 10.0  # times full scale: float files overshoot 1 a little; a hundredfold is a file of unscaled integers
RATES = range(1_000, 1_000_001)  # Hz
MARGIN = 0.1  # seconds read beyond a cut, so that the resampler hears what follows
SLACK = 0.1  # seconds by which a header may promise too much: the encoder's padding
TAGS = 512  # bytes of tags behind the sound of an MP3 that need not be explained
OPEN_ENDED = 0x7FF00000  # bytes: sizes from here on are written by programs that do not know the size yet
BLOCK = 2**22  # samples (over all channels) that are decoded at a time

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


def _shown(path: Path | str) -> str:
    """A path fit for a one-line message, whatever characters it has."""
    text = str(path)
    return text if text.isprintable() and text else repr(text)


def _number(seconds: float) -> str:
    return str(round(seconds, 4))


def _convert(path: Path) -> str:
    return f"convert it: ffmpeg -i {_shown(path)} new.wav"


def _open(path: Path) -> BinaryIO:
    """Open a file for reading once it is known to be one: opening a pipe would wait for its writer."""
    try:
        info = path.stat()
        stream = path.open("rb") if stat.S_ISREG(info.st_mode) else None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"cannot read {_shown(path)}: {reason}; check the name and the permissions") from None
    if stream is None:
        kind = "a folder" if stat.S_ISDIR(info.st_mode) else "a pipe or device"
        raise AudioError(f"cannot read {_shown(path)}: it is {kind}; expected an audio file")
    if info.st_size == 0:
        stream.close()
        raise AudioError(f"{_shown(path)} is empty (0 bytes); expected an audio file; copy or record it again")
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
            raise AudioError(f"{_shown(path)} holds several streams, one after the other; expected one; {_convert(path)}")
        begun = begun or not first
    stream.seek(0)


@contextmanager
def _decoder(stream: BinaryIO, path: Path) -> Iterator[soundfile.SoundFile]:
    if path.suffix.lower() == ".raw":
        raise AudioError(f"{_shown(path)} has no header that tells its rate and format; save it as wav")
    _check_ogg(stream, path)  # first, as libsndfile's answers to broken pages are many
    try:
        file = soundfile.SoundFile(stream)
    except soundfile.SoundFileError:
        expected = "expected wav, flac, mp3, ogg or opus"
        raise AudioError(f"{_shown(path)} is no audio or is damaged; {expected}; if it is sound, {_convert(path)}") from None
    with file:
        yield file


def _check_header(file: soundfile.SoundFile, path: Path) -> None:
    if file.samplerate not in RATES:
        expected = f"expected {RATES[0]} to {RATES[-1]} Hz"
        raise AudioError(f"{_shown(path)} says that its sample rate is {file.samplerate} Hz; {expected}; its header is damaged")
    if file.frames > 2**62:  # libsndfile's word for "unknown"; its FLAC decoder cannot find the end of such a file
        raise AudioError(f"{_shown(path)} does not say how long it is (it was written to a pipe); {_convert(path)}")


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
            raise AudioError(f"{_shown(path)} is damaged or breaks off ({reason}); copy or record it again") from None
        block = block[:, :1] if channels == "first" else block
        _check_samples(block, path)
        waves.append(block.mean(axis=1))
        got, ended = got + len(block), len(block) < room
    return np.concatenate(waves)


def _check_length(file: soundfile.SoundFile, path: Path, got: int, longest: float | None, tolerance: float) -> None:
    """Refuse a file by its length in seconds, as decoded or, where that stopped early, as the header says."""
    guessed = file.format == "MP3"  # such a header may hold anything
    decoded = got / file.samplerate
    seconds = decoded if guessed else max(decoded, file.frames / file.samplerate)
    if seconds < SHORTEST:
        raise AudioError(f"{_shown(path)} is {_number(seconds)} s long; at least {SHORTEST} s is needed")
    if longest is not None and seconds > longest + tolerance:
        length = f"more than {longest} s" if guessed else f"{_number(seconds)} s"
        advice = "cut it; 'amask run --trim' uses its beginning"
        raise AudioError(f"{_shown(path)} is {length} long, the model hears at most {longest} s; {advice}")


def _check_samples(block: Float32[np.ndarray, "time channel"], path: Path) -> None:
    peak = np.abs(block).max(initial=0)  # NaN where there is one
    if not np.isfinite(peak):
        raise AudioError(f"{_shown(path)} holds samples that are NaN or infinite; expected finite ones; export it again")
    if peak > LOUDEST:
        expected = f"full scale is 1.0 and at most {LOUDEST} is accepted"
        raise AudioError(f"{_shown(path)} reaches {peak:.6g}; {expected}; export it again, scaled to [-1, 1]")


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
        raise AudioError(f"{_shown(path)} holds no samples; at least {SHORTEST} s is needed; record it again")


def _broken_off(path: Path, reason: str) -> AudioError:
    return AudioError(f"{_shown(path)} breaks off: {reason}; copy or record it again")


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
        raise AudioError(f"{_shown(path)} would be cut: {reason}; {_convert(path)}")


def expand_inputs(names: Sequence[str]) -> list[Path]:
    """The files that names on a command line stand for: files, patterns (`*`, `?`, `[…]`, `**`) and folders.

    A folder stands for the audio files below it, sorted, and so does a folder that a pattern matches. A pattern finds
    audio files, known by `AUDIO_SUFFIXES`, and files of the ending that it names itself; a file named in full is taken
    whatever its ending. Hidden files are found by their full name only. The order of the names is kept; a file named
    twice comes once, at its first place.

    Raises:
        AudioError: a name stands for nothing, or a folder cannot be listed.
    """
    found: dict[str, Path] = {}
    for name in names:
        for path in _matches(name):
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def _matches(name: str) -> list[Path]:
    if os.path.exists(name) and not os.path.isdir(name):
        return [Path(name)]
    endings = ", ".join(AUDIO_SUFFIXES)
    if os.path.isdir(name):
        paths, failure = _audio_below(name), f"folder {_shown(name)} holds no audio file; looked for {endings}, also below it"
    elif glob.has_magic(name):
        paths, failure = _matched(name), f"no audio file matches {_shown(name)}; looked for {endings}"
    else:
        paths, failure = [], f"{_shown(name)} does not exist; expected an audio file, a folder or a pattern such as '*.wav'"
    if not paths:
        raise AudioError(failure)
    return paths


def _matched(pattern: str) -> list[Path]:
    endings = {*AUDIO_SUFFIXES, Path(pattern).suffix.lower()} - {""}
    paths: list[Path] = []
    for match in sorted(glob.glob(pattern, recursive=True)):
        if os.path.isdir(match):
            paths += _audio_below(match)
        elif Path(match).suffix.lower() in endings:
            paths.append(Path(match))
    return paths


def _audio_below(folder: str) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise AudioError(f"cannot list folder {_shown(error.filename)}: {error.strerror}; check its permissions")

    paths = [Path(place, name) for place, _, names in os.walk(folder, onerror=refuse) for name in names]
    shown = (path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    return sorted(path for path in shown if path.suffix.lower() in AUDIO_SUFFIXES)
