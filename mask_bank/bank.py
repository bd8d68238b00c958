"""`MaskBank`: a folder of masks that several processes may use at once, with a read-only bundled bank behind it.

A mask lies at `NAME/VERSION.safetensors`; versions of a name are 1, 2, 3 … over both folders. Nothing is ever changed
in place: a new mask is a new version, and adding one cannot collide, since a version's file is created by one process only.
"""

import difflib
import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from ..errors import BankError, MaskError
from ..lalm.identity import Identified, Identity
from .files import SUFFIX, StoredMask, load_mask, save_mask
from .mask import HeadMask

BUNDLED = Path(__file__).parent / "bundled"
_VERSION = r"[1-9][0-9]{0,8}"
_SPEC = re.compile(rf"([a-z0-9][a-z0-9._+-]{{0,99}})(?:@({_VERSION}))?")
_FILE = re.compile(rf"({_VERSION}){re.escape(SUFFIX)}")


def parse_spec(spec: str) -> tuple[str, int | None]:
    """Take `name` or `name@version` apart.

    Raises:
        BankError: it is neither; what could lead out of the bank (slashes, `..`, nothing at all) never is.
    """
    match = _SPEC.fullmatch(spec)
    if not match or match[1].endswith(SUFFIX):
        raise BankError(
            f"{spec!r} is not a mask's name; expected NAME or NAME@VERSION, where NAME is of lower-case letters, digits "
            "and . _ + - and starts with a letter or digit"
        )
    return match[1], int(match[2]) if match[2] else None


def _children(folder: Path) -> list[Path]:
    """A folder's entries, sorted; none where it does not exist."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BankError(f"cannot read bank {folder}: {error.strerror}; choose another folder by AMASK_BANK") from None


def _numbered(folder: Path) -> dict[int, Path]:
    """Version → file of one name's folder."""
    if not os.path.isdir(folder):  # unlike Path.is_dir, False also where looking is not allowed
        return {}
    return {int(match[1]): path for path in _children(folder) if (match := _FILE.fullmatch(path.name))}


