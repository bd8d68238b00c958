"""The body of `POST /v1/chat/completions`: what may stand in it, held to a schema before anything is decoded."""

import json
from typing import Annotated, Any, Literal

import pydantic

from .api_errors import ApiError, invalid, unsupported
from .uploads import UploadLimits

MAX_TOKENS = 4096


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


class StreamOptions(_Strict):
    """`stream_options`."""

    include_usage: bool = False


class ChatBody(_Strict):
    """The body. What would change the answer and is not offered is refused; the last lines change nothing here."""

    model: str
    messages: Annotated[list[Message], pydantic.Field(min_length=1)]
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
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


def parse_body(data: bytes, limits: UploadLimits) -> ChatBody:
    """Read a body. A field that is null is as one that is not there: clients send what they do not set as null.

    Raises:
        ApiError: it is no JSON, nested too deep, or a field is unknown or no such thing.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise ApiError(400, "the body is not JSON", None, "invalid_json") from None
    _check_depth(found, limits.max_depth)
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ApiError(400, "the body has half of a surrogate pair, which is no text", None, "invalid_json") from None
    if not isinstance(found, dict):
        raise ApiError(400, "expected a JSON object with model and messages", None, "invalid_json")
    try:
        return ChatBody.model_validate({name: value for name, value in found.items() if value is not None})
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
