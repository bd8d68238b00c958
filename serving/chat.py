"""`POST /v1/chat/completions`, as OpenAI defines it: words and a clip in, an answer out."""

import json
import math
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import pydantic
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from ..data.answer_format import AnswerFormat
from ..lalm.answering import MAX_NEW_TOKENS
from .api_errors import ApiError, invalid, unsupported
from .clips import HeardClip
from .engine import RunOptions
from .model_names import ModelName
from .routing import Prompt, Route
from .service import Answered, Service
from .transcriptions import about_result, deltas, first_event, require_greedy, sent
from .uploads import FORMATS, UploadLimits, decode_base64, decode_data_url, read_upload

MAX_TOKENS = 4096
NOT_READ = "the text was not read: the model's name chooses the mask"


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class JsonSchema(_Strict):
    """`response_format.json_schema`."""

    name: str = ""
    description: str | None = None
    strict: bool | None = None
    schema_: Annotated[dict[str, Any], pydantic.Field(alias="schema")]


class ResponseFormat(_Strict):
    """`response_format`."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class Message(pydantic.BaseModel):
    """One of `messages`; a name changes nothing."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]]
    name: str | None = None


class ChatBody(_Strict):
    """The body. What would change the answer and is not offered is refused; the last lines change nothing here."""

    model: str
    messages: Annotated[list[Message], pydantic.Field(min_length=1)]
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, pydantic.Field(ge=0, le=20)] | None = None
    max_tokens: Annotated[int, pydantic.Field(ge=1, le=MAX_TOKENS)] | None = None
    max_completion_tokens: Annotated[int, pydantic.Field(ge=1, le=MAX_TOKENS)] | None = None
    temperature: float | None = None
    n: Literal[1] | None = None
    modalities: tuple[Literal["text"], ...] | None = None
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    top_p: float | None = None
    seed: int | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: Literal[False] | None = None


@dataclass(frozen=True)
class Asked:
    """What messages say.

    Attributes:
        words: all text, system's first.
        audio: the encoded clip.
        param: where it is.
    """

    words: str
    audio: bytes
    param: str


async def complete(service: Service, request: Request) -> Response:
    """Answer a chat completion.

    Raises:
        ApiError: the request cannot be answered as it is.
    """
    limits = service.settings.limits
    body = await service.call(parse_body, await request.body(), limits)
    require_greedy(body.temperature)
    name = service.names.parse(body.model)
    asked = await service.call(read_messages, body.messages, limits)
    schema = _schema(body, limits)
    clip = await service.call(read_upload, asked.audio, asked.param, service.model, limits, split=schema is None)
    route = await service.call(choose, service, name, asked.words, body, schema)
    _check_logprobs(body, route)
    options = await service.call(_options, body, schema, route)
    if body.stream:
        events = _chunks(service, request, clip, route, options, name)
        return StreamingResponse(await first_event(events), media_type="text/event-stream")
    found = await service.answer(request, clip, route, options)
    return JSONResponse(_completion(found, body, name))


