"""A queue in front of the model: segments that wait are answered together, whatever their routes, options and lengths."""

import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Float32
from torch import Tensor

from ..data.audio import hash_wave
from ..errors import AmaskError
from ..lalm.base import LALM
from ..lalm.feature_cache import stack_rows
from ..lalm.text_follower import Listener, Listeners
from .engine import RunOptions, answer_segments
from .results import SegmentAnswer
from .routing import ByMask, Route

KEPT_FEATURES = 64  # encoded segments that stay in memory: a clip is often asked about several times


class QueueFullError(AmaskError):
    """More segments wait than the queue takes.

    Attributes:
        retry_after: seconds after which there is likely room.
    """

    def __init__(self, waiting: int, retry_after: int) -> None:
        super().__init__(f"the server is busy: {waiting} segments wait; try again in {retry_after} s")
        self.retry_after = retry_after


@dataclass(frozen=True)
class BatchSettings:
    """How requests share batches.

    Attributes:
        max_batch: segments that are answered together.
        max_wait_ms: milliseconds that the first of a batch waits for others.
        max_queue: segments that may wait.
    """

    max_batch: int = 16
    max_wait_ms: float = 5.0
    max_queue: int = 256


@dataclass(frozen=True)
class BatchStats:
    """What is told of a batch.

    Attributes:
        rows: segments in it.
        encoded: segments whose audio had to be encoded.
        seconds: that answering took.
    """

    rows: int
    encoded: int
    seconds: float


@dataclass(frozen=True)
class PrunedModel:
    """A model that runs one mask only, for batches that want no other.

    Attributes:
        digest: of the mask.
        model: without the heads that are off.
    """

    digest: str
    model: LALM


@dataclass(frozen=True)
class _Waiting:
    wave: Float32[np.ndarray, " time"]
    route: Route
    options: RunOptions
    listener: Listener | None = None
    future: "Future[SegmentAnswer]" = field(default_factory=Future)


class Batcher:
    """Answers segments in batches, on a thread of its own; close it, or use it in a `with`.

    Args:
        model: the model.
        settings: how requests share batches.
        on_batch: is told of each batch.
        pruned: answers the batches that are all of its mask.
    """

    def __init__(
        self,
        model: LALM,
        settings: BatchSettings | None = None,
        on_batch: Callable[[BatchStats], None] | None = None,
        pruned: PrunedModel | None = None,
    ) -> None:
        self.model, self.settings, self.pruned = model, settings or BatchSettings(), pruned
        self._on_batch = on_batch or (lambda _: None)
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._features: OrderedDict[str, Float[Tensor, "position width"]] = OrderedDict()
        self._row_seconds = 0.1  # a moving mean, for Retry-After
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="amask-batcher", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Batcher":
        """The batcher."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    @property
    def waiting(self) -> int:
        """Segments in the queue."""
        return self._queue.qsize()

    def submit(
        self, segments: Sequence[Float32[np.ndarray, " _"]], route: Route, options: RunOptions, listeners: Listeners = None
    ) -> "list[Future[SegmentAnswer]]":
        """Queue a clip's segments; who no longer wants an answer cancels its future.

        Args:
            segments: samples at the model's rate.
            route: what is done.
            options: how.
            listeners: who is told each segment's text while it is decoded, on the batcher's thread.

        Raises:
            QueueFullError: the queue has no room for them.
            MaskError: a mask is for another model.
            InstructionError: the options do not go with the route.
        """
        for mask in route.used_masks:
            mask.require(self.model)
        options.require(route)
        waiting = self.waiting
        if self._closed or (waiting and waiting + len(segments) > self.settings.max_queue):
            raise QueueFullError(waiting, max(1, round(waiting * self._row_seconds)))
        told = listeners or [None] * len(segments)
        rows = [_Waiting(wave, route, options, listener) for wave, listener in zip(segments, told, strict=True)]
        for row in rows:
            self._queue.put(row)
        return [row.future for row in rows]

    def close(self) -> None:
        """Answer what waits, then stop."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._thread.join()

    def _serve(self) -> None:
        going = True
        while going:
            batch, going = self._next_batch()
            batch = [row for row in batch if row.future.set_running_or_notify_cancel()]
            if batch:
                self._answer(batch)

    def _next_batch(self) -> tuple[list[_Waiting], bool]:
        """Those that are answered next, and whether there may be more after them."""
        first = self._queue.get()
        if first is None:
            return [], False
        batch, until = [first], time.monotonic() + self.settings.max_wait_ms / 1000
        while len(batch) < self.settings.max_batch:
            try:
                row = self._queue.get(timeout=max(until - time.monotonic(), 0))
            except queue.Empty:
                break
            if row is None:
                return batch, False
            batch.append(row)
        return batch, True

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        """Answer a batch; where that fails, each row by itself, so that only those at fault get the error."""
        started = time.perf_counter()
        try:
            answers, encoded = self._answers(batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits is told, and the next are served
            if len(batch) > 1:
                for row in batch:
                    self._answer([row])
            else:
                batch[0].future.set_exception(error)
            return
        seconds = time.perf_counter() - started
        self._row_seconds += 0.2 * (seconds / len(batch) - self._row_seconds)
        self._on_batch(BatchStats(len(batch), encoded, seconds))
        for row, answer in zip(batch, answers, strict=True):
            row.future.set_result(answer)

    def _answers(self, batch: Sequence[_Waiting]) -> tuple[list[SegmentAnswer], int]:
        sounds = [hash_wave(row.wave) for row in batch]
        waves = {sound: row.wave for sound, row in zip(sounds, batch, strict=True)}
        missing = [sound for sound in waves if sound not in self._features]
        found = {sound: self._features[sound] for sound in waves if sound in self._features}
        found |= zip(missing, self._encode([waves[sound] for sound in missing]), strict=True)
        self._keep(found)
        features = stack_rows([found[sound] for sound in sounds], self.model.device)
        routes = [row.route for row in batch]
        options, listeners = [row.options for row in batch], [row.listener for row in batch]
        answers = answer_segments(self._model_for(routes), features, routes, options, listeners)
        counted = zip(answers, sounds, strict=True)
        return [replace(answer, positions=len(found[sound])) for answer, sound in counted], len(missing)

    def _model_for(self, routes: Sequence[Route]) -> LALM:
        """The pruned model, where all rows are of its mask, else the whole one."""
        pruned = self.pruned
        if pruned and all(isinstance(route, ByMask) and route.mask.digest == pruned.digest for route in routes):
            return pruned.model
        return self.model

    def _encode(self, waves: Sequence[Float32[np.ndarray, " _"]]) -> list[Float[Tensor, "position width"]]:
        """Features of segments; on a CPU one by one, where a batch is no faster and alone they are the same to the bit."""
        size = 1 if self.model.device.type == "cpu" else max(len(waves), 1)
        rows = []
        for start in range(0, len(waves), size):
            features = self.model.encode(list(waves[start : start + size]))
            rows += [row[:length].cpu() for row, length in zip(features.embeds, features.lengths.tolist(), strict=True)]
        return rows

    def _keep(self, found: dict[str, Float[Tensor, "position width"]]) -> None:
        for sound, row in found.items():
            self._features[sound] = row
            self._features.move_to_end(sound)
        while len(self._features) > KEPT_FEATURES:
            self._features.popitem(last=False)
