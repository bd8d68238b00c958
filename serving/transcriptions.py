"""`POST /v1/audio/transcriptions` and `/v1/audio/translations`, as OpenAI defines them."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from .api_errors import ApiError, invalid, unsupported
from .clips import HeardClip
from .engine import RunOptions
from .forms import open_form
from .model_names import ModelName
from .results import SegmentAnswer
from .routing import ByMask, Prompt, Route, with_warnings
from .service import Answered, ServerSettings, Service
from .uploads import read_upload

RESPONSE_FORMATS = ("json", "text", "verbose_json", "srt", "vtt")
FIELDS = frozenset(
    {"file", "model", "language", "prompt", "response_format", "temperature", "timestamp_granularities[]", "stream"}
)
TRANSLATION_FIELDS = FIELDS - {"language", "timestamp_granularities[]", "stream"}
GRANULARITIES = "timestamp_granularities[]"
LANGUAGES = {"en": "english", "english": "english"}


@dataclass(frozen=True)
class Transcription:
    """A request for one, read and checked.

    Attributes:
        model: whose name was given.
        data: the encoded clip.
        prompt: what a prompted model is told.
        form: the response's.
        language: as it was given.
        stream: whether the answer is sent as it comes.
        warnings: what the answer says of it.
    """

    model: ModelName
    data: bytes
    prompt: str = ""
    form: str = "json"
    language: str = ""
    stream: bool = False
    warnings: tuple[str, ...] = ()


async def transcribe(service: Service, request: Request, task: str) -> Response:
    """Answer a transcription, or with another task a translation.

    Raises:
        ApiError: the request cannot be answered as it is.
    """
    asked = await _read(service, request, FIELDS if task == "asr" else TRANSLATION_FIELDS)
    clip = await service.call(read_upload, asked.data, "file", service.model, service.settings.limits)
    route = with_warnings(await service.call(_route, service, asked, task), asked.warnings)
    options = RunOptions(long="split", prune="off")
    if asked.stream:
        events = _events(service, request, clip, route, options)
        return StreamingResponse(await first_event(events), media_type="text/event-stream")
    found = await service.answer(request, clip, route, options)
    return _response(found, asked, task)


def _route(service: Service, asked: Transcription, task: str) -> Route:
    if asked.model.prompted:
        return Prompt(text=asked.prompt)
    return service.names.route(ModelName(asked.model.asked, task) if asked.model.by_words else asked.model)


async def _read(service: Service, request: Request, fields: frozenset[str]) -> Transcription:
    expected, fields_taken = "multipart/form-data with file and model", service.settings.limits.max_parts
    async with open_form(request, expected, max_fields=fields_taken, max_part_size=2**16) as form:
        _check_fields(form, fields)
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise invalid("file", "expected a clip as a file")
        data = await upload.read()
        return _read_fields(service, form, data)


def _check_fields(form: FormData, fields: frozenset[str]) -> None:
    for name in form:
        if name not in fields:
            raise unsupported(name[:100], f"is not supported; expected {', '.join(sorted(fields))}")
        if name != GRANULARITIES and len(form.getlist(name)) > 1:
            raise invalid(name, "is given twice")


def _text(form: FormData, name: str, default: str = "") -> str:
    value = form.get(name, default)
    if not isinstance(value, str):
        raise invalid(name, "expected text, got a file")
    return value


def _read_fields(service: Service, form: FormData, data: bytes) -> Transcription:
    model = service.names.parse(_text(form, "model"))
    shape = _text(form, "response_format", "json") or "json"
    if shape not in RESPONSE_FORMATS:
        raise invalid("response_format", f"got {shape[:100]!r}, expected one of {', '.join(RESPONSE_FORMATS)}")
    prompt, language = _text(form, "prompt").strip(), _text(form, "language").strip().lower()
    if prompt and not model.prompted:
        raise unsupported("prompt", f"a mask takes no prompt; leave it out, or use model {service.names.name}:prompt")
    if model.prompted and not prompt:
        raise invalid("prompt", "a prompted model must be told what to do")
    if language and language not in LANGUAGES:
        raise unsupported("language", f"got {language[:20]!r}; a mask hears the language that it was trained on; leave it out")
    warnings = check_temperature(_number(_text(form, "temperature"), "temperature"), service.settings)
    stream = _flag(_text(form, "stream"), "stream")
    for value in form.getlist(GRANULARITIES):
        if value != "segment":
            raise unsupported(GRANULARITIES, f"{str(value)[:20]!r} times are not known; segment is")
        if shape != "verbose_json":
            raise invalid(GRANULARITIES, "goes with response_format verbose_json")
    if stream and shape not in ("json", "text"):
        raise unsupported("stream", f"does not go with response_format {shape}")
    return Transcription(model, data, prompt, shape, language, stream, warnings)


def _number(text: str, name: str) -> float | None:
    try:
        return float(text) if text.strip() else None
    except ValueError:
        raise invalid(name, f"expected a number, got {text[:20]!r}") from None


def _flag(text: str, name: str) -> bool:
    if text.lower() not in ("", "true", "false", "1", "0"):
        raise invalid(name, f"expected true or false, got {text[:20]!r}")
    return text.lower() in ("true", "1")


def check_temperature(temperature: float | None, settings: ServerSettings) -> tuple[str, ...]:
    """What is to be said of a temperature, as answers are greedy.

    Raises:
        ApiError: it is not 0, and the server does not take any.
    """
    if temperature is None or temperature == 0:
        return ()
    if settings.any_temperature:
        return (f"the answer is greedy: temperature {temperature:g} was not used",)
    why = f"answers are greedy; got {temperature:g}, expected 0, or leave it out; a server with --any-temperature takes it"
    raise unsupported("temperature", why)


def _response(found: Answered, asked: Transcription, task: str) -> Response:
    result = found.result
    if asked.form == "text":
        return PlainTextResponse(f"{result.text}\n")
    if asked.form == "srt":
        return PlainTextResponse(write_srt(found), media_type="application/x-subrip")
    if asked.form == "vtt":
        return PlainTextResponse(write_vtt(found), media_type="text/vtt")
    body: dict[str, Any] = {"text": result.text}
    if asked.form == "verbose_json":
        body |= {
            "task": "transcribe" if task == "asr" else "translate",
            "language": LANGUAGES.get(asked.language, ""),
            "duration": result.duration,
            "segments": [
                {"id": at, "start": start, "end": end, "text": segment.text}
                for at, (segment, (start, end)) in enumerate(zip(found.segments, found.spans, strict=True))
            ],
        }
    return JSONResponse(body | {"amask": about_result(found)})


def about_result(found: Answered) -> dict[str, Any]:
    """What amask says of an answer, beside the standard fields."""
    result = found.result
    return {
        "task": result.task or None,
        "how": result.mode,
        "mask": result.mask or None,
        "confidence": result.confidence,
        "heads_on": result.heads_on,
        "parts": dict(result.parts),
        "warnings": [*result.warnings, *(["the answer was truncated"] if result.truncated else [])],
    }


def write_srt(found: Answered) -> str:
    """Subtitles as SubRip has them: a block a segment."""
    return _blocks(found, "{at}\n{start} --> {end}\n{text}\n\n", ",")


def write_vtt(found: Answered) -> str:
    """Subtitles as WebVTT has them."""
    return "WEBVTT\n\n" + _blocks(found, "{start} --> {end}\n{text}\n\n", ".")


def _blocks(found: Answered, block: str, point: str) -> str:
    said = [(segment.text, *span) for segment, span in zip(found.segments, found.spans, strict=True) if segment.text]
    lines = [" ".join(text.replace("-->", "->").split()) for text, _, _ in said]
    return "".join(
        block.format(at=at, start=_clock(start, point), end=_clock(end, point), text=line)
        for at, (line, (_, start, end)) in enumerate(zip(lines, said, strict=True), 1)
    )


def _clock(seconds: float, point: str) -> str:
    whole = round(seconds * 1000)
    return f"{whole // 3_600_000:02}:{whole // 60_000 % 60:02}:{whole // 1000 % 60:02}{point}{whole % 1000:03}"


def sent(event: object) -> bytes:
    """A server-sent event."""
    return f"data: {event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)}\n\n".encode()


async def first_event(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same events, once the first is there: what fails before it is an error of the request.

    Raises:
        ApiError: as the events raise it.
    """
    first = await anext(events)

    async def all_of_them() -> AsyncIterator[bytes]:
        yield first
        try:
            async for event in events:
                yield event
        except ApiError as error:  # the status was sent before
            yield sent(error.body())

    return all_of_them()


