"""The tiny SALMONN, on disk and loaded."""

import shutil

import numpy as np
import pytest
import torch

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
def waves():
    """Noise that swells, of different lengths."""
    rng = np.random.default_rng(0)
    times = [np.arange(int(16_000 * seconds)) / 16_000 for seconds in SECONDS]
    return [(rng.normal(0, 0.1, len(time)) * np.sin(5 * time + at)).astype(np.float32) for at, time in enumerate(times)]


@pytest.fixture(scope="module")
def features(model, waves):
    return model.encode(waves)


@pytest.fixture(scope="module")
def gates(model):
    """Another mask for each of three rows."""
    return (torch.rand(3, *model.geometry.shape, generator=torch.Generator().manual_seed(3)) > 0.4).float()
