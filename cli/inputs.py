"""Which audio files the names on a command line stand for."""

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.decoding import AUDIO_SUFFIXES, OTHER_SUFFIXES, printable_path
from ..errors import AudioError

STANDARD_INPUT = Path("-")


@dataclass(frozen=True)
class Inputs:
    """What names on a command line stand for.

    Attributes:
        files: to be heard, in the order of the names, each once; `STANDARD_INPUT` for "-".
        skipped: audio files found in folders or by patterns, of kinds that cannot be read (m4a, wma, mp4 …).
        missing: one line for each name that stands for nothing, and each folder that cannot be listed.
    """

    files: tuple[Path, ...] = ()
    skipped: tuple[Path, ...] = ()
    missing: tuple[str, ...] = ()


def expand_inputs(names: Sequence[str]) -> Inputs:
    """The files that names on a command line stand for: files, patterns (`*`, `?`, `[…]`, `**`), folders and "-".

    A folder stands for the audio files below it, sorted, and so does a folder that a pattern matches. A pattern finds
    audio files, known by `AUDIO_SUFFIXES`, and files of the ending that it names itself; a file named in full is taken
    whatever its ending. Hidden files are found by their full name only. The order of the names is kept; a file named
    twice comes once, at its first place. "-" is standard input, "./-" a file of that name.

    Raises:
        AudioError: names were given, and none of them stands for anything.
    """
    each = [_stand_for(name) for name in names]
    missing = tuple(line for one in each for line in one.missing)
    files = _once(path for one in each for path in one.files)
    if missing and not files:
        raise AudioError(missing[0] + (f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""))
    return Inputs(files, _once(path for one in each for path in one.skipped), missing)


def _once(paths: Iterable[Path]) -> tuple[Path, ...]:
    first: dict[str, Path] = {}
    for path in paths:
        first.setdefault(str(path) if path == STANDARD_INPUT else os.path.abspath(path), path)
    return tuple(first.values())


def _stand_for(name: str) -> Inputs:
    if Path(name) == STANDARD_INPUT:
        return Inputs((STANDARD_INPUT if name == str(STANDARD_INPUT) else Path(name).absolute(),))
    folder = os.path.isdir(name)
    if os.path.exists(name) and not folder:
        return Inputs((Path(name),))
    if not folder and not glob.has_magic(name):
        what = "is a link to nothing" if os.path.islink(name) else "does not exist"
        return Inputs(missing=(f"{printable_path(name)} {what}; expected an audio file, a folder or a pattern such as '*.wav'",))
    failures: list[str] = []
    matches = [name] if folder else sorted(glob.glob(name, recursive=True))
    paths = [path for match in matches for path in (_below(match, failures) if os.path.isdir(match) else [Path(match)])]
    wanted = {*AUDIO_SUFFIXES, "" if folder else Path(name).suffix.lower()} - {""}
    files = tuple(path for path in paths if path.suffix.lower() in wanted)
    skipped = tuple(path for path in paths if path.suffix.lower() in set(OTHER_SUFFIXES) - wanted)
    if not files and not failures:
        named = printable_path(name)
        nothing = f"folder {named} holds no audio file" if folder else f"no audio file matches {named}"
        first = printable_path(skipped[0]) if skipped else ""
        others = f"; found {len(skipped)} of other kinds, such as {first}: convert them to wav" if skipped else ""
        failures.append(f"{nothing}; looked for {', '.join(AUDIO_SUFFIXES)}" + (", also below it" if folder else "") + others)
    return Inputs(files, skipped, tuple(failures))


def _below(folder: str, failures: list[str]) -> list[Path]:
    """The files below a folder that are not hidden, sorted; folders that cannot be listed join the failures."""

    def note(error: OSError) -> None:
        failures.append(f"cannot list folder {printable_path(error.filename)}: {error.strerror}; check its permissions")

    paths = [Path(place, name) for place, _, names in os.walk(folder, onerror=note) for name in names]
    return sorted(path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts))
