"""Which audio files the names on a command line stand for."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import AudioError
from .audio import shown

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aiff", ".aif")


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
        paths, failure = _audio_below(name), f"folder {shown(name)} holds no audio file; looked for {endings}, also below it"
    elif glob.has_magic(name):
        paths, failure = _matched(name), f"no audio file matches {shown(name)}; looked for {endings}"
    else:
        paths, failure = [], f"{shown(name)} does not exist; expected an audio file, a folder or a pattern such as '*.wav'"
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
        raise AudioError(f"cannot list folder {shown(error.filename)}: {error.strerror}; check its permissions")

    paths = [Path(place, name) for place, _, names in os.walk(folder, onerror=refuse) for name in names]
    shown = (path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    return sorted(path for path in shown if path.suffix.lower() in AUDIO_SUFFIXES)
