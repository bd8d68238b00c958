"""`amask.batch`: many clips into a folder of Parquet parts, here or on a Ray cluster; what `amask batch` calls."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.extras import import_extra
from .bulk import PART_ROWS, BulkSummary, answer_in_bulk, run_here
from .bulk_source import BulkSource
from .pipeline import Pipeline
from .ray_bulk import RayCluster
from .routing import Route

if TYPE_CHECKING:
    from ..lalm.base import LALM


def batch(
    dataset: BulkSource,
    out: Path | str,
    instruction: str | None = None,
    *,
    model: "Pipeline | LALM | str" = "pocket",
    route: Route | None = None,
    part_rows: int = PART_ROWS,
    ray: str | None = None,
    workers: int | None = None,
    on_progress: Callable[[int], None] | None = None,
    **named: Any,  # noqa: ANN401 - see `Request` and `RunOptions`
) -> BulkSummary:
    """Answer many clips into a folder of Parquet parts. Stopped or killed and called again, it goes on; no id is answered twice.

    The clips are a manifest or its file, a folder of clips, a Parquet file or a folder of them, a data set of `datasets`, a
    table of pandas or pyarrow with a column `audio` or `path` and perhaps `id`, or an iterable of clips as a pipeline takes
    them. A row keeps the id of its clip: that of `id`, else a hash of path and content. A clip that cannot be answered is a row
    with its error.

    Args:
        dataset: the clips.
        out: the folder; what is in it is not answered again.
        instruction: what is asked for, in words.
        model: a pipeline, or a model or its name, with the user's bank.
        route: how it is done, where that was chosen before; then there is no other request.
        part_rows: rows of a part; what is in a part survives a kill.
        ray: address of a Ray cluster that answers, one worker a GPU; `local` starts one on this machine.
        workers: how many answer on Ray; None for one a GPU, or where there is none, one for two cores.
        on_progress: is told how many clips are done.
        named: `task`, `mask` or `prompt`, other fields of `Request`, and those of `RunOptions`; long clips are split by default.

    Raises:
        DataError: the folder holds answers to another request, or the clips cannot be listed.
        FileError: a part cannot be written.
        InstructionError: the request makes no sense, or no mask serves it.
        ClusterError: Ray cannot be reached, or the run broke off there.
        ExtraError: Ray is not installed.
        AmaskError: as of `Pipeline.route`.

    Example:
        >>> import tempfile
        >>> answers = tempfile.mkdtemp()
        >>> clips = ["docs/clips/woman.opus", "docs/clips/man.opus"]
        >>> amask.batch(clips, answers, task="gr").table()["text"].to_pylist()
        ['female', 'male']
        >>> amask.batch(clips, answers, task="gr").skipped
        2
    """
    pipe = model if isinstance(model, Pipeline) else Pipeline(model)
    long = "split" if named.get("schema") is None else "refuse"  # a schema holds one answer
    route, options = pipe.resolve(instruction, route, {"long": long} | named)
    if ray is not None:
        import_extra("ray", "'amask batch --ray'")
    run = run_here if ray is None else RayCluster(ray, workers)
    tell = on_progress or (lambda _: None)
    return answer_in_bulk(pipe, dataset, Path(out), route, options, part_rows=part_rows, on_progress=tell, run=run)