def joins_as_text(route: Route) -> bool:
    """Whether the answer for a long clip is its segments' answers with spaces between."""
    if route.answer_format is not None:
        return False
    if isinstance(route, Prompt):
        return True
    return isinstance(route, ByMask) and (route.task is None or (route.task.form == "plain" and not route.task.labels))


async def deltas(
    service: Service,
    request: Request,
    clip: HeardClip,
    route: Route,
    options: RunOptions,
    on_done: Callable[[Answered], object],
) -> AsyncIterator[str]:
    """An answer as it is decoded where it is open text, else in one piece; `on_done` is told when it is whole."""
    as_text = joins_as_text(route)
    before = told = ""  # what stands before the segment, and what was sent of it
    async for found in service.stream(request, clip, route, options, follow=as_text):
        if isinstance(found, Answered):
            if not as_text:
                yield found.result.text
            on_done(found)
        elif as_text:
            if found.text.startswith(told) and len(found.text) > len(told):
                yield found.text[len(told) :] if told else before + found.text
                told = found.text
            if isinstance(found, SegmentAnswer) and told:
                before, told = " ", ""


async def _events(service: Service, request: Request, clip: HeardClip, route: Route, options: RunOptions) -> AsyncIterator[bytes]:
    whole: list[Answered] = []
    async for text in deltas(service, request, clip, route, options, whole.append):
        yield sent({"type": "transcript.text.delta", "delta": text})
    done = {"type": "transcript.text.done", "text": whole[0].result.text, "amask": about_result(whole[0])}
    yield sent(done)
