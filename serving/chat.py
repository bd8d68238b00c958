"""`POST /v1/chat/completions`, as OpenAI defines it: words and a clip in, an answer out."""

import json
import math
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from ..data.answer_format import AnswerFormat
from ..lalm.answering import MAX_NEW_TOKENS
from .api_errors import ApiError, invalid, unsupported
from .chat_body import ChatBody, Message, parse_body
from .clips import HeardClip
from .engine import RunOptions
from .model_names import ModelName
from .remote import fetch_url
from .routing import ByMask, Parallel, Prompt, Route, RouteMode, with_warnings
from .schema_form import fill_schema
from .service import Answered, Service
from .transcriptions import about_result, check_temperature, deltas, first_event, sent
from .uploads import FORMATS, UploadLimits, decode_base64, decode_data_url, is_data_url, read_upload, require_one_segment

NOT_READ = "the text was not read: the model's name chooses the mask"


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
    warnings = check_temperature(body.temperature, service.settings)
    name = service.names.parse(body.model)
    asked = await service.call(read_messages, body.messages, limits, service.settings.url_hosts)
    schema = _schema(body, limits)
    clip = await service.call(read_upload, asked.audio, asked.param, service.model, limits)
    route, schema = await service.call(choose, service, name, asked.words, body, schema)
    route = with_warnings(route, warnings)
    _check_together(body, route)
    if schema is not None:
        require_one_segment(clip, asked.param, service.model)
    options = await service.call(_options, body, schema, route)
    if body.stream:
        events = _chunks(service, request, clip, route, options, name, body)
        return StreamingResponse(await first_event(events), media_type="text/event-stream")
    found = await service.answer(request, clip, route, options)
    return JSONResponse(_completion(found, body, name) | {"usage": usage(service, found, route)})


def usage(service: Service, found: Answered, route: Route) -> dict[str, Any]:
    """Tokens as OpenAI counts them: positions of audio and of a prompt's words, and tokens of the answer."""

    def count(text: str) -> int:
        return len(service.model.tokenizer.encode(text, add_special_tokens=False))

    audio = sum(segment.positions for segment in found.segments)
    words = count(route.text) * len(found.segments) if isinstance(route, Prompt) else 0
    answer = count(found.result.text)
    return {
        "prompt_tokens": audio + words,
        "completion_tokens": answer,
        "total_tokens": audio + words + answer,
        "prompt_tokens_details": {"audio_tokens": audio, "cached_tokens": 0},
    }


def read_messages(messages: Sequence[Message], limits: UploadLimits, url_hosts: Sequence[str] = ()) -> Asked:
    """The words and the clip of messages.

    Args:
        messages: of the body.
        limits: what they may hold.
        url_hosts: from which a clip may be fetched.

    Raises:
        ApiError: there is no clip or more than one, or a part of another kind.
    """
    words: list[str] = []
    clips: list[tuple[Mapping[str, Any], str]] = []
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
                clips.append((_check_audio(part, where), where))
    if len(clips) != 1:
        raise invalid("messages", f"expected one clip as input_audio, got {len(clips) or 'none'}")
    audio, where = clips[0]
    return Asked("\n".join(filter(None, words)), _part_audio(audio, where, limits, url_hosts), where)


def _part_text(part: Mapping[str, Any], where: str) -> str:
    text = part.get("text")
    if not isinstance(text, str) or part.keys() - {"type", "text"}:
        raise invalid(where, "expected type and text")
    if len(text) > 2**14:
        raise invalid(where, "the text has more than 16384 characters")
    return text.strip()


