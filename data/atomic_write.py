"""The one writer: a file or a folder appears whole or not at all, also if the process is killed or the disk is full."""

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import FileError

_SEAL = 16  # bytes of checksum

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def write_atomic(data: bytes, path: Path, *, exclusive: bool = False, parents: bool = False, durable: bool = True) -> None:
    """Write a file so that nobody ever sees a part of it; what was there before stays if the writing fails.

    Args:
        data: its content.
        path: the file.
        exclusive: leave a file that is already there as it is; of several processes, one succeeds.
        parents: make the folder, and those above it, where they are missing.
        durable: wait until the disk has it. Without, it may be lost, or its content wrong, after a power cut: for what has
            a checksum and can be made again.

    Raises:
        FileExistsError: `exclusive`, and the file is there.
        FileError: it cannot be written; the message has the path and the system's reason.
    """
    part = path.with_name(f".{uuid.uuid4().hex}.part")  # in the same folder, so that it can be moved at once
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("xb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            if exclusive:
                _move_to_free(part, path)
            else:
                part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        if exclusive and isinstance(error, FileExistsError) and path.exists():
            raise
        advice = "free some room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "choose a folder that can be written"
        raise FileError(f"cannot write {path}: {error.strerror or error}; {advice}") from None
    except ValueError as error:  # a NUL in the name
        raise FileError(f"cannot write {str(path)!r}: {error}; choose another name") from None


@contextmanager
def folder_atomic(path: Path) -> Iterator[Path]:
    """A folder that appears under its name when all in it is written, or not at all; one that is there is replaced then.

    Args:
        path: the folder to be.

    Yields:
        Where to write its files.

    Raises:
        FileError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        part.mkdir(parents=True)
        yield part
        if path.exists():
            shutil.rmtree(path)
        part.rename(path)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}; choose a folder that can be written") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _move_to_free(part: Path, path: Path) -> None:
    """Give the written file its name unless that is taken."""
    try:
        os.link(part, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        path.open("xb").close()  # no hard links here: an empty file holds the name for the moment until the next line
        part.replace(path)


def add_checksum(content: bytes) -> bytes:
    """A file's content with a checksum behind it."""
    return content + hashlib.blake2b(content, digest_size=_SEAL).digest()


def strip_checksum(stored: bytes) -> bytes | None:
    """What was sealed; None if a byte of it has changed."""
    content = stored[:-_SEAL]
    return content if add_checksum(content) == stored else None
