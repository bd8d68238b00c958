"""Hugging Face datasets as manifests: a folder that `save_to_disk` wrote, or `hf:NAME[:[CONFIG:]SPLIT]` of the Hub.

`datasets` decodes no audio here (it would need torchcodec): sound that a dataset holds as bytes is put into a cache
folder, once, under the hash of its content, and read from there like any file.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import datasets
import platformdirs
from datasets import Audio, ClassLabel, Dataset, Features
from datasets.exceptions import DatasetsError

from ..errors import DataError
from .files import write_whole
from .inputs import AUDIO_SUFFIXES
from .manifest import Clip, Manifest, Split
from .tasks import builtin_tasks

SOURCE = re.compile(r"hf:([^:]+)(?::([^:\[\]]+))??(?::([^:\[\]]+(?:\[[^\]]*\])?))?")  # lazy: one word more is a split
# Columns that many datasets have → our tasks. A column that is called like a task comes before them.
COLUMNS = {
    "text": "asr",
    "transcription": "asr",
    "sentence": "asr",
    "gender": "gr",
    "emotion": "ser",
    "caption": "aac",
    "translation": "s2tt",
}
GENDERS = {
    **dict.fromkeys(("female", "f", "woman", "feminine", "female_feminine"), "female"),
    **dict.fromkeys(("male", "m", "man", "masculine", "male_masculine"), "male"),
}
TEXT = ("string", "large_string")
SPLITS: dict[str, Split] = {"train": "train", "valid": "dev", "dev": "dev", "test": "test"}  # by a name's beginning


def read_dataset(source: str) -> Manifest:
    """Make a manifest of a dataset: every row a clip, in the order of the dataset.

    Splits become ours by their names: train…, valid… and dev…, test…; any other is `test`.

    Args:
        source: a folder, or `hf:NAME`, `hf:NAME:SPLIT` or `hf:NAME:CONFIG:SPLIT`; a split may be a part of one, such as
            `test[:200]`.

    Raises:
        DataError: the dataset cannot be loaded, or has no column of audio or of labels.
    """
    cache = Path(platformdirs.user_cache_dir("amask", appauthor=False)) / "datasets"
    clips: list[Clip] = []
    for name, part in _load(source).items():
        split: Split = next((ours for start, ours in SPLITS.items() if name.startswith(start)), "test")
        clips += _clips(part, split, cache, f"dataset {source}, split {name or 'without a name'}")
    if not clips:
        raise DataError(f"dataset {source} has no rows")
    return Manifest(tuple(clips), cache)


def _load(source: str) -> dict[str, Dataset]:
    """The dataset's splits by name; the one asked for keeps the name it was asked by."""
    wanted = SOURCE.fullmatch(source)
    if wanted is None and source.startswith("hf:"):
        raise DataError(f"cannot read {source!r}: expected hf:NAME, hf:NAME:SPLIT or hf:NAME:CONFIG:SPLIT")
    split = wanted[3] if wanted else None
    try:
        loaded = datasets.load_dataset(wanted[1], wanted[2], split=split) if wanted else datasets.load_from_disk(source)
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, ImportError, DatasetsError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"cannot load dataset {source}: {reason}") from None
    if isinstance(loaded, Dataset):
        return {split or str(loaded.split or ""): loaded}
    return {str(name): part for name, part in loaded.items()}


def _clips(rows: Dataset, split: Split, cache: Path, where: str) -> Iterator[Clip]:
    sound = _sound_column(rows.features, where)
    columns = _label_columns(rows.features, where)
    try:
        rows = rows.select_columns([sound, *columns.values()]).cast_column(sound, Audio(decode=False))
    except (TypeError, ValueError, NotImplementedError) as error:  # the last is Arrow's
        reason = str(error).partition("\n")[0]
        raise DataError(f"{where}: column {sound!r} is no column of audio: {reason}") from None
    for number, row in enumerate(rows):
        said = {task: _label(task, row[column], rows.features[column]) for task, column in columns.items()}
        path = _file(row[sound] or {}, cache, f"{where}, row {number}")
        yield Clip(path=path, labels={task: label for task, label in said.items() if label}, split=split)


def _sound_column(features: Features, where: str) -> str:
    found = [name for name, feature in features.items() if isinstance(feature, Audio) or name == "audio"]
    if not found:
        raise DataError(f"{where}: no column of audio among {', '.join(features)}; call it 'audio'")
    return found[0]


def _label_columns(features: Features, where: str) -> dict[str, str]:
    """Task → the column of text or classes that holds its labels."""
    usable = [name for name, kind in features.items() if isinstance(kind, ClassLabel) or getattr(kind, "dtype", "") in TEXT]
    found = {task: task for task in builtin_tasks() if task in usable}
    for column, task in COLUMNS.items():
        if column in usable:
            found.setdefault(task, column)
    if not found:
        expected = f"a task ({', '.join(builtin_tasks())}) or {', '.join(COLUMNS)}"
        raise DataError(f"{where}: no column of labels among {', '.join(features)}; call one {expected}, and let it hold text")
    return found


def _label(task: str, value: str | int | None, kind: object) -> str | None:
    """The target text; None where the row has none, or a gender that the task does not know."""
    if isinstance(value, int):
        value = kind.int2str(value) if isinstance(kind, ClassLabel) and value >= 0 else None  # -1: not told
    text = (value or "").strip()
    return GENDERS.get(text.lower()) if task == "gr" else text


def _file(sound: dict, cache: Path, where: str) -> str:
    """Where a row's audio lies: its own file, or the one made of its bytes, within the cache."""
    data, path = sound.get("bytes"), sound.get("path")
    if data is None:
        if not path:
            raise DataError(f"{where}: it has no audio, neither bytes nor a path")
        return str(Path(path).absolute())
    suffix = Path(path or "").suffix.lower()
    file = cache / (hashlib.sha256(data).hexdigest()[:32] + (suffix if suffix in AUDIO_SUFFIXES else ""))
    if not file.exists():
        write_whole(data, file, parents=True)
    return file.name
