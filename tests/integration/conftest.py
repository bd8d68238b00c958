"""The command line on the pocket model: clips, and a runner."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE = 16_000


@pytest.fixture(scope="session")
def clip(root) -> Path:
    """A woman speaking."""
    return root / "docs" / "clips" / "woman.opus"


@pytest.fixture(scope="session")
def wave(clip) -> np.ndarray:
    """That clip's samples at 16 kHz."""
    import soxr

    samples, rate = soundfile.read(clip, dtype="float32")
    return soxr.resample(samples, rate, RATE)


@pytest.fixture(scope="session", autouse=True)
def pocket_once() -> Iterator[None]:
    """The pocket model is loaded once for all tests of a process: it keeps nothing of what it was used for."""
    from amask.lalm import registry

    with pytest.MonkeyPatch.context() as patch:
        load, held = registry.load_pocket, {}

        def load_once(*arguments: object, **settings: object) -> object:
            key = repr((arguments, settings))
            if key not in held:
                held[key] = load(*arguments, **settings)
            return held[key]

        patch.setattr(registry, "load_pocket", load_once)
        yield


@pytest.fixture(scope="session")
def pocket_geometry() -> object:
    """The heads of the pocket model, as its masks tell."""
    from amask.mask_bank.bank import BUNDLED, MaskBank

    return MaskBank(BUNDLED).get("gr").geometry


@pytest.fixture(scope="session")
def pipe() -> object:
    """The pocket model with the bundled bank; a file of tests may have another."""
    import amask

    return amask.pipeline("pocket")


@pytest.fixture
def start(pipe) -> Callable[..., object]:
    """Makes a client of a server on the pipeline; arguments are those of `ServerSettings`."""
    from starlette.testclient import TestClient

    from amask.serving.app import create_app
    from amask.serving.service import ServerSettings

    return lambda **options: TestClient(create_app(pipe, settings=ServerSettings(**options)))


@pytest.fixture(scope="session")
def served() -> Callable[..., AbstractContextManager[str]]:
    """Runs an app on a free port; the context gives its host and port."""
    import uvicorn

    @contextmanager
    def serve(app: object) -> Iterator[str]:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
            thread.start()
            while not server.started:
                time.sleep(0.05)
            yield f"127.0.0.1:{listener.getsockname()[1]}"
            server.should_exit = True
            thread.join(30)

    return serve


@pytest.fixture(scope="session")
def assert_same_rows() -> Callable[[Iterable[dict], Iterable[dict]], None]:
    """Bulk rows are the same by id; confidences to 0.001, as their last digits hang on what else is in a clip's batch."""

    def compare(found: Iterable[dict], wanted: Iterable[dict]) -> None:
        one, other = ({row["id"]: row for row in rows} for rows in (found, wanted))
        assert {at: row | {"confidence": None} for at, row in one.items()} == {
            at: row | {"confidence": None} for at, row in other.items()
        }
        for at, row in one.items():
            assert row["confidence"] == pytest.approx(other[at]["confidence"], abs=1e-3)

    return compare


@pytest.fixture
def amask() -> Callable[..., object]:
    """Runs the command in this process; gives back exit_code, stdout and stderr."""
    from typer.testing import CliRunner

    from amask.cli.main import app

    def run(*arguments: object) -> object:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)

    return run


@pytest.fixture
def process() -> Callable[..., subprocess.Popen]:
    """Starts the command as a process of its own."""

    def start(*arguments: object, stdin: bool = False, text: bool = True) -> subprocess.Popen:
        command = [sys.executable, "-P", "-m", "amask", *map(str, arguments)]
        # Whoever runs the tests in the background has Ctrl-C ignored, and children inherit that.
        listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.PIPE if stdin else None}
        return subprocess.Popen(command, **pipes, text=text, env=dict(os.environ), preexec_fn=listen)  # noqa: PLW1509

    return start


@dataclass(frozen=True)
class Listening:
    """`amask serve` as a process of its own, which listens."""

    process: subprocess.Popen
    address: str
    log: list[str] = field(default_factory=list)


@pytest.fixture
def listen(process) -> Callable[..., AbstractContextManager[Listening]]:
    """Starts `amask serve` with options as a process of its own, at any port unless they name one; stopped after the context."""

    @contextmanager
    def start(*options: object) -> Iterator[Listening]:
        run, lines = process("serve", *options, *(() if "--port" in options else ("--port", "0"))), []
        try:
            for line in run.stderr:
                lines.append(line)
                if found := re.search(r"http://\S+", line):
                    break
            else:
                raise AssertionError("".join(lines))
            # A full pipe would stop the server.
            threading.Thread(target=lines.extend, args=(run.stderr,), daemon=True).start()
            yield Listening(run, found[0], lines)
        finally:
            run.terminate()
            run.wait(60)

    return start
