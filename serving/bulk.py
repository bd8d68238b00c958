"""Many clips into Parquet: parts are written as they are answered, and what is in a part is not answered again."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..data.atomic_write import write_atomic
from ..data.decoding import printable_path
from ..errors import DataError
from .bulk_source import BulkClip, BulkSource, prepare_source, read_clips
from .engine import RunOptions
from .pipeline import Pipeline
from .results import Result
from .routing import Route

PART_ROWS = 256
REQUEST = b"amask.request"  # in a part's metadata: what was asked for
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
class BulkSummary:
    """What a run did.

    Attributes:
        answered: rows written.
        failed: of these, rows with an error.
        skipped: clips that had been answered before, or came twice.
        out: the folder.
    """

    answered: int
    failed: int
    skipped: int
    out: Path

    def table(self) -> pa.Table:
        """All rows of the folder, of this run and of those before; `table().to_pandas()` is a frame.

        Raises:
            DataError: a part is damaged.
        """
        parts = [_read_part(part) for part in sorted(self.out.glob("*.parquet"))]
        return pa.concat_tables([part.replace_schema_metadata(None) for part in parts] or [SCHEMA.empty_table()])


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
        folder: to which paths in tables and lists in memory are relative.
        route: what is done.
        options: how.
        part_rows: rows of a part; what is in a part survives a kill.
        done: ids that have been answered.
    """

    source: BulkSource
    folder: Path
    route: Route
    options: RunOptions
    part_rows: int = PART_ROWS
    done: frozenset[str] = frozenset()

    def parts(self, rate: int) -> Iterator[BulkPart]:
        """The clips that are to be answered, part by part; `rate` as of `read_clips`."""
        seen, clips, skipped = set(self.done), list[BulkClip](), 0
        for clip in read_clips(self.source, rate, self.folder):
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
    source: BulkSource,
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
        source: see `BulkSource`.
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
    done = frozenset(answered_ids(out, request))
    job = BulkJob(prepare_source(source), Path.cwd(), route, options, part_rows, done)
    answered = failed = skipped = 0
    for rows, before in run(job, pipe):
        if rows:
            _write_part(rows, out, request)
        answered += len(rows)
        failed += sum(bool(row["error"]) for row in rows)
        skipped += before
        on_progress(answered + skipped)
    return BulkSummary(answered, failed, skipped, out)


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
        table = _read_part(part, ["id"])
        if (table.schema.metadata or {}).get(REQUEST) != request:
            raise DataError(f"{printable_path(part)} answers another request; choose another folder")
        found.update(table.column("id").to_pylist())
    return found


def _read_part(part: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        return pq.read_table(part, columns=columns)
    except (OSError, pa.ArrowException, KeyError) as error:
        name = printable_path(part)
        raise DataError(f"cannot read {name}: {error}; remove it, and its clips are answered again") from None


def _write_part(rows: list[dict[str, Any]], out: Path, request: bytes) -> None:
    table = pa.Table.from_pylist(rows, schema=SCHEMA.with_metadata({REQUEST: request}))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    ids = "\n".join(row["id"] for row in rows)
    name = hashlib.sha256(ids.encode(errors="surrogateescape")).hexdigest()[:32]
    write_atomic(sink.getvalue().to_pybytes(), out / f"part-{name}.parquet", parents=True)
