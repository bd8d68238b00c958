"""Folders of audio files as manifests, laid out as the `audiofolder` of `datasets` takes them.

`datasets` itself would need torchcodec for them. A folder has `metadata.csv` or `metadata.jsonl` with a column
`file_name`, or its files lie in a folder for each class; either may lie in folders that are called like splits.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import DataError
from .columns import labels_of
from .decoding import AUDIO_SUFFIXES
from .manifest import SPLIT_NAMES, Clip, Manifest, Split, draw_splits

METADATA = ("metadata.csv", "metadata.jsonl")


def is_audio_folder(folder: Path) -> bool:
    """Whether a folder has metadata, or audio files in folders of its own, which may lie in folders called like splits."""
    if not folder.is_dir():
        return False
    metadata = any(path.name in METADATA for pattern in ("*", "*/*") for path in folder.glob(pattern))
    places = [folder, *(path for path in folder.iterdir() if path.is_dir() and split_of(path.name))]
    return metadata or any(path.suffix.lower() in AUDIO_SUFFIXES for place in places for path in place.glob("*/*"))


def read_audio_folder(folder: Path) -> Manifest:
    """Make a manifest of a folder of audio files: every file a clip, in the order of the names.

    Raises:
        DataError: metadata cannot be read, or lack the column `file_name`.
    """
    parts = {path.name: split for path in folder.iterdir() if path.is_dir() and (split := split_of(path.name))}
    clips: list[Clip] = []
    for name, split in sorted(parts.items()):
        clips += [Clip(path=path, labels=labels, split=split) for path, labels in _rows(folder / name, folder)]
    if not parts:
        clips = [Clip(path=path, labels=labels) for path, labels in _rows(folder, folder)]
    if not clips:
        raise DataError(
            f"folder {folder} has no clips; expected metadata.csv with a column file_name, or a folder for each class"
        )
    return Manifest(tuple(clips) if parts else draw_splits(clips), folder, splits_drawn=not parts)


def split_of(name: str) -> Split | None:
    """Our split for a name such as `validation` or `train.100`; None where it is none."""
    return next((ours for start, ours in SPLIT_NAMES.items() if name.lower().startswith(start)), None)


def _rows(folder: Path, root: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Each file's path from the root, and its labels."""
    files = [folder / name for name in METADATA if (folder / name).is_file()]
    if not files:
        found = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in AUDIO_SUFFIXES)
        yield from ((str(path.relative_to(root)), {"label": path.parent.name}) for path in found)
        return
    for number, row in enumerate(_read(files[0]), 1):
        where = f"{files[0]}, row {number}"
        if None in row:  # what `csv` calls the values behind the last column
            raise DataError(f"{where}: it has more values than the {len(row) - 1} columns of the head; quote those with commas")
        name = row.pop("file_name", None)
        if not name or not isinstance(name, str):
            raise DataError(f"{where}: there is no file_name")
        path = folder / name  # an absolute name stays what it is
        yield str(path.relative_to(root) if path.is_relative_to(root) else path), labels_of(row)


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            if file.suffix == ".csv":
                return list(csv.DictReader(stream))
            return [dict(json.loads(line)) for line in stream if line.strip()]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise DataError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from None
