"""What a bank holds of one name on disk: its versions, those that are gone, and which of them was chosen as the default.

A name's folder holds `VERSION.safetensors`; an empty `VERSION.removed` for each version that was deleted, so that its
number is never given again; and, where a choice was made, `default.json`, a JSON object of fingerprint → version.
"""

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import filelock

from ..data.atomic_write import write_atomic
from ..errors import BankError, MaskError
from .defaults import defaults
from .files import SUFFIX, StoredMask, load_mask

CHOICES = "default.json"
LOCKS = ".locks"
LOCK_TIMEOUT_S = 60.0  # seconds that a process waits for another one, which holds a name for milliseconds
SETTLED_NS = 2_000_000_000  # a file that has not changed for so long may be kept in memory
_VERSION = r"[1-9][0-9]{0,8}"
SPEC = re.compile(rf"([a-z0-9][a-z0-9._+-]{{0,99}})(?:@({_VERSION}))?")
_FILE = re.compile(rf"({_VERSION}){re.escape(SUFFIX)}")
_REMOVED = re.compile(rf"({_VERSION})\.removed")


def parse_spec(spec: str) -> tuple[str, int | None]:
    """Take `name` or `name@version` apart.

    Raises:
        BankError: it is neither; what could lead out of the bank (slashes, `..`, nothing at all) never is.
    """
    match = SPEC.fullmatch(spec)
    if not match or match[1].endswith(SUFFIX):
        raise BankError(
            f"{spec!r} is not a mask's name; expected NAME or NAME@VERSION, where NAME is of lower-case letters, digits "
            "and . _ + - and starts with a letter or digit"
        )
    return match[1], int(match[2]) if match[2] else None


def is_name(text: str) -> bool:
    """Whether a folder of this name may hold versions of a mask."""
    return bool(SPEC.fullmatch(text)) and "@" not in text


def is_place(parts: tuple[str, ...]) -> bool:
    """Whether a path within a bank is that of a mask: `NAME/VERSION.safetensors`."""
    return len(parts) == 2 and bool(SPEC.fullmatch(parts[0]) and _FILE.fullmatch(parts[1]))


def children(folder: Path) -> list[Path]:
    """A folder's entries, sorted; none where it does not exist.

    Raises:
        BankError: it cannot be read.
    """
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BankError(f"cannot read bank {folder}: {error.strerror}; choose another folder by AMASK_BANK") from None


def is_within(path: Path, folder: Path) -> bool:
    """Whether a path lies in a folder when all links are followed."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _entries(folder: Path, pattern: re.Pattern[str]) -> dict[int, Path]:
    if not os.path.isdir(folder):  # unlike Path.is_dir, False also where looking is not allowed
        return {}
    return {int(match[1]): path for path in children(folder) if (match := pattern.fullmatch(path.name))}


def files_of(folder: Path) -> dict[int, Path]:
    """Version → file of one name's folder."""
    return _entries(folder, _FILE)


def removed_from(folder: Path) -> set[int]:
    """The versions that were taken away."""
    return set(_entries(folder, _REMOVED))


def mark_removed(folder: Path, version: int) -> None:
    """Remember that a version's number has been given.

    Raises:
        FileError: the folder cannot be written.
    """
    write_atomic(b"", folder / f"{version}.removed")


def read_choices(folder: Path) -> dict[str, int]:
    """Fingerprint → the version of a name that was chosen as the model's default.

    Raises:
        MaskError: the file is damaged.
    """
    path = folder / CHOICES
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(type(version) is int for version in found.values()):
        raise MaskError(f"{path} is damaged, so its choice is lost; choose again by 'amask bank use {folder.name}@VERSION'")
    return found


def choose(folder: Path, fingerprint: str, version: int) -> None:
    """Make a version a model's default; a damaged file of choices is replaced. To be done while the name is held.

    Raises:
        FileError: the folder cannot be written.
    """
    _write_choices(folder, _readable_choices(folder) | {fingerprint: version})


def forget(folder: Path, version: int) -> None:
    """Take a version out of the choices, as it is no more. To be done while the name is held.

    Raises:
        FileError: the folder cannot be written.
    """
    chosen = _readable_choices(folder)
    if version in chosen.values():
        _write_choices(folder, {model: each for model, each in chosen.items() if each != version})


def _readable_choices(folder: Path) -> dict[str, int]:
    try:
        return read_choices(folder)
    except MaskError:
        return {}


