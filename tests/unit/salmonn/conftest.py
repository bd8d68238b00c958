"""The tiny SALMONN, on disk and loaded."""

import shutil

import pytest

from .official import SECONDS, write_salmonn


@pytest.fixture(scope="module")
def pristine(tmp_path_factory, randomized):
    return write_salmonn(tmp_path_factory.mktemp("salmonn"), randomized)


@pytest.fixture
def folder(pristine, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(pristine, tmp_path / "salmonn")


@pytest.fixture(scope="module")
def load():
    from amask.lalm.registry import load_model

    return lambda folder, dtype=None: load_model(str(folder), "cpu", dtype)


@pytest.fixture(scope="module")
def model(pristine, load):
    return load(pristine)


@pytest.fixture(scope="module")
def waves(swelling):
    return swelling(SECONDS)


@pytest.fixture(scope="module")
def features(model, waves):
    return model.encode(waves)


@pytest.fixture(scope="module")
def gates(model, three_masks):
    return three_masks(model.geometry.shape)
