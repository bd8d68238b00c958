"""Kyutai's speech to text, the one family without a prompt."""

import numpy as np
import pytest
import torch

from amask.errors import ModelError
from amask.lalm.answering import texts
from amask.lalm.kyutai import KyutaiSpeechToText
from amask.lalm.registry import adapt

from .others import FRAME_BY_FRAME

RNG = np.random.default_rng(3)


@pytest.fixture(scope="module")
def model() -> KyutaiSpeechToText:
    """The tiny model in its adapter."""
    return adapt("kyutai", *FRAME_BY_FRAME["kyutai_speech_to_text"]())


@pytest.fixture(scope="module")
def waves(model: KyutaiSpeechToText) -> list[np.ndarray]:
    """Two clips of different length."""
    return [RNG.normal(0, 0.1, int(seconds * model.rate)).astype(np.float32) for seconds in (1.0, 1.6)]


def tokens(model: KyutaiSpeechToText, waves: list[np.ndarray], gates: torch.Tensor | None = None) -> list[list[int]]:
    """What is generated, row by row, without what fills rows up."""
    from amask.lalm.gating import gated

    features = model.encode(waves)
    with torch.no_grad(), gated(model.sites, gates):
        found = model._continue(features, [""] * len(waves), model._settings(1))
    return [row[:length].tolist() for row, length in zip(found, features.lengths.tolist(), strict=True)]


def test_generates_what_the_model_itself_does(model: KyutaiSpeechToText, waves: list[np.ndarray]) -> None:
    """Token for token as transformers' own `generate`, for as long as that goes on, and a batch as each clip alone."""
    together = tokens(model, waves)
    for wave, row in zip(waves, together, strict=True):
        inputs = model.processor(audio=[wave], return_tensors="pt")
        own = model.model.generate(**inputs, do_sample=False)[0].tolist()
        own = own[1:] if own[0] == model.model.config.bos_token_id else own
        assert len(own) > 3
        assert row[: len(own)] == own
        assert tokens(model, [wave]) == [row]


def test_gates(model: KyutaiSpeechToText, waves: list[np.ndarray]) -> None:
    """Ones change nothing; heads off are columns of zeros; rows keep gates of their own."""
    ones = torch.ones(model.geometry.shape)
    plain = tokens(model, waves)
    assert tokens(model, waves, ones) == plain
    off = ones.clone()
    off[1] = 0
    masked = tokens(model, waves, off)
    assert tokens(model, waves, torch.stack([ones, off])) == [plain[0], masked[1]]
    assert masked != plain
    weight = model.sites[1].projection.weight
    kept = weight.data.clone()
    weight.data.zero_()
    assert tokens(model, waves) == masked
    weight.data.copy_(kept)


def test_what_it_cannot_do_is_said(model: KyutaiSpeechToText, waves: list[np.ndarray]) -> None:
    """Training, instructions, and beams."""
    features = model.encode(waves)
    with pytest.raises(ModelError, match="without times"):
        model.token_losses(features, ["one", "two"])
    with pytest.raises(ModelError, match="takes no prompt"):
        texts(model.answer(features, prompts=["transcribe"] * 2))
    with pytest.raises(ModelError, match="without beams"):
        texts(model.answer(features, beams=2))


@pytest.mark.parametrize("layer", [0, -1, None])
def test_pruned_is_gated(model: KyutaiSpeechToText, waves: list[np.ndarray], layer: int | None) -> None:
    """Heads cut out, in groups of different size and with a layer without any, give the tokens that gates give."""
    gates = (torch.rand(model.geometry.shape, generator=torch.Generator().manual_seed(2)) < 0.7).float()
    gates[:, 0] = 1
    if layer is not None:
        gates[layer] = 0
    assert tokens(model.pruned(gates), waves) == tokens(model, waves, gates)
    if layer is not None:  # a few heads less may leave the likeliest tokens as they are
        assert tokens(model, waves, gates) != tokens(model, waves)
