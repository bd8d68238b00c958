"""Where clips of a bulk run come from: files, folders, Parquet, tables and data sets in memory; each clip with its id."""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..data.decoding import AUDIO_SUFFIXES, printable_path
from ..data.manifest import Clip as ListedClip
from ..data.manifest import Manifest
from ..data.reading import MANIFEST, read_manifest
from ..errors import AudioError, DataError
from .clips import Clip, NamedClip, is_one_clip

AUDIO_COLUMNS, PATH_COLUMNS, ID_COLUMNS = ("audio", "bytes"), ("path", "file"), ("id", "key")
AUDIO_KEYS = frozenset({"array", "bytes", "path", "sampling_rate"})  # of an audio dict of `datasets`; a row has more
TABLE_ROWS = 64  # rows of a table that are read at once

BulkSource = Path | str | Manifest | Iterable[Any] | Any
"""A manifest or its file, a folder of clips, Parquet; a table of pandas or pyarrow, or a data set of `datasets`, with a column
of audio; or an iterable of clips."""


@dataclass(frozen=True)
class BulkClip:
    """A clip and its id.

    Attributes:
        id: of its row, else of its content.
        name: what it is called; empty where it has no name.
        clip: what the pipeline hears.
        error: why there is none.
    """

    id: str
    name: str
    clip: Clip = None
    error: str = ""


def prepare_source(source: BulkSource) -> BulkSource:
    """The same source, checked, as `read_clips` takes it.

    Raises:
        DataError: it is one clip in memory, or nothing that holds clips.
    """
    if isinstance(source, str | Path):
        return Path(source).absolute()
    if isinstance(source, Manifest):
        return Manifest(source.clips, source.folder.absolute())
    if isinstance(source, pa.Table) or hasattr(source, "cast_column"):
        return source
    if hasattr(source, "__arrow_c_stream__"):
        return _as_table(source)
    if is_one_clip(source):
        raise DataError(f"expected several clips, got a {type(source).__name__}; put it into a list, or give a folder or a table")
    return source


def _as_table(source: object) -> pa.Table:
    try:
        return pa.table(source)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"cannot read the {type(source).__name__}: {error}; give a list of clips instead") from None


def read_clips(source: BulkSource, rate: int, folder: Path) -> Iterator[BulkClip]:
    """The clips of a source.

    Rows of Parquet, of tables and of data sets have `audio` (bytes, or a struct with bytes, a path or samples, as `datasets`
    writes it) or `path`, and may have `id`. An id that is not given is of the path and the content, or of the content alone
    where there is no path.

    Args:
        source: see `BulkSource`, as `prepare_source` gives it.
        rate: Hz at which clips of several files are joined.
        folder: to which paths in tables and lists in memory are relative.

    Raises:
        DataError: there are none, or a table has no audio.
    """
    if isinstance(source, Path):
        yield from _read_path(source, rate)
    elif isinstance(source, Manifest):
        yield from _read_manifest(source, rate)
    elif isinstance(source, pa.Table):
        audio, ids = _columns(source.column_names, "the table")
        yield from _read_rows(source.to_batches(TABLE_ROWS), audio, ids, folder, "the table")
    else:
        for number, value in enumerate(_undecoded(source), 1):
            yield _from_value(value, f"clip {number}", folder)


def _undecoded(source: Any) -> Iterable[Any]:  # noqa: ANN401 - a data set, or any iterable of clips
    """A data set without its decoder of audio, as its bytes tell more; anything else as it is."""
    if not hasattr(source, "cast_column"):
        return source
    from datasets import Audio  # noqa: PLC0415 - takes a second

    for name, feature in (source.features or {}).items():
        if isinstance(feature, Audio):
            source = source.cast_column(name, Audio(decode=False))
    return source


def _read_path(source: Path, rate: int) -> Iterator[BulkClip]:
    tables = [source] if source.suffix == ".parquet" else sorted(source.glob("*.parquet")) if source.is_dir() else []
    if tables:
        for table in tables:
            yield from _read_parquet(table)
        return
    manifest = _list_folder(source) if source.is_dir() and not (source / MANIFEST).exists() else read_manifest(source)
    yield from _read_manifest(manifest, rate)


