"""Hashes of files, kept by path, size and time, so that a file that has not changed is not read whole again."""

import hashlib
import time
from functools import lru_cache
from pathlib import Path

from .cache import DiskCache, cache_bytes, cache_folder

MAX_BYTES = 2**28  # of hashes on disk: those of some million files
SETTLED_NS = 2_000_000_000  # a file that changed a moment ago could change once more within its time's resolution


def file_digest(path: Path) -> bytes:
    """SHA-256 of a file's content; read anew where its size or time has changed.

    Raises:
        OSError: it cannot be read.
        ValueError: there is a NUL in its name.
    """
    found = path.stat()
    if time.time_ns() - found.st_mtime_ns < SETTLED_NS:
        return hashlib.sha256(path.read_bytes()).digest()
    cache = _cache(cache_folder(), min(MAX_BYTES, cache_bytes()))
    about = f"{path.absolute()} {found.st_size} {found.st_mtime_ns}".encode(errors="surrogateescape")
    key = hashlib.sha256(about).hexdigest()[:32]
    known = cache.get(key)
    if known is not None and len(known) == hashlib.sha256().digest_size:
        return known
    digest = hashlib.sha256(path.read_bytes()).digest()
    cache.put(key, digest)
    return digest


@lru_cache(maxsize=4)
def _cache(folder: Path, most: int) -> DiskCache:
    return DiskCache(folder / "digests", most)
