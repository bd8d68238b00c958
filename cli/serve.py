"""`amask serve`: an HTTP server in OpenAI's shapes, whose batches mix masks."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import (
    BankOption,
    DeviceOption,
    DtypeOption,
    ModelOption,
    TasksOption,
    note,
    one_line_errors,
    open_pipeline,
)

if TYPE_CHECKING:
    from ..serving.service import ServerSettings

KEY = "File that holds the key that clients must send; the environment variable AMASK_API_KEY by default."
ADMIN = "File that holds the key for loading and removing masks; AMASK_ADMIN_KEY by default. Without one nobody may."
URLS = "A host, HOST or HOST:PORT, from which clips are fetched that a chat names by http or https URL; repeatable."
PRUNE = "A task or mask of which batches run on a model without its heads that are off; for one that most requests use."
GREEDY = "Answer greedily whatever temperature a client sends, with a warning, instead of refusing it."
ALIAS = "Another name for one of the server's: whisper-1=pocket:asr; repeatable."
HERE = ("127.0.0.1", "::1", "localhost")


def serve(
    model: ModelOption = "pocket",
    bank: BankOption = None,
    tasks: TasksOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all of them.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any that is free.")] = 8080,
    max_batch: Annotated[int, typer.Option(min=1, help="Segments that are answered together.")] = 16,
    max_wait_ms: Annotated[float, typer.Option(min=0, help="Milliseconds that a request waits for others.")] = 5.0,
    max_queue: Annotated[int, typer.Option(min=1, help="Segments that may wait; beyond that 429 is answered.")] = 256,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds after which a request is given up.")] = 120.0,
    max_bytes: Annotated[int, typer.Option(min=1, help="Bytes of a request's body.")] = 25 * 2**20,
    max_seconds: Annotated[float, typer.Option(min=1, help="Seconds of a request's audio.")] = 600.0,
    alias: Annotated[list[str] | None, typer.Option(help=ALIAS, metavar="NAME=MODEL")] = None,
    api_key: Annotated[Path | None, typer.Option(help=KEY, metavar="FILE")] = None,
    admin_key: Annotated[Path | None, typer.Option(help=ADMIN, metavar="FILE")] = None,
    allow_urls: Annotated[list[str] | None, typer.Option(help=URLS, metavar="HOST")] = None,
    prune: Annotated[str | None, typer.Option(help=PRUNE, metavar="NAME")] = None,
    page: Annotated[bool, typer.Option(help="A page at / for people: record or upload a clip, and ask.")] = True,
    any_temperature: Annotated[bool, typer.Option("--any-temperature", help=GREEDY)] = False,
    cors: Annotated[list[str] | None, typer.Option(help="An origin whose pages may use the server; repeatable.")] = None,
) -> None:
    """Serve a model over HTTP, in the shapes of OpenAI's API: transcriptions, translations, chat completions with audio.

    The mask of each request is chosen by its words or by the model's name: pocket, pocket:gr, pocket:gr@2, pocket:gr|asr,
    pocket:gr THEN asr IF female, pocket:prompt. Requests that wait are answered together, whatever their masks.
    """
    with one_line_errors():
        from ..data.extras import import_extra

        for library in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
            import_extra(library, "'amask serve'")
        from ..serving.batcher import BatchSettings
        from ..serving.service import ServerSettings
        from ..serving.uploads import UploadLimits

        settings = ServerSettings(
            BatchSettings(max_batch, max_wait_ms, max_queue),
            UploadLimits(max_bytes, max_seconds),
            timeout,
            _aliases(alias or []),
            _key(api_key, "AMASK_API_KEY"),
            tuple(cors or ()),
            _key(admin_key, "AMASK_ADMIN_KEY"),
            tuple(allow_urls or ()),
            prune,
            page,
            any_temperature,
        )
        if host not in HERE and settings.api_key is None:
            note(f"{host} may be reached by others, and there is no --api-key")
        _run(model, bank, device, dtype, tasks, host, port, settings)


def _run(
    model: str,
    bank: Path | None,
    device: str,
    dtype: str,
    tasks: Path | None,
    host: str,
    port: int,
    settings: "ServerSettings",
) -> None:
    import logging
    import socket

    import uvicorn

    from ..errors import DataError
    from ..serving.app import create_app

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise DataError(f"cannot listen at {host}:{port}: {error.strerror or error}; choose another --port") from None
        pipe = open_pipeline(model, bank, device, dtype, tasks)
        app = create_app(pipe, pipe.model.name, settings)
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger = logging.getLogger("amask.serve")
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        listener.listen(2048)  # who reads the address below may ask at once
        address = f"[{host}]" if ":" in host else host
        note(f"{pipe.model.name} at http://{address}:{listener.getsockname()[1]}")
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=10)
        uvicorn.Server(config).run(sockets=[listener])


def _aliases(texts: list[str]) -> dict[str, str]:
    from ..errors import DataError

    found = {}
    for text in texts:
        alias, equals, target = text.partition("=")
        if not equals or not alias.strip() or not target.strip():
            raise DataError(f"--alias {text}: expected NAME=MODEL, such as whisper-1=pocket:asr")
        found[alias.strip()] = target.strip()
    return found


def _key(file: Path | None, variable: str) -> str | None:
    """A key from its file or the environment; messages never hold one."""
    from ..errors import DataError

    if file is None:
        text = os.environ.get(variable)
        if text is None:
            return None
        where = variable
    else:
        where = "the key's file"
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, ValueError):
            raise DataError(
                "cannot read the key's file; keys are given as a file that holds one, or in the environment"
            ) from None
    if not text.strip():
        raise DataError(f"{where} is empty; expected a key")
    return text.strip()
