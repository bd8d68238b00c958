"""Errors of the HTTP server, in OpenAI's shape."""

from collections.abc import Mapping
from typing import Any

from ..errors import AmaskError, AudioError, BankError, ModelError
from .batcher import QueueFullError

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class ApiError(Exception):
    """An answer with an error.

    Args:
        status: of HTTP.
        message: what failed, and what to do.
        param: the parameter at fault.
        code: a short name of the error, for programs.
        more: what stands beside these under `error`.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        *,
        more: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.more, self.headers = dict(more or {}), dict(headers or {})

    def body(self) -> dict[str, Any]:
        """`{"error": {"message", "type", "param", "code"}}`."""
        kind = "server_error" if self.status >= 500 else TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code} | self.more}


def unsupported(param: str, why: str) -> ApiError:
    """A parameter that this server cannot honour, and does not ignore."""
    return ApiError(400, f"{param}: {why}", param, "unsupported_parameter")


def invalid(param: str, why: str) -> ApiError:
    """A parameter that is missing or no such thing."""
    return ApiError(400, f"{param}: {why}", param, "invalid_value")


def as_api_error(error: AmaskError, param: str | None = None) -> ApiError:
    """One of amask's own errors as an answer."""
    if isinstance(error, QueueFullError):
        return ApiError(429, str(error), None, "queue_full", headers={"Retry-After": str(error.retry_after)})
    if isinstance(error, AudioError):
        return ApiError(400, str(error), param or "file", "invalid_audio")
    if isinstance(error, BankError):
        return ApiError(404, str(error), "model", "model_not_found")
    if isinstance(error, ModelError):
        return ApiError(400, str(error), param, "unsupported_parameter")
    return ApiError(400, str(error), param, "invalid_value")