def _within(path: Path, folder: Path) -> bool:
    """Whether a path lies in a folder when all links are followed."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


@dataclass(frozen=True)
class MaskBank:
    """Masks by name and version.

    Attributes:
        folder: where masks are kept; made when the first one is added.
        bundled: a read-only bank behind it; its versions count on, so `asr@1` never means two masks by our doing.
    """

    folder: Path
    bundled: Path | None = None

    @property
    def _roots(self) -> tuple[Path, ...]:
        return (self.folder,) if self.bundled is None else (self.folder, self.bundled)

    def _versions(self, name: str) -> dict[int, Path]:
        """Version → file, newest first; where both banks have a version, the folder's counts."""
        found: dict[int, Path] = {}
        for root in reversed(self._roots):
            found |= _numbered(root / name)
        return dict(sorted(found.items(), reverse=True))

    def names(self) -> tuple[str, ...]:
        """All names that have a version, sorted."""
        folders = itertools.chain.from_iterable(_children(root) for root in self._roots)
        return tuple(sorted({path.name for path in folders if _SPEC.fullmatch(path.name) and _numbered(path)}))

    def _load(self, path: Path) -> StoredMask:
        """Read a file of the bank, and hold it to its place."""
        if not any(_within(path, root) for root in self._roots):
            raise BankError(f"{path} leads out of the bank; replace the link by the file itself")
        stored = load_mask(path)
        if (stored.name, f"{stored.version}{SUFFIX}") != (path.parent.name, path.name):
            raise MaskError(f"mask file {path} holds {stored.spec}; it was moved or renamed: import it instead")
        return stored

    def _scan(self) -> Iterator[tuple[Path, StoredMask | str]]:
        """Every version's file with its mask or, where it is damaged, what is wrong with it."""
        for name in self.names():
            for path in reversed(self._versions(name).values()):
                try:
                    yield path, self._load(path)
                except (MaskError, BankError) as error:
                    yield path, str(error)

    def add(self, mask: HeadMask, name: str) -> StoredMask:
        """Store a mask as the next version of a name; processes that do so at once get different versions.

        Raises:
            BankError: the name is not one, or the bank cannot be written.
            MaskError: lineage or scores hold what JSON cannot.
        """
        name, version = parse_spec(name)
        if version is not None:
            raise BankError(f"a stored mask gets its version from the bank; say {name!r} without @{version}")
        folder = self.folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = error.strerror
            raise BankError(f"cannot write to bank {self.folder}: {why}; choose another folder by AMASK_BANK") from None
        if not _within(folder, self.folder):
            raise BankError(f"{folder} leads out of the bank; replace the link by a folder")
        for free in itertools.count(1 + max(self._versions(name), default=0)):
            try:
                return save_mask(mask, name, free, folder / f"{free}{SUFFIX}", exclusive=True)
            except FileExistsError:  # another process took this version
                continue
        raise AssertionError

    def _found(self, spec: str) -> tuple[str, dict[int, Path]]:
        """The name and the files that a spec may mean, newest first; at least one."""
        name, version = parse_spec(spec)
        versions = self._versions(name)
        if version in versions:
            return name, {version: versions[version]}
        if versions and version is None:
            return name, versions
        if versions:
            have = ", ".join(f"{name}@{number}" for number in reversed(versions))
            raise BankError(f"no mask {spec!r} in the bank; there is {have}")
        names = self.names()
        near = difflib.get_close_matches(name, names, n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        have = f"there are {', '.join(names)}" if names else f"the bank {self.folder} is empty; see 'amask bank train'"
        raise BankError(f"no mask {spec!r} in the bank; {hint}{have}")

    def get(self, spec: str, model: Identity | Identified | None = None) -> StoredMask:
        """The mask of a name and version, or the newest of a name that fits a model.

        Args:
            spec: `name` or `name@version`.
            model: what the mask is to be used with; None fits all.

        Raises:
            BankError: there is no such mask; the message lists near names.
            MaskError: it is damaged, or none of the name's masks is for this model.
        """
        _, versions = self._found(spec)
        misfit: MaskError | None = None
        for path in versions.values():
            stored = self._load(path)
            try:
                require(stored, model)
            except MaskError as error:
                misfit = misfit or error
            else:
                return stored
        raise misfit or AssertionError

    def list(self) -> tuple[StoredMask, ...]:
        """All masks by name and version; damaged files are left out, and `verify` names them."""
        return tuple(found for _, found in self._scan() if isinstance(found, StoredMask))

    def verify(self) -> tuple[tuple[Path, str], ...]:
        """Read every file of the bank whole: (path, problem) of each that is damaged or out of place."""
        problems = [(path, found) for path, found in self._scan() if isinstance(found, str)]
        for root in self._roots:
            for path in sorted(root.rglob(f"*{SUFFIX}")):
                place = path.relative_to(root).parts
                if len(place) != 2 or not _SPEC.fullmatch(place[0]) or not _FILE.fullmatch(place[1]):
                    problems.append((path, f"{path} is not at NAME/VERSION{SUFFIX}, so it is never used: import or remove it"))
        return tuple(problems)

    def remove(self, spec: str) -> Path:
        """Delete one version, damaged or not; a name alone will do where it has only one.

        Returns:
            The deleted file.

        Raises:
            BankError: there is no such mask, the name has several versions, it is bundled, or it cannot be deleted.
        """
        name, versions = self._found(spec)
        if len(versions) > 1:
            have = ", ".join(f"{name}@{number}" for number in reversed(versions))
            raise BankError(f"{name!r} has several versions: say which of {have} to remove")
        version, path = next(iter(versions.items()))
        if not path.is_relative_to(self.folder):
            raise BankError(f"cannot remove {name}@{version}: it is bundled with amask, and read-only")
        if not _within(path.parent, self.folder):
            raise BankError(f"{path.parent} leads out of the bank; remove the link itself")
        try:
            path.unlink()
        except OSError as error:
            raise BankError(f"cannot remove {path}: {error.strerror}") from None
        return path


def require(stored: StoredMask, model: Identity | Identified | None) -> None:
    """Refuse a mask that is not for a model; None fits all.

    Raises:
        MaskError: naming both models.
    """
    if model is not None:
        stored.mask.require(model, stored.spec)


def open_mask(spec: str, bank: MaskBank, model: Identity | Identified | None = None) -> StoredMask:
    """A mask of the bank, or of a file: what ends in `.safetensors` is a path, since names never do.

    Raises:
        BankError: there is no such mask.
        MaskError: the file is missing or damaged, or the mask is not for this model.
    """
    if not spec.endswith(SUFFIX):
        return bank.get(spec, model)
    stored = load_mask(Path(spec))
    require(stored, model)
    return stored


def default_folder() -> Path:
    """Where the user's masks are kept: the environment variable AMASK_BANK, else the user's data folder."""
    chosen = os.environ.get("AMASK_BANK")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_data_dir("amask", appauthor=False)) / "bank"


def default_bank() -> MaskBank:
    """The user's bank, with the bundled one behind it."""
    return MaskBank(default_folder(), BUNDLED)


def describe(stored: StoredMask) -> dict[str, Any]:
    """What `amask bank show --json` says of a mask; `geometry` is the number of heads of each masked layer."""
    mask = stored.mask
    return {
        "name": stored.name,
        "version": stored.version,
        "task": mask.task_name,
        "model": mask.identity.name,
        "heads_on": mask.heads_on,
        "heads_total": mask.heads_total,
        "geometry": list(mask.geometry.heads),
        "fingerprint": mask.identity.fingerprint,
        "lineage": dict(mask.lineage),
        "scores": dict(mask.scores),
    }