def _check_audio(part: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    kind = part.get("type")
    if kind not in ("input_audio", "audio_url"):
        raise unsupported(f"{where}.type", f"{str(kind)[:50]!r}: expected text, input_audio or audio_url")
    inner = part.get(kind)
    if not isinstance(inner, dict) or part.keys() - {"type", kind}:
        raise invalid(where, f"expected type and {kind}")
    return part


def _part_audio(part: Mapping[str, Any], where: str, limits: UploadLimits, url_hosts: Sequence[str]) -> bytes:
    kind = part["type"]
    inner = part[kind]
    if kind == "audio_url":
        url, param = inner.get("url"), f"{where}.audio_url.url"
        return fetch_url(url, param, url_hosts, limits) if url_hosts and not is_data_url(url) else decode_data_url(url, param)
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


def choose(
    service: Service, name: ModelName, words: str, body: ChatBody, schema: dict[str, Any] | None
) -> tuple[Route, dict[str, Any] | None]:
    """The route that a model's name and words lead to, and the schema that decoding is held to, where code does not fill it.

    Raises:
        ApiError: no mask serves the words, there is none of that name, or its answer cannot be put into the form.
    """
    as_object = body.response_format is not None and body.response_format.type == "json_object"
    if name.prompted:
        if not words:
            raise invalid("messages", "a prompted model must be told what to do")
        if as_object:
            raise unsupported("response_format", "json_object is made of a mask's answers; a prompted model takes a json_schema")
        return Prompt(text=words), schema
    if name.by_words and not words:
        raise ApiError(422, "say what to do in a text part, or choose a task by the model's name", "messages", "no_mask")
    route = _by_mask(service, name, words)
    if schema is None:
        return _as_object(route) if as_object else route, None
    filled = fill_schema(route, schema)
    return (filled, None) if filled else (_by_mask(service, name, words, "one-pass"), schema)


def _by_mask(service: Service, name: ModelName, words: str, mode: RouteMode = "auto") -> Route:
    if name.by_words:
        return service.names.route_words(words, mode)
    route = service.names.route(name, mode=mode)
    return with_warnings(route, (NOT_READ,)) if words else route


def _as_object(route: Route) -> Route:
    """A route whose answer is a JSON object: keys, labels and case stay as they were asked for.

    Raises:
        ApiError: it is not known what the mask answers.
    """
    asked = route.answer_format or AnswerFormat()
    if isinstance(route, ByMask) and route.task is None:
        raise unsupported("response_format", f"json_object needs a task, and {route.mask_names} tells none; use json_schema")
    own = route.task.json_keys if isinstance(route, ByMask | Parallel) and route.task else ()
    form = AnswerFormat(layout="json", keys=asked.keys or own, case=asked.case, labels=asked.labels)
    left_out = [name for name in ("prefix", "suffix", "wrap", "separator") if getattr(asked, name)]
    told = (f"{' and '.join(left_out)} left out: response_format asks for a JSON object",) if left_out else ()
    return with_warnings(replace(route, answer_format=form), told)


def _options(body: ChatBody, schema: dict[str, Any] | None, route: Route) -> RunOptions:
    budget = body.max_completion_tokens or body.max_tokens or MAX_NEW_TOKENS
    options = RunOptions(max_new_tokens=budget, long="split" if schema is None else "refuse", schema=schema, prune="off")
    options.require(route)
    _ = options.constraint  # a schema that cannot be followed is refused before it waits
    return options


def _check_together(body: ChatBody, route: Route) -> None:
    if body.stream_options and not body.stream:
        raise invalid("stream_options", "goes with stream")
    if body.top_logprobs and not body.logprobs:
        raise invalid("top_logprobs", "goes with logprobs")
    plain = route.answer_format is None and (body.response_format is None or body.response_format.type == "text")
    if body.logprobs and (body.stream or not plain or not _is_label(route)):
        raise unsupported("logprobs", "are given for a task with labels, without another form and without stream")


def _is_label(route: Route) -> bool:
    task = getattr(route, "task", None)
    return route.mode == "one-pass" and task is not None and bool(task.labels)


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
    service: Service,
    request: Request,
    clip: HeardClip,
    route: Route,
    options: RunOptions,
    name: ModelName,
    body: ChatBody,
) -> AsyncIterator[bytes]:
    head = _head(name, "chat.completion.chunk")
    whole: list[Answered] = []
    delta: dict[str, Any] = {"role": "assistant"}
    async for text in deltas(service, request, clip, route, options, whole.append):
        yield sent(head | {"choices": [{"index": 0, "delta": delta | {"content": text}, "finish_reason": None}]})
        delta = {}
    last = {"index": 0, "delta": delta, "finish_reason": _finish(whole[0])}
    yield sent(head | {"choices": [last], "amask": about_result(whole[0])})
    if body.stream_options and body.stream_options.include_usage:
        yield sent(head | {"choices": [], "usage": usage(service, whole[0], route)})
    yield sent("[DONE]")
