"""`MaskBank`: a folder of masks that several processes may use at once, with a read-only bundled bank behind it.

A mask lies at `NAME/VERSION.safetensors`; versions of a name are 1, 2, 3 … over both folders. Nothing is ever changed in
place: a new mask is a new version. A name alone means its default version for the model, see `defaults`.
"""

import difflib
import itertools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import platformdirs

from ..data.tasks import BAR, TaskSpec, collect_tasks, parse_task
from ..errors import BankError, MaskError
from ..lalm.identity import Identified, Identity, identity_of
from . import versions
from .ahamask_files import ENDINGS, default_name, import_ahamask, is_ahamask_file
from .defaults import Added, decide_default, unsound_reason
from .files import SUFFIX, StoredMask, load_mask, save_mask
from .mask import HeadMask
from .versions import Versions, parse_spec

BUNDLED = Path(__file__).parent / "bundled"


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=4)


@dataclass(frozen=True, repr=False)
class MaskBank:
    """Masks by name and version; as a mapping, from each name to its default.

    Attributes:
        folder: where masks are kept; made when the first one is added.
        bundled: a read-only bank behind it; its versions count on, so `asr@1` never means two masks by our doing.
        warn: is given a sentence for each damaged file that a look-up by name has passed over.
    """

    folder: Path
    bundled: Path | None = None
    warn: Callable[[str], None] = field(default=_warn, compare=False)

    @classmethod
    def default(cls) -> "MaskBank":
        """The user's bank, with the bundled one behind it.

        Example:
            >>> bank = amask.MaskBank.default()
            >>> "gr" in bank
            True
            >>> bank.get("gr", amask.load_model("pocket")).task_name
            'gr'
        """
        return cls(default_folder(), BUNDLED)

    def __reduce__(self) -> tuple[type["MaskBank"], tuple[Path, Path | None]]:
        """Its folders: another process gives warnings in its own way."""
        return type(self), (self.folder, self.bundled)

    def __repr__(self) -> str:
        """`MaskBank('/home/me/.local/share/amask/bank', 12 names)`."""
        try:
            return f"MaskBank({str(self.folder)!r}, {len(self)} names)"
        except BankError:
            return f"MaskBank({str(self.folder)!r}, unreadable)"

    def __len__(self) -> int:
        """The number of names."""
        return len(self.names())

    def __iter__(self) -> Iterator[str]:
        """All names, sorted."""
        return iter(self.names())

    def __contains__(self, spec: object) -> bool:
        """Whether there is a mask of this name, or of this name and version."""
        try:
            return isinstance(spec, str) and bool(self._found(spec))
        except BankError:
            return False

    def __getitem__(self, spec: str) -> StoredMask:
        """The same as `get`."""
        return self.get(spec)

    @property
    def _roots(self) -> tuple[Path, ...]:
        return (self.folder,) if self.bundled is None else (self.folder, self.bundled)

    def _read(self, name: str, *, fresh: bool = False) -> Versions:
        return versions.read_versions(self._roots, name, fresh=fresh)

    def _found(self, spec: str) -> dict[int, Path]:
        """The files that a spec may mean, oldest first; at least one."""
        name, version = parse_spec(spec)
        files = versions.list_versions(self._roots, name)
        if version in files:
            return {version: files[version]}
        if files and version is None:
            return files
        if files:
            have = ", ".join(f"{name}@{number}" for number in files)
            raise BankError(f"no mask {spec!r} in the bank; there is {have}")
        names = self.names()
        have = f"there are {', '.join(names)}" if names else f"the bank {self.folder} is empty; see 'amask bank train'"
        raise BankError(f"no mask {spec!r} in the bank; {_near(name, names)}{have}")

    def _one(self, spec: str, what: str) -> tuple[str, int, Path]:
        """The name, version and file of a spec that means one version."""
        name, _ = parse_spec(spec)
        files = self._found(spec)
        if len(files) > 1:
            have = ", ".join(f"{name}@{number}" for number in files)
            raise BankError(f"{name!r} has several versions: say which of {have} to {what}")
        return name, *next(iter(files.items()))

    def snapshot(self) -> "BankSnapshot":
        """The bank as it is now: all that belongs to one request is looked up in one state of it, which is read once."""
        return BankSnapshot(self.folder, self.bundled, self.warn)

    def names(self) -> tuple[str, ...]:
        """All names that have a version, sorted."""
        folders = itertools.chain.from_iterable(versions.children(root) for root in self._roots)
        return tuple(sorted({path.name for path in folders if versions.is_name(path.name) and versions.files_of(path)}))

    def list(self) -> tuple[StoredMask, ...]:
        """All masks by name and version; damaged files are left out, and `verify` names them."""
        return tuple(stored for name in self.names() for stored in self._read(name).masks)

    def defaults(self) -> frozenset[str]:
        """The full names, such as `gr@2`, of all masks that are the default of their name and model."""
        return frozenset(stored.spec for name in self.names() for stored in self._read(name).defaults.values())

    def get(self, spec: str, model: Identity | Identified | None = None) -> StoredMask:
        """The mask of a name and version, or a name's default for a model.

        A damaged version is passed over with a warning, unless it is asked for by its number.

        Args:
            spec: `name` or `name@version`.
            model: what the mask is to be used with; None fits all.

        Raises:
            BankError: there is no such mask; the message lists near names.
            MaskError: it is damaged, or none of the name's masks is for this model.
        """
        files = self._found(spec)
        name, version = parse_spec(spec)
        if version is not None:
            return _first_for([versions.load_version(self._roots, files[version])], model)
        read = self._read(name)
        if not read.masks:
            raise list(read.damaged.values())[-1]
        for problem in read.problems.values():
            self.warn(problem)
        return _first_for(
            sorted(read.defaults.values(), key=lambda mask: (not unsound_reason(mask), mask.version), reverse=True), model
        )

    def for_task(self, task: TaskSpec | str, model: Identity | Identified | None = None) -> StoredMask:
        """The mask that does a task, whatever it is called.

        Of several, those that are their names' defaults come first, and among them the one that is called like the task.

        Args:
            task: the task, or its name, such as `gr-asr` or `gr|asr`.
            model: what the mask is to be used with; None fits all.

        Raises:
            BankError: no mask does it; the message lists the tasks that there are.
            MaskError: there are some, but none is for this model.
        """
        name = task.name if isinstance(task, TaskSpec) else task.lower().replace(" ", "").replace(BAR, "-")
        keys = task.json_keys if isinstance(task, TaskSpec) else None
        having = [stored for stored in self.list() if stored.task_name == name]
        if not having:
            there = [spec.name for spec in self.tasks(model)]
            have = f"there are masks for {', '.join(there)}" if there else "it has no mask of any task for this model"
            raise BankError(f"no mask for the task {name!r} in the bank; {_near(name, there)}{have}; see 'amask bank train'")
        preferred = self.defaults()

        def rank(stored: StoredMask) -> tuple[bool, ...]:
            same_keys = stored.task is not None and stored.task.json_keys == keys
            return (same_keys, stored.spec in preferred, stored.name == name, not unsound_reason(stored))

        return _first_for(sorted(having, key=rank, reverse=True), model)

    def tasks(self, model: Identity | Identified | None = None) -> tuple[TaskSpec, ...]:
        """The tasks that there are masks for, by name; with a model, masks for it."""
        fitting = [stored for stored in self.list() if model is None or stored.identity.same(identity_of(model))]
        found = {stored.task_name: stored.task for stored in fitting if stored.task}
        return tuple(found[name] for name in sorted(found))

    def parse_task(self, name: str) -> TaskSpec:
        """Read a task's name: of the built-in tasks, those of `tasks.toml` in the bank's folder, and those of its masks.

        Raises:
            DataError: a part is unknown, or the file cannot be read.
        """
        known = {part.name: part for spec in self.tasks() for part in spec.parts}
        return parse_task(name, known | collect_tasks(self.folder))

    def holds(self, path: Path) -> bool:
        """Whether a file is one of the bank's."""
        return any(path.is_relative_to(root) for root in self._roots)

    def verify(self) -> tuple[tuple[Path, str], ...]:
        """Read every file of the bank whole: (path, problem) of each that is damaged or out of place."""
        problems = {path: why for name in self.names() for path, why in self._read(name, fresh=True).problems.items()}
        for root in self._roots:
            for path in sorted(root.rglob(f"*{SUFFIX}")):
                if not versions.is_place(path.relative_to(root).parts):
                    problems[path] = f"{path} is not at NAME/VERSION{SUFFIX}, so it is never used: import or remove it"
        return tuple(problems.items())

    def add(self, mask: HeadMask, name: str) -> Added:
        """Store a mask as the next version of a name; processes that do so at once get different versions.

        It becomes the default of its name and model where there is none yet, or where it is sound (not all of its heads are
        on, and it is not imported) and no worse on the same dev clips. The same mask is not stored twice, unless its lineage
        holds what that of the stored one does not, such as the record of a composition, or one that came to another end.

        Raises:
            BankError: the name is not one, or the bank cannot be written.
            FileError: the file cannot be written.
            MaskError: lineage or scores hold what JSON cannot.
        """
        name, version = parse_spec(name)
        if version is not None:
            raise BankError(f"a stored mask gets its version from the bank; say {name!r} without @{version}")
        with versions.locked(self.folder, name) as folder:
            before, fingerprint = versions.read_versions(self._roots, name), mask.identity.fingerprint
            old = before.defaults.get(fingerprint)
            for same in before.masks:
                if same.digest == mask.digest and _lineage_keys(mask) <= _lineage_keys(same):
                    return Added(same, same is old, f"{same.spec} is the same mask, so it is not stored again")
            added = decide_default(self._save(mask, name, folder), old, fingerprint in before.chosen)
            if added.default and old is not None:
                versions.choose(folder, fingerprint, added.stored.version)
            return added

    def _save(self, mask: HeadMask, name: str, folder: Path) -> StoredMask:
        """Write the next version of a name."""
        given = versions.list_versions(self._roots, name).keys() | versions.removed_from(folder)
        for free in itertools.count(1 + max(given, default=0)):
            try:
                return save_mask(mask, name, free, folder / f"{free}{SUFFIX}", exclusive=True)
            except FileExistsError:  # another process took this version, where files cannot be locked
                continue
        raise AssertionError

    def use(self, spec: str) -> StoredMask:
        """Make a version the default of its name, for the model that it belongs to.

        Raises:
            BankError: there is no such mask, the name has several versions, or the bank cannot be written.
            MaskError: it is damaged.
        """
        name, version, path = self._one(spec, "use")
        stored = versions.load_version(self._roots, path)
        with versions.locked(self.folder, name) as folder:
            versions.choose(folder, stored.identity.fingerprint, version)
        return stored

    def remove(self, spec: str) -> Path:
        """Delete one version, damaged or not; a name alone will do where it has only one. Its number is not given again.

        Returns:
            The deleted file.

        Raises:
            BankError: there is no such mask, the name has several versions, it is bundled, or it cannot be deleted.
        """
        name, version, path = self._one(spec, "remove")
        if not path.is_relative_to(self.folder):
            raise BankError(f"cannot remove {name}@{version}: it is bundled with amask, and read-only")
        with versions.locked(self.folder, name) as folder:
            versions.mark_removed(folder, version)
            try:
                path.unlink()
            except OSError as error:
                raise BankError(f"cannot remove {path}: {error.strerror}") from None
            versions.forget(folder, version)
        return path


