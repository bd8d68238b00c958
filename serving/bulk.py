"""Many clips into Parquet: parts are written as they are answered, and what is in a part is not answered again."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..data.atomic_write import write_atomic
from ..data.decoding import AUDIO_SUFFIXES, printable_path
from ..data.manifest import Clip as ListedClip
from ..data.manifest import Manifest
from ..data.reading import MANIFEST, read_manifest
from ..errors import AudioError, DataError
from .clips import Clip, NamedClip
from .engine import RunOptions
from .pipeline import Pipeline
from .results import Result
from .routing import Route

PART_ROWS = 256
REQUEST = b"amask.request"  # in a part's metadata: what was asked for
AUDIO_COLUMNS, PATH_COLUMNS, ID_COLUMNS = ("audio", "bytes"), ("path", "file"), ("id", "key")
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("path", pa.string()),
        ("text", pa.string()),
        ("parts", pa.string()),
        ("task", pa.string()),
        ("mode", pa.string()),
        ("mask", pa.string()),
        ("confidence", pa.float64()),
        ("warnings", pa.list_(pa.string())),
        ("error", pa.string()),
        ("duration", pa.float64()),
        ("segments", pa.int64()),
        ("truncated", pa.bool_()),
    ]
)


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


@dataclass(frozen=True)
class BulkSummary:
    """What a run did.

    Attributes:
        answered: rows written.
        failed: of these, rows with an error.
        skipped: clips that had been answered before, or came twice.
    """

    answered: int
    failed: int
    skipped: int


def read_clips(source: Path, rate: int) -> Iterator[BulkClip]:
    """The clips of a Parquet file, a folder of Parquet files, a manifest, or a folder of clips.

    Rows of Parquet have `audio` (bytes, or a struct with bytes or a path, as `datasets` writes it) or `path`, and may have `id`.
    An id that is not given is of the path and the content, or of the content alone where there is no path.

    Args:
        source: where they are.
        rate: Hz at which clips of several files are joined.

    Raises:
        DataError: there are none, or a table has no audio.
    """
    tables = [source] if source.suffix == ".parquet" else sorted(source.glob("*.parquet")) if source.is_dir() else []
    if tables:
        for table in tables:
            yield from _read_table(table)
        return
    manifest = _read_folder(source) if source.is_dir() and not (source / MANIFEST).exists() else read_manifest(source)
    for clip in manifest:
        try:
            key = _hash(f"{clip.path}\n{manifest.digest(clip)}".encode(errors="surrogateescape"))
            heard = (manifest.wave(clip, rate), rate) if clip.more else manifest.path(clip)
        except AudioError as error:
            yield BulkClip(_hash(clip.path.encode(errors="surrogateescape")), clip.path, error=str(error))
        else:
            yield BulkClip(key, clip.path, NamedClip(clip.path, heard))


def _read_folder(folder: Path) -> Manifest:
    """All clips below a folder, by name."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file())
    if not files:
        raise DataError(f"there is no clip in {printable_path(folder)}; expected {MANIFEST}, Parquet files, or audio files")
    return Manifest(tuple(ListedClip(path=path.relative_to(folder).as_posix()) for path in files), folder)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _read_table(path: Path) -> Iterator[BulkClip]:
    name = printable_path(path)
    try:
        file = pq.ParquetFile(path)
        columns = file.schema_arrow.names
        audio = next((each for each in (*AUDIO_COLUMNS, *PATH_COLUMNS) if each in columns), None)
        if audio is None:
            raise DataError(f"{name} has no audio; expected a column {' or '.join((*AUDIO_COLUMNS, *PATH_COLUMNS))}")
        ids = next((each for each in ID_COLUMNS if each in columns), None)
        number = 0
        for batch in file.iter_batches(64, columns=[audio, *([ids] if ids else [])]):
            for row in batch.to_pylist():
                number += 1
                yield _from_row(row[audio], row[ids] if ids else None, path.parent, f"{path.name} row {number}")
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot read {name}: {error}") from None


def _from_row(value: object, given: object, folder: Path, place: str) -> BulkClip:
    held = value if isinstance(value, Mapping) else {"bytes": value} if isinstance(value, bytes) else {"path": value}
    name, data = held.get("path"), held.get("bytes")
    label = str(name or place)
    if isinstance(data, bytes):
        return BulkClip(str(given) if given is not None else _hash(data), label, NamedClip(label, data))
    if not isinstance(name, str):
        return BulkClip(str(given) if given is not None else _hash(place.encode()), label, error=f"{label}: there is no audio")
    path = folder / name
    try:
        content = _hash(path.read_bytes())
    except (OSError, ValueError) as error:
        why = f"cannot read {printable_path(path)}: {getattr(error, 'strerror', None) or error}"
        return BulkClip(str(given) if given is not None else _hash(name.encode()), label, error=why)
    key = str(given) if given is not None else _hash(f"{name}\n{content}".encode())
    return BulkClip(key, label, NamedClip(label, path))


@dataclass(frozen=True)
class BulkPart:
    """Clips that become one part of the output.

    Attributes:
        clips: none only in the last one, which may tell of clips that were skipped.
        skipped: clips before these that had been answered, or came twice.
    """

    clips: tuple[BulkClip, ...]
    skipped: int = 0


