"""Bulk runs on a Ray cluster: one task lists the clips, an actor a GPU answers them, and whoever started it writes the parts.

The parts are those of a run without Ray. Whatever is killed, a worker or all of it, no clip is answered into two parts: Ray
answers a lost part again, and a run that is started again skips what the folder of parts has.
"""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..data.extras import import_extra
from ..errors import AmaskError, DataError
from .bulk import BulkJob, BulkPart, Rows, answer_part
from .pipeline import Pipeline

LISTING_CPUS, ANSWERING_CPUS = 0.1, 0.9  # so that n workers and the listing fit into n cores
PART = "part"


class ClusterError(AmaskError):
    """A Ray cluster cannot be reached, or has stopped."""


@dataclass(frozen=True)
class RayCluster:
    """Runs jobs of `answer_in_bulk` on a Ray cluster; its nodes have amask installed and see the clips at the same paths.

    Attributes:
        address: of the cluster, such as `auto` or `ray://head:10001`; `local` starts one on this machine.
        workers: how many answer; None for one a GPU, or where there is none, one for two cores.
    """

    address: str
    workers: int | None = None

    def __call__(self, job: BulkJob, pipe: Pipeline) -> Iterator[tuple[Rows, int]]:
        """Run a job.

        Raises:
            ClusterError: Ray cannot be reached, or the run broke off there.
            DataError: the clips cannot be sent to other processes.
            ExtraError: Ray is not installed.
            InstructionError: the pipeline's model cannot.
        """
        ray, rate = import_extra("ray", "'amask batch --ray'"), pipe.model.rate
        import_extra("ray.data", "'amask batch --ray'")
        opened = pickle.dumps(pipe)
        try:
            told = pickle.dumps(job)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise DataError(f"the clips cannot be sent to other processes ({error}); give a list, a table or files") from None
        self._connect(ray)
        try:
            for row in self._rows(ray, told, opened, rate).iter_rows():
                yield pickle.loads(row[PART])
        except ray.exceptions.RayError as error:
            raise _as_error(error) from None
        finally:
            ray.shutdown()

    def _connect(self, ray: Any) -> None:  # noqa: ANN401 - Ray's types are imported only where it is used
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        local = {"num_cpus": self.workers, "include_dashboard": False} if self.address == "local" else {}
        try:
            ray.init(self.address, **quiet, **{name: value for name, value in local.items() if value is not None})
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            why = str(error).strip().partition("\n")[0]
            raise ClusterError(f"cannot reach Ray at {self.address}: {why}; see 'ray status', or pass --ray local") from None

    def _rows(self, ray: Any, job: bytes, pipe: bytes, rate: int) -> Any:  # noqa: ANN401
        """The dataset of answered parts: pickled (rows, skipped)."""
        there = ray.cluster_resources()
        gpus, cores = int(there.get("GPU", 0)), int(there.get("CPU", 1))
        workers = self.workers or gpus or max(1, cores // 2)
        context = ray.data.DataContext.get_current()
        context.target_max_block_size = 1  # a part is a block, so that a worker has it as soon as it is listed
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        start = ray.data.from_items([{"job": job}])
        listed = start.map_batches(_list_parts, batch_size=1, num_cpus=LISTING_CPUS, fn_kwargs={"rate": rate})
        return listed.map_batches(
            _Worker,
            batch_size=1,
            num_cpus=ANSWERING_CPUS,
            num_gpus=1 if gpus >= workers else None,
            compute=ray.data.ActorPoolStrategy(size=workers),
            fn_constructor_args=(pipe, job),
        )


def _list_parts(batch: dict[str, Any], rate: int) -> Iterator[dict[str, Any]]:
    """The parts of a job, one a block."""
    for part in pickle.loads(batch["job"][0]).parts(rate):
        yield {PART: [pickle.dumps(part)]}


class _Worker:
    """Holds the model, and answers parts.

    Args:
        pipe: the pickled pipeline, which loads its model here.
        job: what is done, pickled.
    """

    def __init__(self, pipe: bytes, job: bytes) -> None:
        self.pipe: Pipeline = pickle.loads(pipe)
        self.job: BulkJob = pickle.loads(job)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Answer a part."""
        part: BulkPart = pickle.loads(batch[PART][0])
        return {PART: [pickle.dumps((answer_part(self.pipe, part, self.job), part.skipped))]}


def _as_error(error: Exception) -> AmaskError:
    """Why a run on Ray broke off: amask's own error on a worker, or Ray's."""
    cause: BaseException | None = error
    while cause is not None:
        inner = getattr(cause, "cause", None) or cause.__cause__
        if isinstance(inner, AmaskError):
            return inner
        if inner is cause:
            break
        cause = inner
    why = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    return ClusterError(f"the run on Ray broke off: {why}; start it again, and it goes on where it was")