def _write_choices(folder: Path, choices: Mapping[str, int]) -> None:
    write_atomic(json.dumps(choices, indent=1, sort_keys=True).encode() + b"\n", folder / CHOICES)


@contextmanager
def locked(bank: Path, name: str) -> Iterator[Path]:
    """Hold a name of a bank against other processes; gives its folder, which is made where it is missing.

    Raises:
        BankError: the bank cannot be written, or another process holds the name for a minute.
    """
    folder, lock = bank / name, bank / LOCKS / f"{name}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.parent.mkdir(exist_ok=True)
        if not is_within(folder, bank):
            raise BankError(f"{folder} leads out of the bank; replace the link by a folder")
        holding = filelock.FileLock(lock, timeout=LOCK_TIMEOUT_S)
        holding.acquire()
    except filelock.Timeout:
        raise BankError(f"another process has held {lock} for {LOCK_TIMEOUT_S:.0f} s; end it, or remove that file") from None
    except OSError as error:
        raise BankError(f"cannot write to bank {bank}: {error.strerror}; choose another folder by AMASK_BANK") from None
    try:
        yield folder
    finally:
        holding.release()


@dataclass(frozen=True)
class Versions:
    """All versions of one name, read whole.

    Attributes:
        masks: those that are whole, oldest first.
        chosen: fingerprint → version, of `default.json`.
        damaged: file → what is wrong with it, oldest version first.
        odd: the same of `default.json`.
    """

    masks: tuple[StoredMask, ...]
    chosen: Mapping[str, int]
    damaged: Mapping[Path, MaskError | BankError]
    odd: Mapping[Path, MaskError]

    @property
    def problems(self) -> dict[Path, str]:
        """File → what is wrong with it."""
        return {path: str(error) for path, error in (*self.damaged.items(), *self.odd.items())}

    @cached_property
    def defaults(self) -> dict[str, StoredMask]:
        """The default of each model, by fingerprint."""
        return defaults(self.masks, self.chosen)


def list_versions(roots: tuple[Path, ...], name: str) -> dict[int, Path]:
    """Version → file, oldest first; where several roots have a version, the first root's counts."""
    found: dict[int, Path] = {}
    for root in reversed(roots):
        found |= files_of(root / name)
    return dict(sorted(found.items()))


@lru_cache(maxsize=4096)
def _load_unchanged(path: Path, modified: int, size: int, inode: int) -> StoredMask:
    return load_mask(path)


def _load_once(path: Path) -> StoredMask:
    """Read a file, or take it from memory where it has not changed since, by time, size and inode.

    One that changed a moment ago is read again each time: it could change once more within its time's resolution.
    """
    try:
        found = path.stat()
    except OSError:
        return load_mask(path)
    if time.time_ns() - found.st_mtime_ns < SETTLED_NS:
        return load_mask(path)
    return _load_unchanged(path, found.st_mtime_ns, found.st_size, found.st_ino)


def load_version(roots: tuple[Path, ...], path: Path, *, fresh: bool = False) -> StoredMask:
    """Read a file of a bank, and hold it to its place.

    Args:
        roots: the bank's folders.
        path: the file.
        fresh: read it also where it has not changed since it was last read.

    Raises:
        BankError: a link leads out of the bank.
        MaskError: the file is damaged, or holds another name or version.
    """
    if not any(is_within(path, root) for root in roots):
        raise BankError(f"{path} leads out of the bank; replace the link by the file itself")
    stored = load_mask(path) if fresh else _load_once(path)
    if (stored.name, f"{stored.version}{SUFFIX}") != (path.parent.name, path.name):
        raise MaskError(f"mask file {path} holds {stored.spec}; it was moved or renamed: import it instead")
    return stored


def read_versions(roots: tuple[Path, ...], name: str, *, fresh: bool = False) -> Versions:
    """Read all that the folders of a bank hold of a name, the first folder's before the others'; `fresh` as of `load_version`."""
    masks: list[StoredMask] = []
    chosen: dict[str, int] = {}
    damaged: dict[Path, MaskError | BankError] = {}
    odd: dict[Path, MaskError] = {}
    for path in list_versions(roots, name).values():
        try:
            masks.append(load_version(roots, path, fresh=fresh))
        except (MaskError, BankError) as error:
            damaged[path] = error
    for root in reversed(roots):
        try:
            chosen |= read_choices(root / name)
        except MaskError as error:
            odd[root / name / CHOICES] = error
    return Versions(tuple(masks), chosen, damaged, odd)
