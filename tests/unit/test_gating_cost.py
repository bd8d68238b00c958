"""benchmarks/gating_cost.py counts bytes right, and gating copies no weights: on a shrunken Qwen2-Audio, without timing."""

import gc
import importlib.util
from contextlib import contextmanager

import pytest
import torch

WIDTH, LAYERS, HEADS, HEARD = 256, 3, 4, 50
TINY = {
    "audio_config": {
        "model_type": "qwen2_audio_encoder",
        "num_mel_bins": 16,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 64,
        "d_model": 32,
        "max_source_positions": 2 * HEARD,
    },
    "text_config": {
        "model_type": "qwen2",
        "vocab_size": 100,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
    },
}


@pytest.fixture(scope="module")
def cost(root):
    """The benchmark as a module."""
    spec = importlib.util.spec_from_file_location("gating_cost", root / "benchmarks" / "gating_cost.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model(cost):
    return cost.build(TINY, torch.bfloat16)


def test_bytes_are_counted(cost):
    known = torch.zeros(1000)
    counter = cost.LiveBytes()
    counter.know(known)
    with counter:
        known.add_(1)  # not new
        one = torch.ones(500)
        view = one[10:].view(7, 70)  # the same storage
        two = one.double()
        assert (counter.live, counter.peak, counter.made) == (6000, 6000, 6000)
        del one, two
        gc.collect()
        assert counter.live == 2000  # the view holds it
        assert (counter.lap(), counter.peak) == (6000, 2000)
        del view
        gc.collect()
        for _ in range(3):
            torch.empty(250)
        assert (counter.live, counter.peak, counter.made) == (0, 2000, 9000)


def test_gating_makes_no_copy_of_the_weights(cost, model):
    weights = cost.weight_bytes(model)
    assert weights > 2 * LAYERS * (4 * WIDTH**2 + 3 * WIDTH * 2 * WIDTH)  # bfloat16: the matrices alone
    plain = cost.count(model, None)
    states = 2 * LAYERS * (HEARD + cost.PROMPT + 1) * WIDTH  # one scaled copy of each layer's states, in both passes
    for gates in (torch.ones(LAYERS, HEADS, device="meta"), torch.ones(1, LAYERS, HEADS, device="meta")):
        gated = cost.count(model, gates)
        assert weights + cost.highest(gated) <= 1.02 * (weights + cost.highest(plain))
        assert states <= gated["all ever made"] - plain["all ever made"] <= 1.05 * states
        assert gated["encoding"] == plain["encoding"]


def test_a_copy_of_the_weights_would_be_seen(cost, model, monkeypatch):
    """The control: gating that scales the output projections' weights instead."""

    @contextmanager
    def copying(sites, gates):
        copies = [] if gates is None else [site.projection.weight.clone() for site in sites]
        yield
        del copies

    monkeypatch.setattr(cost, "gated", copying)
    plain, gated = cost.count(model, None), cost.count(model, torch.ones(LAYERS, HEADS, device="meta"))
    assert cost.highest(gated) == cost.highest(plain) + 2 * LAYERS * WIDTH**2


def test_the_shape_is_that_of_the_released_model(cost):
    text, audio = cost.RELEASED["text_config"], cost.RELEASED["audio_config"]
    decoder = text["num_hidden_layers"] * text["hidden_size"] * (4 * text["hidden_size"] + 3 * text["intermediate_size"])
    encoder = audio["encoder_layers"] * audio["d_model"] * (4 * audio["d_model"] + 2 * audio["encoder_ffn_dim"])
    matrices = decoder + encoder + 2 * text["vocab_size"] * text["hidden_size"]
    assert 8.38e9 < matrices < 8.40e9  # the model card says 8.4B
