"""Manifests out of files: ours (JSONL, one clip a line), the AHAMask authors' (`{"annotation": [...]}`), data sets.

A line of ours has `path` and `labels`. A line without `labels` is read column by column: what is not a field of `Clip` is a
label under the column's name, and usual columns (`text`, `gender`, `emotion`, `caption` …) are also labels of the task
that they belong to. Where no clip says its split, one is drawn by speaker.
"""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic

from ..errors import DataError
from .columns import labels_of
from .corpora import is_corpus, read_corpus
from .folders import is_audio_folder, read_audio_folder
from .manifest import Clip, Manifest, draw_splits

# The authors' task names → ours.
AUTHORS_TASKS = {
    "asr": "asr",
    "gender_recognition": "gr",
    "emotion_recognition": "ser",
    "speaker_verification": "asv",
    "audiocaption": "aac",
    "audiocaption_v2": "aac",
    "overlap_asr": "osr",
    "translation_ec": "s2tt",
    "en2zh": "s2tt",
}
MANIFEST = "manifest.jsonl"
DATASET_FILES = ("dataset_dict.json", "state.json")  # what `save_to_disk` leaves in a folder


def _from_authors(entry: object, where: str) -> Clip:
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("path", "text")):
        raise DataError(f"{where}: an annotation needs 'path' and 'text', both strings")
    more = entry.get("expand_wav") or []
    if not isinstance(more, list) or not all(isinstance(path, str) for path in more):
        raise DataError(f"{where}: 'expand_wav' must be a list of the files that follow 'path'")
    task = str(entry.get("task", "asr"))
    labels = labels_of({AUTHORS_TASKS.get(task, task): entry["text"]})
    return Clip(path=str(entry["path"]), more=tuple(more), labels=labels, instruction=str(entry.get("Q") or ""))


def _columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without `labels` as one of ours."""
    fields = {name: value for name, value in row.items() if name in Clip.model_fields and value not in (None, "")}
    columns = {name: value for name, value in row.items() if name not in Clip.model_fields or name == "text"}
    return fields | {"labels": labels_of(columns)}


def _misspelt(row: Mapping[str, Any]) -> bool:
    """Whether a table in a row seems to be meant as its `labels`."""
    tables = [name for name, value in row.items() if isinstance(value, dict)]
    return bool(difflib.get_close_matches("labels", tables, cutoff=0.8))


def _from_line(line: str, where: str) -> Clip:
    try:
        row = json.loads(line)
        if isinstance(row, dict) and "labels" not in row and not _misspelt(row):
            row = _columns(row)
        return Clip.model_validate_json(json.dumps(row))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "line"
        raise DataError(f"{where}: {field}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: line: Invalid JSON: {error}") from None


def is_dataset(path: Path) -> bool:
    """Whether a Hugging Face dataset is meant: `hf:NAME…`, or what `save_to_disk` has written."""
    return str(path).startswith("hf:") or any((path / name).is_file() for name in DATASET_FILES)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest in our format (.jsonl) or the authors' (.json), or make one of a Hugging Face dataset.

    A folder means its manifest.jsonl; without one it may be a data set that `save_to_disk` wrote, or one of audio files (see
    `folders`). `hf:NAME` is a dataset of the Hub (see `hub`), `librispeech:test-clean` a well-known corpus (see `corpora`).

    Raises:
        DataError: the file is missing, empty or malformed; the message names the line.
    """
    if is_dataset(path):
        from .hub import read_dataset  # noqa: PLC0415 (a second to import)

        return read_dataset(str(path))
    if is_corpus(str(path)):
        return read_corpus(str(path))
    if not (path / MANIFEST).exists() and is_audio_folder(path):
        return read_audio_folder(path)
    if path.is_dir() and not (path / MANIFEST).exists():
        expected = f"{MANIFEST}, metadata.csv with a column file_name, or a folder of clips for each class"
        raise DataError(f"folder {path} is no data set; expected {expected}")
    try:
        path = path / MANIFEST if path.is_dir() else path
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the name
        raise DataError(f"cannot read manifest {path}: {getattr(error, 'strerror', None) or error}") from None
    if path.suffix == ".json":
        try:
            entries = json.loads(text)["annotation"]
        except (ValueError, KeyError, TypeError, RecursionError):
            entries = None
        if not isinstance(entries, list):
            raise DataError(f"manifest {path}: expected JSON of the form {{'annotation': [...]}}")
        clips = [_from_authors(entry, f"{path}, annotation {number}") for number, entry in enumerate(entries)]
    else:
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        clips = [_from_line(line, f"{path}, line {number}") for number, line in lines]
    if not clips:
        raise DataError(f"manifest {path} has no clips")
    told = any("split" in clip.model_fields_set for clip in clips)
    return Manifest(tuple(clips) if told else draw_splits(clips), path.parent, splits_drawn=not told)