@dataclass(frozen=True)
class BulkJob:
    """What a bulk run does; it pickles.

    Attributes:
        source: see `read_clips`.
        route: what is done.
        options: how.
        part_rows: rows of a part; what is in a part survives a kill.
        done: ids that have been answered.
    """

    source: Path
    route: Route
    options: RunOptions
    part_rows: int = PART_ROWS
    done: frozenset[str] = frozenset()

    def parts(self, rate: int) -> Iterator[BulkPart]:
        """The clips that are to be answered, part by part; `rate` as of `read_clips`."""
        seen, clips, skipped = set(self.done), list[BulkClip](), 0
        for clip in read_clips(self.source, rate):
            if clip.id in seen:
                skipped += 1
                continue
            seen.add(clip.id)
            clips.append(clip)
            if len(clips) == self.part_rows:
                yield BulkPart(tuple(clips), skipped)
                clips, skipped = [], 0
        if clips or skipped:
            yield BulkPart(tuple(clips), skipped)


Rows = list[dict[str, Any]]
RunJob = Callable[[BulkJob, Pipeline], Iterator[tuple[Rows, int]]]
"""(job, pipeline) → each part's rows, in any order, and how many clips were skipped before them."""


def run_here(job: BulkJob, pipe: Pipeline) -> Iterator[tuple[Rows, int]]:
    """Run a job in this process."""
    for part in job.parts(pipe.model.rate):
        yield answer_part(pipe, part, job), part.skipped


def answer_in_bulk(
    pipe: Pipeline,
    source: Path,
    out: Path,
    route: Route,
    options: RunOptions,
    *,
    part_rows: int = PART_ROWS,
    on_progress: Callable[[int], None] = lambda _: None,
    run: RunJob = run_here,
) -> BulkSummary:
    """Answer clips into a folder of Parquet parts. Stopped and started again, it goes on; no id is answered twice.

    Args:
        pipe: the pipeline.
        source: see `read_clips`.
        out: the folder.
        route: what is done.
        options: how.
        part_rows: rows of a part; what is in a part survives a kill.
        on_progress: is told how many are done.
        run: where; see `serving.ray_bulk` for a cluster.

    Raises:
        DataError: the folder holds answers to another request, or the clips cannot be listed.
        FileError: a part cannot be written.
    """
    request = _request(route, options)
    job = BulkJob(source, route, options, part_rows, frozenset(answered_ids(out, request)))
    answered = failed = skipped = 0
    for rows, before in run(job, pipe):
        if rows:
            _write_part(rows, out, request)
        answered += len(rows)
        failed += sum(bool(row["error"]) for row in rows)
        skipped += before
        on_progress(answered + skipped)
    return BulkSummary(answered, failed, skipped)


def answer_part(pipe: Pipeline, part: BulkPart, job: BulkJob) -> Rows:
    """The rows of a part."""
    route = job.route
    results = pipe.run((clip.clip for clip in part.clips if not clip.error), route, job.options)
    failed = partial(Result, task=route.task_name, mode=route.mode, mask=route.mask_names)
    return [_row(clip, failed(clip.name, error=clip.error) if clip.error else next(results)) for clip in part.clips]


def _row(clip: BulkClip, result: Result) -> dict[str, Any]:
    return {
        "id": clip.id,
        "path": clip.name,
        "text": None if result.error else result.text,
        "parts": json.dumps(dict(result.parts), ensure_ascii=False),
        "task": result.task or None,
        "mode": result.mode,
        "mask": result.mask or None,
        "confidence": result.confidence,
        "warnings": list(result.warnings),
        "error": result.error or None,
        "duration": result.duration,
        "segments": result.segments,
        "truncated": result.truncated,
    }


def _request(route: Route, options: RunOptions) -> bytes:
    """What decides the answers: the route, its masks' bits, and the options."""
    about = {name: value for name, value in route.as_row().items() if name not in ("reason", "warnings", "confidence")}
    masks = [mask.digest for mask in route.used_masks]
    how = {name: getattr(options, name) for name in ("beams", "max_new_tokens", "long", "unconstrained", "schema")}
    told = {"explain": route.explain(), "masks": masks, **how}
    return json.dumps(about | told, ensure_ascii=False, sort_keys=True, default=dict).encode()


def answered_ids(out: Path, request: bytes) -> set[str]:
    """The ids in a folder's parts.

    Raises:
        DataError: a part is damaged, or answers another request.
    """
    found: set[str] = set()
    for part in sorted(out.glob("*.parquet")) if out.is_dir() else []:
        name = printable_path(part)
        try:
            table = pq.read_table(part, columns=["id"])
        except (OSError, pa.ArrowException, KeyError) as error:
            raise DataError(f"cannot read {name}: {error}; remove it, and its clips are answered again") from None
        if (table.schema.metadata or {}).get(REQUEST) != request:
            raise DataError(f"{name} answers another request; choose another folder")
        found.update(table.column("id").to_pylist())
    return found


def _write_part(rows: list[dict[str, Any]], out: Path, request: bytes) -> None:
    table = pa.Table.from_pylist(rows, schema=SCHEMA.with_metadata({REQUEST: request}))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    name = _hash("\n".join(row["id"] for row in rows).encode(errors="surrogateescape"))
    write_atomic(sink.getvalue().to_pybytes(), out / f"part-{name}.parquet", parents=True)