class BankSnapshot(MaskBank):
    """A bank of which each name is read once, when it is first asked for anything."""

    @cached_property
    def _versions(self) -> dict[str, Versions]:
        return {name: versions.read_versions(self._roots, name) for name in super().names()}

    def names(self) -> tuple[str, ...]:
        """All names that had a version, sorted."""
        return tuple(self._versions)

    def _read(self, name: str, *, fresh: bool = False) -> Versions:
        return super()._read(name, fresh=fresh) if fresh or name not in self._versions else self._versions[name]

    def snapshot(self) -> "BankSnapshot":
        """Itself."""
        return self


def _lineage_keys(mask: HeadMask) -> set[tuple[str, object]]:
    """What a lineage tells: its entries, and of one that measured something against a target how that came out."""
    return {(key, value.get("reached") if isinstance(value, Mapping) else None) for key, value in mask.lineage.items()}


def _near(name: str, names: Iterable[str]) -> str:
    """`did you mean gr? `, or nothing."""
    near = difflib.get_close_matches(name, list(names), n=3)
    return f"did you mean {' or '.join(near)}? " if near else ""


def _first_for(masks: Iterable[StoredMask], model: Identity | Identified | None) -> StoredMask:
    """The first of some masks that is for a model; None fits all."""
    misfit: MaskError | None = None
    for stored in masks:
        if model is None:
            return stored
        try:
            stored.require(model)
        except MaskError as error:
            misfit = misfit or error
        else:
            return stored
    raise misfit or AssertionError


def open_mask(spec: str, bank: MaskBank, model: Identity | Identified | None = None) -> StoredMask:
    """A mask of the bank, or of a file: what ends in `.safetensors`, `.pth` or `.pt` is a path, since names never do.

    Raises:
        BankError: there is no such mask.
        MaskError: the file is missing or damaged, or the mask is not for this model.
    """
    path = Path(spec)
    if path.suffix not in (SUFFIX, *ENDINGS):
        return bank.get(spec, model)
    theirs = is_ahamask_file(path)
    return _first_for([StoredMask.of(import_ahamask(path)[0], default_name(path), 1, path) if theirs else load_mask(path)], model)


def default_folder() -> Path:
    """Where the user's masks are kept: the environment variable AMASK_BANK, else the user's data folder."""
    chosen = os.environ.get("AMASK_BANK")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_data_dir("amask", appauthor=False)) / "bank"
