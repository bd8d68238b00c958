"""A queue in front of the model: segments that wait are answered together, whatever their routes, options and lengths.

A batch is decoded, or chosen by likelihood among the same labels: these are passes of their own, so what would share neither
does not wait for the other. Labels take one pass and go before what is decoded, some times; then more has come to decode.
"""

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
from .engine import RunOptions, answer_segments, closed_set
from .results import SegmentAnswer
from .routing import ByMask, Route

MAX_BEFORE = 4  # batches with labels that go before one that is decoded and came earlier
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
    labels: tuple[str, ...] = ()
    listener: Listener | None = None
    since: float = field(default_factory=time.monotonic)
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
        self._rows: list[_Waiting] = []  # in the order in which they came
        self._changed = threading.Condition()
        self._before = 0  # batches with labels since the last one that was decoded
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
        return len(self._rows)

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
        labels, told = closed_set(route, options), listeners or [None] * len(segments)
        rows = [_Waiting(wave, route, options, labels, listener) for wave, listener in zip(segments, told, strict=True)]
        with self._changed:
            waiting = self.waiting
            if self._closed or (waiting and waiting + len(segments) > self.settings.max_queue):
                raise QueueFullError(waiting, max(1, round(waiting * self._row_seconds)))
            self._rows += rows
            self._changed.notify()
        return [row.future for row in rows]

    def close(self) -> None:
        """Answer what waits, then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _serve(self) -> None:
        while batch := self._next_batch():
            wanted = [row for row in batch if row.future.set_running_or_notify_cancel()]
            if wanted:
                self._answer(wanted)

    def _next_batch(self) -> list[_Waiting]:
        """Those that are answered next; none when it is closed and nothing waits."""
        with self._changed:
            while not self._rows and not self._closed:
                self._changed.wait()
            while self._rows and len(self._rows) < self.settings.max_batch and not self._closed:
                left = self._rows[0].since + self.settings.max_wait_ms / 1000 - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            if not self._rows:
                return []
            labels = self._next_labels()
            batch = [row for row in self._rows if row.labels == labels][: self.settings.max_batch]
            taken = set(map(id, batch))
            self._rows = [row for row in self._rows if id(row) not in taken]
            return batch

    def _next_labels(self) -> tuple[str, ...]:
        """The closed set whose rows are answered next; none for those that are decoded."""
        decoded = not self._rows[0].labels
        quick = next((row.labels for row in self._rows if row.labels), ())
        if decoded and (not quick or self._before >= MAX_BEFORE):
            self._before = 0
            return ()
        self._before += decoded
        return quick

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
