"""What every test relies on: an environment of its own, and the optional folders beside the repository.

amask is imported inside fixtures and tests, so that checking of shapes is installed first.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

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
