"""The HTTP server: OpenAI's endpoints over one pipeline, as an ASGI app."""

import hmac
import json
import logging
import time
import uuid
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import admin
from .api_errors import ApiError
from .chat import complete
from .pipeline import Pipeline
from .service import ServerSettings, Service
from .transcriptions import transcribe

log = logging.getLogger("amask.serve")
OPEN_PATHS = frozenset({"/health"})
ADMIN_PATH = "/v1/masks"


class BodyLimit:
    """Refuses bodies above a number of bytes, by their header or as they come.

    Args:
        app: what is behind it.
        most: bytes.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        read = 0
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.most:
            await error_response(self._too_large())(scope, receive, send)
            return

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.most:
                raise self._too_large()
            return message

        await self.app(scope, counted, send)

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the body has more than {self.most} bytes", None, "body_too_large")


class Watch:
    """Stands before every endpoint: request ids, the key, a line of log without text or audio, metrics.

    Args:
        app: what is behind it.
        service: whose settings and metrics.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, number, status = time.perf_counter(), f"req_{uuid.uuid4().hex[:24]}", 500

        async def numbered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", number.encode())]}
            await send(message)

        refused = refuse(Request(scope), self.service.settings)
        try:
            await (error_response(refused) if refused else self.app)(scope, receive, numbered)
        finally:
            seconds = time.perf_counter() - started
            path = getattr(scope.get("route"), "path", "other")
            self.service.metrics.requests.labels(path, str(status)).inc()
            self.service.metrics.latency.labels(path).observe(seconds)
            log.info("%s %s %s %d %.0f ms", number, scope["method"], path, status, 1000 * seconds)


def error_response(error: ApiError) -> Response:
    """An error as an answer; in ASCII, as it may quote what cannot be written in UTF-8."""
    return Response(json.dumps(error.body()), error.status, error.headers, "application/json")


def create_app(pipe: Pipeline, name: str = "pocket", settings: ServerSettings | None = None) -> FastAPI:
    """The server's app.

    Args:
        pipe: model, bank and predictor.
        name: what clients call the model.
        settings: see there.
    """
    service = Service(pipe, name, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(title="amask", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.service = service
    _add_routes(app, service)
    _add_error_handlers(app)
    if service.settings.page:
        from .page import mount_page  # noqa: PLC0415 - imports Gradio

        mount_page(app, service)
    app.add_middleware(BodyLimit, most=service.settings.limits.max_bytes)
    app.add_middleware(Watch, service=service)
    if service.settings.cors:
        app.add_middleware(CORSMiddleware, allow_origins=list(service.settings.cors), allow_methods=["*"], allow_headers=["*"])
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    @app.post("/v1/audio/transcriptions", response_model=None)
    async def transcriptions(request: Request) -> Response:
        return await transcribe(service, request, "asr")

    @app.post("/v1/audio/translations", response_model=None)
    async def translations(request: Request) -> Response:
        return await transcribe(service, request, "s2tt")

    @app.post("/v1/chat/completions", response_model=None)
    async def chat_completions(request: Request) -> Response:
        return await complete(service, request)

    @app.get("/v1/models", response_model=None)
    async def models() -> Response:
        return JSONResponse({"object": "list", "data": await service.call(service.names.list)})

    @app.get("/v1/models/{model:path}", response_model=None)
    async def one_model(model: str) -> Response:
        for row in await service.call(service.names.list):
            if row["id"] == model:
                return JSONResponse(row)
        raise ApiError(404, f"no model {model[:100]!r}; see GET /v1/models", "model", "model_not_found")

    @app.post(ADMIN_PATH, response_model=None)
    async def load_mask(request: Request) -> Response:
        return await admin.load(service, request)

    @app.delete(ADMIN_PATH + "/{name:path}", response_model=None)
    async def remove_mask(name: str) -> Response:
        return await admin.remove(service, name)

    @app.get("/health", response_model=None)
    async def health() -> Response:
        return JSONResponse({"status": "ok", "model": service.names.name, "waiting": service.batcher.waiting})

    @app.get("/metrics", response_model=None)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def ours(_: Request, error: ApiError) -> Response:
        return error_response(error)

    @app.exception_handler(HTTPException)
    async def theirs(request: Request, error: HTTPException) -> Response:
        where = f"{request.method} {request.url.path}"
        allowed = (error.headers or {}).get("Allow")
        message = f"{where} is not served" if error.status_code in (404, 405) else str(error.detail)
        message += f"; {allowed} is" if allowed else ""
        return error_response(ApiError(error.status_code, message, None, "bad_request", headers=error.headers))


def refuse(request: Request, settings: ServerSettings) -> ApiError | None:
    """Why a request is not answered: it has no key, or comes from a page of another origin."""
    origin = request.headers.get("origin")
    if origin and origin not in settings.cors and origin.partition("://")[2] != request.headers.get("host"):
        return ApiError(403, "pages of other origins are not answered; see --cors", None, "foreign_origin")
    path, key, kind = request.url.path, settings.api_key, "API key"
    if path == ADMIN_PATH or path.startswith(f"{ADMIN_PATH}/"):
        key, kind = settings.admin_key, "admin key"
        if key is None:
            return ApiError(403, "masks are loaded and removed only by a server with --admin-key", None, "no_admin_key")
    if key is None or path in OPEN_PATHS or is_key(request, key):
        return None
    headers = {"WWW-Authenticate": 'Basic realm="amask"'}
    return ApiError(401, f"wrong or no {kind}; send Authorization: Bearer KEY", None, "invalid_api_key", headers=headers)


def is_key(request: Request, key: str) -> bool:
    """Whether a request has the key, as a bearer token or, from a browser, as a password."""
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            value = b64decode(value, validate=True).decode().partition(":")[2]
        except ValueError:
            return False
    return hmac.compare_digest(value.strip().encode(), key.encode())
