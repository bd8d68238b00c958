"""What every test relies on: an environment of its own, and the optional folders beside the repository.

amask is imported inside fixtures and tests, so that checking of shapes is installed first.
"""

import functools
import inspect
import os
import tempfile
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import beartype
import jaxtyping
import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("AMASK_SHARED") or ROOT.parent / "shared")
GOLDEN = Path(os.environ.get("AMASK_GOLDEN") or SHARED / "golden")

# Read by libraries when they are imported, hence here: no network, and few enough threads for two cores. Two workers of two
# threads each would wait for one another: the smallest models then take four times as long. (A worker inherits what is set
# here in the process that starts it.)
os.environ["HF_HUB_OFFLINE"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
else:
    os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# matplotlib looks through the fonts of the machine once, and not once a process whose folders are its own.
os.environ.setdefault("MPLCONFIGDIR", str(Path(tempfile.gettempdir()) / "amask-tests-matplotlib"))


def _hint(annotation: object, names: dict) -> object:
    """An annotation with what its strings name; Any where that is imported for type checkers only, as jaxtyping has it."""
    try:
        holder = types.SimpleNamespace(__annotations__={"value": annotation})
        return typing.get_type_hints(holder, names, include_extras=True)["value"]
    except (NameError, AttributeError):
        return typing.Any


def _check(function: Callable) -> Callable:
    """A function that checks its parameters and result: by beartype alone where no annotation has a shape."""
    hints = {name: _hint(annotation, function.__globals__) for name, annotation in function.__annotations__.items()}
    if "jaxtyping." in repr(hints) or inspect.isgeneratorfunction(function):
        return _jaxtyped(function, typechecker=beartype.beartype)
    code, names, closure = function.__code__, function.__globals__, function.__closure__
    copy = types.FunctionType(code, names, function.__name__, function.__defaults__, closure)
    copy.__kwdefaults__, copy.__annotations__ = function.__kwdefaults__, hints
    copy.__module__, copy.__qualname__ = function.__module__, function.__qualname__
    return beartype.beartype(copy)


def _checked_when_called(function: object = None, *, typechecker: Callable) -> object:
    """jaxtyping's decorator, quick enough for a suite: most functions are never called, and most calls have no shapes.

    The checks are the same. A call through jaxtyping's own wrapper costs some 20 microseconds more, one through beartype's 1.
    """
    if function is None:
        return functools.partial(_checked_when_called, typechecker=typechecker)
    if not inspect.isfunction(function):
        return _jaxtyped(function, typechecker=typechecker)  # a class or property: comes back for its functions
    if hasattr(function, "checked_when_called") or getattr(function, "__no_type_check__", False):
        return function
    check = None

    @functools.wraps(function)
    def checked(*arguments: object, **options: object) -> object:
        nonlocal check
        __tracebackhide__ = True
        if check is None:
            check = _check(function)
        return check(*arguments, **options)

    checked.checked_when_called = True
    return checked


_jaxtyped = jaxtyping.jaxtyped
jaxtyping.jaxtyped = jaxtyping._decorator.jaxtyped = _checked_when_called


def _own_folders(home: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("AMASK_BANK", str(home / "bank"))
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        patch.setenv(name, str(home / name.lower()))


@pytest.fixture(scope="session", autouse=True)
def isolated_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing of the user's reaches a test, and nothing of a test's reaches the user: settings, folders, colours."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AMASK_")]:
            patch.delenv(name)
        patch.delenv("FORCE_COLOR", raising=False)
        for name, value in {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "120", "MPLBACKEND": "agg"}.items():
            patch.setenv(name, value)
        _own_folders(tmp_path_factory.mktemp("session"), patch)
        yield


@pytest.fixture(autouse=True)
def isolated(isolated_session: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a bank of its own."""
    _own_folders(tmp_path_factory.mktemp("home"), monkeypatch)


def _present(folder: Path, variable: str) -> Path:
    if not folder.is_dir():
        pytest.skip(f"optional data are absent: there is no {folder}; {variable} may name another folder")
    return folder


@pytest.fixture(scope="session")
def few_dev_requests() -> Iterator[None]:
    """Trainings of predictors calibrate on every tenth dev request: reading all of them takes longer than some steps."""
    from amask.predictor import train

    with pytest.MonkeyPatch.context() as patch:
        whole = train.dev_examples
        patch.setattr(train, "dev_examples", lambda *arguments: whole(*arguments)[::10])
        yield


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Data that the repository does not carry: AMASK_SHARED, else the folder `shared` beside the repository."""
    return _present(SHARED, "AMASK_SHARED")


@pytest.fixture(scope="session")
def golden() -> Path:
    """Numbers of the paper's authors' code: AMASK_GOLDEN, else the folder `golden` in the shared one."""
    return _present(GOLDEN, "AMASK_GOLDEN")
