"""A small predictor over a made-up bank, quickly trained."""

import pytest
import torch

PARTS = ("gr", "asr", "ser")


@pytest.fixture(scope="session")
def identity():
    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity

    return Identity(Geometry((3, 5, 4)), "0123456789abcdef", "ragged")


@pytest.fixture(scope="session")
def made_mask(identity):
    """Makes the mask of a task by its name."""
    from amask.data.tasks import parse_task
    from amask.mask_bank.mask import HeadMask

    def make(name, known=None):
        generator = torch.Generator().manual_seed(sum(map(ord, name)))
        logits = 4 * torch.randn(identity.geometry.shape, generator=generator)
        return HeadMask.from_logits(logits, identity, task=parse_task(name, known))

    return make


@pytest.fixture(scope="session")
def masks(made_mask):
    return [made_mask(name) for name in (*PARTS, "gr-asr-json")]


@pytest.fixture(scope="session")
def trained(masks, few_dev_requests):
    """A predictor for these masks, from a few steps of training."""
    from amask.predictor.train import train_predictor
    from amask.predictor.training import PredictorSettings

    return train_predictor(masks, PredictorSettings(steps=12, batch=16, warmup=2))