def parse_body(data: bytes, limits: UploadLimits) -> ChatBody:
    """Read a body.

    Raises:
        ApiError: it is no JSON, nested too deep, or a field is unknown or no such thing.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise ApiError(400, "the body is not JSON", None, "invalid_json") from None
    _check_depth(found, limits.max_depth)
    if not isinstance(found, dict):
        raise ApiError(400, "expected a JSON object with model and messages", None, "invalid_json")
    try:
        return ChatBody.model_validate(found)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        param = ".".join(map(str, first["loc"]))[:200]
        if first["type"] == "extra_forbidden":
            raise unsupported(param, "is not supported") from None
        raise invalid(param, first["msg"]) from None


def _check_depth(value: object, most: int) -> None:
    level = [value]
    for _ in range(most):
        level = [
            each for one in level if isinstance(one, dict | list) for each in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return
    raise ApiError(400, f"the body is nested deeper than {most} levels", None, "invalid_json")


def read_messages(messages: Sequence[Message], limits: UploadLimits) -> Asked:
    """The words and the clip of messages.

    Raises:
        ApiError: there is no clip or more than one, or a part of another kind.
    """
    words: list[str] = []
    clips: list[tuple[bytes, str]] = []
    for at, message in enumerate(messages):
        if message.role in ("assistant", "tool"):
            raise unsupported(f"messages.{at}.role", f"{message.role} is not supported; one question with its clip is answered")
        parts = [{"type": "text", "text": message.content}] if isinstance(message.content, str) else message.content
        if len(parts) > limits.max_parts:
            raise invalid(f"messages.{at}.content", f"has {len(parts)} parts; at most {limits.max_parts} are taken")
        for number, part in enumerate(parts):
            where = f"messages.{at}.content.{number}"
            if part.get("type") == "text":
                words.append(_part_text(part, where))
            else:
                clips.append((_part_audio(part, where), where))
    if len(clips) != 1:
        raise invalid("messages", f"expected one clip as input_audio, got {len(clips) or 'none'}")
    return Asked("\n".join(filter(None, words)), *clips[0])


def _part_text(part: Mapping[str, Any], where: str) -> str:
    text = part.get("text")
    if not isinstance(text, str) or part.keys() - {"type", "text"}:
        raise invalid(where, "expected type and text")
    if len(text) > 2**14:
        raise invalid(where, "the text has more than 16384 characters")
    return text.strip()


def _part_audio(part: Mapping[str, Any], where: str) -> bytes:
    kind = part.get("type")
    if kind not in ("input_audio", "audio_url"):
        raise unsupported(f"{where}.type", f"{str(kind)[:50]!r}: expected text, input_audio or audio_url")
    inner = part.get(kind)
    if not isinstance(inner, dict) or part.keys() - {"type", kind}:
        raise invalid(where, f"expected type and {kind}")
    if kind == "audio_url":
        return decode_data_url(inner.get("url"), f"{where}.audio_url.url")
    form = inner.get("format")
    if form is not None and form not in FORMATS:
        raise invalid(f"{where}.input_audio.format", f"got {str(form)[:20]!r}, expected one of {', '.join(FORMATS)}")
    return decode_base64(inner.get("data"), f"{where}.input_audio.data")


def _schema(body: ChatBody, limits: UploadLimits) -> dict[str, Any] | None:
    form = body.response_format
    if form is None or form.type != "json_schema":
        return None
    if form.json_schema is None:
        raise invalid("response_format.json_schema", "is missing")
    if len(json.dumps(form.json_schema.schema_)) > limits.max_schema_bytes:
        raise invalid("response_format.json_schema.schema", f"has more than {limits.max_schema_bytes} bytes")
    return form.json_schema.schema_


def choose(service: Service, name: ModelName, words: str, body: ChatBody, schema: object) -> Route:
    """The route that a model's name and words lead to.

    Raises:
        ApiError: no mask serves the words, or there is none of that name.
    """
    if name.prompted:
        if not words:
            raise invalid("messages", "a prompted model must be told what to do")
        return Prompt(text=words)
    mode: Literal["auto", "one-pass"] = "auto" if schema is None else "one-pass"
    as_object = body.response_format is not None and body.response_format.type == "json_object"
    options = {"format": AnswerFormat(layout="json")} if as_object else {}
    if not name.by_words:
        route = service.names.route(name, mode=mode, **options)
        return replace(route, warnings=(*route.warnings, NOT_READ)) if words else route
    if not words:
        raise ApiError(422, "say what to do in a text part, or choose a task by the model's name", "messages", "no_mask")
    return service.names.route_words(words, mode, **options)


def _options(body: ChatBody, schema: dict[str, Any] | None, route: Route) -> RunOptions:
    budget = body.max_completion_tokens or body.max_tokens or MAX_NEW_TOKENS
    options = RunOptions(max_new_tokens=budget, long="split" if schema is None else "refuse", schema=schema, prune="off")
    options.require(route)
    _ = options.constraint  # a schema that cannot be followed is refused before it waits
    return options


def _check_logprobs(body: ChatBody, route: Route) -> None:
    if body.top_logprobs and not body.logprobs:
        raise invalid("top_logprobs", "goes with logprobs")
    if body.logprobs and (body.stream or not _is_label(route)):
        raise unsupported("logprobs", "are given for a task with labels, without stream")


def _is_label(route: Route) -> bool:
    task = getattr(route, "task", None)
    return route.mode == "one-pass" and task is not None and task.form == "plain" and bool(task.parts[0].labels)


def _head(name: ModelName, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": name.asked}


def _finish(found: Answered) -> str:
    return "length" if found.result.truncated else "stop"


def _completion(found: Answered, body: ChatBody, name: ModelName) -> dict[str, Any]:
    message = {"role": "assistant", "content": found.result.text, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": _finish(found), "logprobs": None}
    if body.logprobs:
        choice["logprobs"] = _logprobs(found, body.top_logprobs or 0)
    return _head(name, "chat.completion") | {"choices": [choice], "amask": about_result(found)}


def _logprobs(found: Answered, top: int) -> dict[str, Any]:
    """The label as one token, with the probabilities of the task's labels; of a long clip those of the segments' mean."""
    task = found.result.task
    sums: dict[str, float] = {}
    for segment, (start, end) in zip(found.segments, found.spans, strict=True):
        for label, probability in segment.probabilities.get(task, {}).items():
            sums[label] = sums.get(label, 0.0) + probability * (end - start)
    whole = sum(sums.values()) or 1.0
    ranked = sorted(((label, value / whole) for label, value in sums.items()), key=lambda each: -each[1])
    label = found.result.parts.get(task, found.result.text)
    chosen = _token(label, dict(ranked).get(label, found.result.confidence or 0.0))
    return {"content": [chosen | {"top_logprobs": [_token(*each) for each in ranked[:top]]}], "refusal": None}


def _token(label: str, probability: float) -> dict[str, Any]:
    return {"token": label, "logprob": math.log(max(probability, 1e-45)), "bytes": list(label.encode())}


async def _chunks(
    service: Service, request: Request, clip: HeardClip, route: Route, options: RunOptions, name: ModelName
) -> AsyncIterator[bytes]:
    head = _head(name, "chat.completion.chunk")
    whole: list[Answered] = []
    delta: dict[str, Any] = {"role": "assistant"}
    async for text in deltas(service, request, clip, route, options, lambda found, _: whole.append(found)):
        yield sent(head | {"choices": [{"index": 0, "delta": delta | {"content": text}, "finish_reason": None}]})
        delta = {}
    last = {"index": 0, "delta": delta, "finish_reason": _finish(whole[0])}
    yield sent(head | {"choices": [last], "amask": about_result(whole[0])})
    yield sent("[DONE]")