def _list_folder(folder: Path) -> Manifest:
    """All clips below a folder, by name."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file())
    if not files:
        raise DataError(f"there is no clip in {printable_path(folder)}; expected {MANIFEST}, Parquet files, or audio files")
    return Manifest(tuple(ListedClip(path=path.relative_to(folder).as_posix()) for path in files), folder)


def _read_manifest(manifest: Manifest, rate: int) -> Iterator[BulkClip]:
    for clip in manifest:
        try:
            key = _hash(_text_bytes(f"{clip.path}\n{manifest.digest(clip)}"))
            heard = (manifest.wave(clip, rate), rate) if clip.more else manifest.path(clip)
        except AudioError as error:
            yield BulkClip(_hash(_text_bytes(clip.path)), clip.path, error=str(error))
        else:
            yield BulkClip(key, clip.path, NamedClip(clip.path, heard))


def _read_parquet(path: Path) -> Iterator[BulkClip]:
    name = printable_path(path)
    try:
        file = pq.ParquetFile(path)
        audio, ids = _columns(file.schema_arrow.names, name)
        batches = file.iter_batches(TABLE_ROWS, columns=[audio, *([ids] if ids else [])])
        yield from _read_rows(batches, audio, ids, path.parent, path.name)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot read {name}: {error}") from None


def _columns(names: Iterable[str], table: str) -> tuple[str, str | None]:
    """The columns with audio and with ids.

    Raises:
        DataError: there is no audio.
    """
    have = set(names)
    audio = next((each for each in (*AUDIO_COLUMNS, *PATH_COLUMNS) if each in have), None)
    if audio is None:
        raise DataError(f"{table} has no audio; expected a column {' or '.join((*AUDIO_COLUMNS, *PATH_COLUMNS))}")
    return audio, next((each for each in ID_COLUMNS if each in have), None)


def _read_rows(batches: Iterable[pa.RecordBatch], audio: str, ids: str | None, folder: Path, table: str) -> Iterator[BulkClip]:
    number = 0
    for batch in batches:
        for row in batch.select([audio, *([ids] if ids else [])]).to_pylist():
            number += 1
            yield _from_audio(row[audio], row[ids] if ids else None, f"{table} row {number}", folder)


def _from_value(value: object, place: str, folder: Path) -> BulkClip:
    """The clip of an item of an iterable: a row, or a clip by itself."""
    if isinstance(value, Mapping) and not value.keys() <= AUDIO_KEYS:
        try:
            audio, ids = _columns(value, place)
        except DataError as error:
            return BulkClip(_hash(place.encode()), place, error=str(error))
        return _from_audio(value[audio], value[ids] if ids else None, place, folder)
    return _from_audio(value, None, place, folder)


def _from_audio(value: Any, given: object, place: str, folder: Path) -> BulkClip:  # noqa: ANN401 - whatever a column holds
    """A clip of what a column or a list holds.

    Args:
        value: the audio.
        given: its id; None where there is none.
        place: where it stands, which names what has no name.
        folder: to which paths are relative.
    """

    def key(content: str) -> str:
        return str(given) if given is not None else content

    inner = value.clip if isinstance(value, NamedClip) else value
    held = inner if isinstance(inner, Mapping) else {"path": str(inner)} if isinstance(inner, str | Path) else {"clip": inner}
    label = str((value.name if isinstance(value, NamedClip) else held.get("path")) or place)
    data: Any = held.get("bytes", held.get("clip"))
    if hasattr(data, "read"):
        data = data.read()
    if isinstance(data, bytes | bytearray):
        return BulkClip(key(_hash(bytes(data))), label, NamedClip(label, bytes(data)))
    samples = held if held.get("array") is not None else data
    if samples is not None:
        try:
            return BulkClip(key(_hash_samples(samples)), label, NamedClip(label, samples))
        except (AttributeError, TypeError, ValueError) as error:
            return BulkClip(key(_hash(place.encode())), label, error=f"{label}: cannot hear it: {error}")
    if not held.get("path"):
        return BulkClip(key(_hash(place.encode())), label, error=f"{label}: there is no audio")
    path = folder / str(held["path"])
    try:
        content = _hash(path.read_bytes())
    except (OSError, ValueError) as error:
        why = f"cannot read {printable_path(path)}: {getattr(error, 'strerror', None) or error}"
        return BulkClip(key(_hash(_text_bytes(label))), label, error=why)
    return BulkClip(key(_hash(_text_bytes(f"{label}\n{content}"))), label, NamedClip(label, path))


def _hash_samples(clip: Any) -> str:  # noqa: ANN401 - samples with their rate, as `serving.clips.Clip` has them
    """The hash of samples and their rate."""
    if isinstance(clip, Mapping):
        samples, rate = clip["array"], clip.get("sampling_rate")
    elif hasattr(clip, "get_all_samples"):
        decoded = clip.get_all_samples()
        samples, rate = decoded.data, decoded.sample_rate
    else:
        samples, rate = clip
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(samples), allow_pickle=False)
    return _hash(f"{rate}\n".encode() + buffer.getvalue())


def _text_bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
