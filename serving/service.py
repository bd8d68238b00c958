"""What all of the server's endpoints share: names, the batcher, limits, and waiting for answers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from ..data.tasks import Task
from ..errors import AmaskError, BankError
from .api_errors import ApiError, as_api_error
from .batcher import Batcher, BatchSettings, PrunedModel
from .build_result import build_result
from .clips import HeardClip
from .engine import RunOptions
from .metrics import ServerMetrics
from .model_names import ModelNames
from .pipeline import Pipeline
from .results import Result, SegmentAnswer
from .routing import ByMask, Route
from .uploads import UploadLimits

CLIENT_GONE = 499  # as nginx has it; nobody reads it


@dataclass(frozen=True)
class ServerSettings:
    """How a server behaves.

    Attributes:
        batching: how requests share batches.
        limits: what a request may hold.
        timeout: seconds after which a request is given up.
        aliases: another name → one of the server's model names.
        api_key: what clients must send; None for none.
        cors: origins whose pages may use the server.
        url_hosts: hosts from which a clip may be fetched, see `remote.fetch_url`.
        prune: a task or mask of which batches run on a model without the heads that it has off.
        page: whether there is a page at `/`, which needs Gradio.
        any_temperature: whether a request with a temperature is answered greedily, with a warning, or else refused.
        admin_key: what must be sent to load and remove masks; None lets nobody.
    """

    batching: BatchSettings = field(default_factory=BatchSettings)
    limits: UploadLimits = field(default_factory=UploadLimits)
    timeout: float = 120.0
    aliases: Mapping[str, str] = field(default_factory=dict)
    api_key: str | None = None
    cors: tuple[str, ...] = ()
    admin_key: str | None = None
    url_hosts: tuple[str, ...] = ()
    prune: str | None = None
    page: bool = False
    any_temperature: bool = False


@dataclass(frozen=True)
class Answered:
    """A request that was answered.

    Attributes:
        result: the answer.
        segments: of the clip's segments, in order.
        spans: where each segment begins and ends, seconds.
    """

    result: Result
    segments: tuple[SegmentAnswer, ...]
    spans: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class PartialAnswer:
    """The beginning of a segment's answer, while it is decoded.

    Attributes:
        text: what there is of it.
    """

    text: str


class Service:
    """Answers clips for the endpoints.

    Args:
        pipe: model, bank and predictor; the model is loaded at once.
        name: what clients call the model.
        settings: see there.
    """

    def __init__(self, pipe: Pipeline, name: str, settings: ServerSettings | None = None) -> None:
        self.pipe, self.settings = pipe, settings or ServerSettings()
        self.model = pipe.model
        self.names = ModelNames(pipe, name, self.settings.aliases)
        self.metrics = ServerMetrics()
        pruned = self._prune(self.settings.prune) if self.settings.prune else None
        self.batcher = Batcher(self.model, self.settings.batching, self.metrics.count_batch, pruned)
        self.metrics.queue.set_function(lambda: self.batcher.waiting)

    def _prune(self, name: str) -> PrunedModel:
        """The model without the heads that a task's or a mask's name switches off.

        Raises:
            BankError: one mask does not do it.
            ModelError: the model cannot be pruned.
        """
        try:
            route = self.names.route(self.names.parse(f"{self.names.name}:{name}"))
        except ApiError as error:
            raise BankError(f"--prune {name}: {error.message}") from None
        if not isinstance(route, ByMask):
            raise BankError(f"--prune {name}: that is no single mask but {route.mode}; name a mask, see 'amask bank list'")
        return PrunedModel(route.mask.digest, self.model.pruned(route.mask))

    def close(self) -> None:
        """Answer what waits, then stop."""
        self.batcher.close()

    async def call(self, function: Callable[..., Any], *args: Any, **named: Any) -> Any:  # noqa: ANN401
        """Call something slow on a thread; amask's errors become answers."""
        try:
            return await run_in_threadpool(function, *args, **named)
        except AmaskError as error:
            raise as_api_error(error) from None

    async def stream(
        self, request: Request | None, clip: HeardClip, route: Route, options: RunOptions, *, follow: bool = False
    ) -> AsyncIterator[PartialAnswer | SegmentAnswer | Answered]:
        """Answer a clip: each segment's answer as it comes, then all of it.

        Args:
            request: whose client may go; None for the page's.
            clip: the clip.
            route: what is done.
            options: how.
            follow: give the beginnings of a segment's answer, too.

        Raises:
            ApiError: the queue is full, it takes too long, or the answer failed.
        """
        known = await self.call(lambda: tuple(self.pipe.known_tasks().values()))
        try:
            news = _News(len(clip.segments))
            futures = self.batcher.submit(clip.segments, route, options, news.listeners if follow else None)
        except AmaskError as error:
            raise as_api_error(error) from None
        until = asyncio.get_running_loop().time() + self.settings.timeout
        gone = asyncio.ensure_future(_disconnected(request))
        answers = []
        try:
            for at, future in enumerate(futures):
                wrapped = asyncio.wrap_future(future)
                while (answer := await self._wait(wrapped, gone, until, news)) is None:
                    if text := news.texts[at]:
                        yield PartialAnswer(text)
                answers.append(answer)
                yield answer
        finally:
            gone.cancel()
            for future in futures:
                future.cancel()
        yield self._answered(clip, answers, route, known)

    async def answer(self, request: Request | None, clip: HeardClip, route: Route, options: RunOptions) -> Answered:
        """Answer a clip.

        Raises:
            ApiError: as of `stream`.
        """
        async for found in self.stream(request, clip, route, options):
            if isinstance(found, Answered):
                return found
        raise AssertionError

    async def _wait(
        self, wrapped: "asyncio.Future[SegmentAnswer]", gone: "asyncio.Future[None]", until: float, news: "_News"
    ) -> SegmentAnswer | None:
        """A segment's answer; None where there is news before it."""
        left = max(until - asyncio.get_running_loop().time(), 0)
        more = asyncio.ensure_future(news.some.wait())
        either: set[asyncio.Future[Any]] = {wrapped, gone, more}
        done, _ = await asyncio.wait(either, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        more.cancel()
        if wrapped in done:
            try:
                return wrapped.result()
            except AmaskError as error:
                raise as_api_error(error) from None
        if more in done and gone not in done:
            news.some.clear()
            return None
        wrapped.cancel()
        if done:
            raise ApiError(CLIENT_GONE, "the client has gone", None, "client_gone")
        raise ApiError(504, f"no answer within {self.settings.timeout:g} s; try again later", None, "timeout")

    def _answered(self, clip: HeardClip, answers: Sequence[SegmentAnswer], route: Route, known: Sequence[Task]) -> Answered:
        result = build_result(clip, answers, route, rate=self.model.rate, known=known)
        if result.error:
            raise ApiError(422, result.error, None, "no_answer")
        result = replace(result, warnings=(*route.warnings, *result.warnings))
        self.metrics.audio.inc(clip.seconds)
        ends, spans = 0.0, []
        for segment in clip.segments:
            spans.append((round(ends, 3), round(ends + len(segment) / self.model.rate, 3)))
            ends += len(segment) / self.model.rate
        return Answered(result, tuple(answers), tuple(spans))


class _News:
    """What the batcher's thread tells of segments while they are decoded, for the event loop.

    Attributes:
        texts: what there is of each segment's answer.
        some: set when there is more.
        listeners: one a segment, for the batcher.
    """

    def __init__(self, segments: int) -> None:
        self.texts, self.some = [""] * segments, asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.listeners = [partial(self._tell, at) for at in range(segments)]

    def _tell(self, at: int, text: str) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens
            self._loop.call_soon_threadsafe(self._set, at, text)

    def _set(self, at: int, text: str) -> None:
        self.texts[at] = text
        self.some.set()


async def _disconnected(request: Request | None) -> None:
    """Return when the client has gone; its request was read before."""
    if request is None:
        await asyncio.Event().wait()
        return
    while (await request.receive())["type"] != "http.disconnect":
        pass
