"""Hugging Face datasets as manifests: a folder that `save_to_disk` wrote, or `hf:NAME[:[CONFIG:]SPLIT]` of the Hub.

`datasets` decodes no audio here (it would need torchcodec): sound that a dataset holds as bytes is put into a cache
folder, once, under the hash of its content, and read from there like any file.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import datasets
from datasets import Audio, ClassLabel, Dataset, Features
from datasets.exceptions import DatasetsError

from ..errors import DataError
from .atomic_write import write_atomic
from .cache import USUAL_GB, cache_bytes, cache_folder, trim_folder
from .columns import labels_of
from .decoding import AUDIO_SUFFIXES
from .folders import split_of
from .manifest import Clip, Manifest, Split, draw_splits

SOURCE = re.compile(r"hf:([^:]+)(?::([^:\[\]]+))??(?::([^:\[\]]+(?:\[[^\]]*\])?))?")  # lazy: one word more is a split
TEXT = ("string", "large_string")


def read_dataset(source: str) -> Manifest:
    """Make a manifest of a dataset: every row a clip, in the order of the dataset.

    Splits become ours by their names: train…, valid… and dev…, test…; any other is `test`. A folder with one split only is
    divided, see `draw_splits`.

    Args:
        source: a folder, or `hf:NAME`, `hf:NAME:SPLIT` or `hf:NAME:CONFIG:SPLIT`; a split may be a part of one, such as
            `test[:200]`.

    Raises:
        DataError: the dataset cannot be loaded, or has no column of audio or of labels.
    """
    most = cache_bytes() or round(USUAL_GB * 1e9)  # 0 keeps no features, but clips must lie somewhere
    sounds = _Sounds(cache_folder() / "datasets", most, source)
    clips: list[Clip] = []
    splits = _load(source)
    for name, part in splits.items():
        split = split_of(name) or "test"
        clips += _clips(part, split, sounds, f"dataset {source}, split {name or 'without a name'}")
    if not clips:
        raise DataError(f"dataset {source} has no rows")
    trim_folder(sounds.folder, sounds.most, frozenset(sounds.names))
    told = len(splits) > 1 or source.startswith("hf:")
    return Manifest(tuple(clips) if told else draw_splits(clips), sounds.folder, splits_drawn=not told)


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


def _clips(rows: Dataset, split: Split, sounds: "_Sounds", where: str) -> Iterator[Clip]:
    sound = _sound_column(rows.features, where)
    columns = _label_columns(rows.features, sound, where)
    try:
        rows = rows.select_columns([sound, *columns]).cast_column(sound, Audio(decode=False))
    except (TypeError, ValueError, NotImplementedError) as error:  # the last is Arrow's
        reason = str(error).partition("\n")[0]
        raise DataError(f"{where}: column {sound!r} is no column of audio: {reason}") from None
    for number, row in enumerate(rows):
        labels = labels_of({column: _value(row[column], rows.features[column]) for column in columns})
        path = sounds.place(row[sound] or {}, f"{where}, row {number}")
        yield Clip(path=path, labels=labels, split=split)


def _sound_column(features: Features, where: str) -> str:
    found = [name for name, feature in features.items() if isinstance(feature, Audio) or name == "audio"]
    if not found:
        raise DataError(f"{where}: no column of audio among {', '.join(features)}; call it 'audio'")
    return found[0]


def _label_columns(features: Features, sound: str, where: str) -> list[str]:
    """The columns of text or classes beside that of the sound; the rest can be no labels."""
    usable = [name for name, kind in features.items() if isinstance(kind, ClassLabel) or getattr(kind, "dtype", "") in TEXT]
    found = [name for name in usable if name != sound]
    if not found:
        raise DataError(f"{where}: no column of labels among {', '.join(features)}; let one hold text or classes")
    return found


def _value(value: str | int | None, kind: object) -> str | None:
    """What a row says: a class by its name; -1 is a class that was not told."""
    if isinstance(value, int):
        return kind.int2str(value) if isinstance(kind, ClassLabel) and value >= 0 else None
    return value


@dataclass
class _Sounds:
    """The folder that sound held as bytes is put into, and what of it one dataset has taken.

    Attributes:
        folder: where the files lie.
        most: bytes that they may take.
        source: the dataset, for messages.
        names: of its files there.
        size: their bytes.
    """

    folder: Path
    most: int
    source: str
    names: set[str] = field(default_factory=set)
    size: int = 0

    def place(self, sound: dict, where: str) -> str:
        """Where a row's audio lies: its own file, or the one made of its bytes, within the folder."""
        data, path = sound.get("bytes"), sound.get("path")
        if data is None:
            if not path:
                raise DataError(f"{where}: it has no audio, neither bytes nor a path")
            return str(Path(path).absolute())
        suffix = Path(path or "").suffix.lower()
        name = hashlib.sha256(data).hexdigest()[:32] + (suffix if suffix in AUDIO_SUFFIXES else "")
        if name not in self.names:
            self.size += len(data)
            self.names.add(name)
        if self.size > self.most:
            advice = "raise AMASK_CACHE_GB, or take a part of it, such as 'test[:500]'"
            raise DataError(f"dataset {self.source} is larger than the {self.most / 1e9:g} GB that may be kept; {advice}")
        file = self.folder / name
        if file.exists():
            os.utime(file)
        else:
            write_atomic(data, file, parents=True)
        return name
