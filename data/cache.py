"""A folder of things that can be made again: bounded, safe between processes, and never in the way.

An entry is a file with a checksum behind its content. What is read last stays longest. A broken entry counts as absent, and
where nothing can be written the work goes on without.
"""

import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import platformdirs

from ..errors import DataError, FileError
from .atomic_write import add_checksum, strip_checksum, write_atomic

USUAL_GB = 20.0
SLACK = 20  # the folder is measured again when a 20th of what it may hold has been written
KEEP = 0.9  # of what the folder may hold, after the oldest entries are deleted

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where amask keeps what it can make again: AMASK_CACHE, else the user's cache folder."""
    chosen = os.environ.get("AMASK_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("amask", appauthor=False))


def cache_bytes() -> int:
    """How many bytes of features are kept there: AMASK_CACHE_GB, 20 by default; 0 keeps none.

    Raises:
        DataError: it is no number.
    """
    given = os.environ.get("AMASK_CACHE_GB", str(USUAL_GB))
    try:
        size = float(given)
    except ValueError:
        size = -1.0
    if not 0 <= size < float("inf"):
        raise DataError(f"AMASK_CACHE_GB is {given!r}; expected how many gigabytes may be kept, such as 20, or 0 for none")
    return round(size * 1e9)


@dataclass(frozen=True)
class _Entry:
    used: float
    size: int
    path: Path


class DiskCache:
    """Bytes by key, in a folder; several threads and processes may use it at once.

    Args:
        folder: made when the first entry is written.
        most: bytes that it may hold; a little more while several processes write. 0 keeps nothing.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self.folder, self.most = folder, most
        self._held: int | None = None  # bytes in the folder when it was measured, and written by us since
        self._since = 0
        self._failed = False
        self._warned = False
        self._opened = time.time()
        self._lock = Lock()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key

    def __contains__(self, key: str) -> bool:
        """Whether there is an entry; it may still be a broken one."""
        return os.path.isfile(self._path(key))  # unlike Path.is_file, False also where looking is not allowed

    def get(self, key: str) -> bytes | None:
        """An entry's content; None where there is none, or a broken one, which is deleted."""
        path = self._path(key)
        try:
            content = strip_checksum(path.read_bytes())
            if content is None:
                path.unlink(missing_ok=True)
            else:
                os.utime(path)
        except OSError:
            return None
        return content

    def put(self, key: str, content: bytes) -> None:
        """Keep an entry; where that fails, a warning says so once, and no more is kept."""
        sealed = add_checksum(content)
        if self._failed or len(sealed) > self.most:
            return
        try:
            self._make_room(len(sealed))
            write_atomic(sealed, self._path(key), parents=True, durable=False)
        except FileError as error:
            self._failed = True
            _log.warning("going on without a cache: %s, or choose another by AMASK_CACHE", error)

    def _make_room(self, size: int) -> None:
        with self._lock:
            if self._held is None or self._held + size > self.most or self._since > self.most / SLACK:
                entries = self._entries()
                held = sum(entry.size for entry in entries)
                self._held = self._without_oldest(entries, held, size) if held + size > self.most else held
                self._since = 0
            self._held += size
            self._since += size

    def _without_oldest(self, entries: list[_Entry], held: int, size: int) -> int:
        """Delete what was read longest ago until there is room; how many bytes are left."""
        for entry in sorted(entries, key=lambda entry: entry.used):
            if held + size <= KEEP * self.most:
                break
            try:
                entry.path.unlink(missing_ok=True)
            except OSError:  # another user's, or in use; the next one will do
                continue
            held -= entry.size
            if entry.used > self._opened and not self._warned:
                self._warned = True
                words = "%s holds %.1f GB, less than this run uses, so that things are made again and again; raise AMASK_CACHE_GB"
                _log.warning(words, self.folder, self.most / 1e9)
        return held

    def _entries(self) -> list[_Entry]:
        """All files of the folder, those half written by killed processes included."""
        found = []
        for place, _, names in os.walk(self.folder):
            for name in names:
                path = Path(place, name)
                try:
                    about = path.stat()
                except OSError:  # deleted by another process
                    continue
                found.append(_Entry(about.st_mtime, about.st_size, path))
        return found


def trim_folder(folder: Path, most: int, keep: frozenset[str]) -> None:
    """Delete the files of a folder that were not used for longest, until it holds at most so many bytes.

    Args:
        folder: with files and no folders.
        most: bytes.
        keep: names of files that are in use.
    """
    try:
        found = [(path.stat().st_mtime, path.stat().st_size, path) for path in folder.iterdir() if path.is_file()]
    except OSError:
        return
    size = sum(each[1] for each in found)
    for _, bytes_, path in sorted(found):
        if size <= most:
            return
        if path.name not in keep:
            with suppress(OSError):  # another user's, or in use
                path.unlink()
                size -= bytes_
