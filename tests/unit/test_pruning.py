"""Pruned models: what they refuse, and what they cost."""

import pytest
import torch


@pytest.fixture(scope="module")
def lalm(tiny_qwen2_audio):
    from amask.lalm.batching import PromptTemplate
    from amask.lalm.qwen2_audio import Qwen2Audio

    return Qwen2Audio("tiny", *tiny_qwen2_audio(), PromptTemplate("<|audio_bos|>", "<|audio_eos|>{}"))


def bits(lalm, seed=0):
    return (torch.rand(lalm.geometry.shape, generator=torch.Generator().manual_seed(seed)) < 0.6).float()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda gates: gates * 0.5, "exactly 0 .* or 1"),
        (lambda gates: gates * 0, "no heads at all"),
        (lambda gates: gates[:1], "one number a head"),
        (lambda gates: gates[None], "one number a head"),
    ],
)
def test_what_is_no_mask_is_refused(lalm, change, says):
    from amask.errors import ModelError

    gates = bits(lalm)
    gates[0, 0] = 1
    with pytest.raises(ModelError, match=says):
        lalm.pruned(change(gates))


def test_a_mask_of_another_model_is_refused(lalm):
    from amask.errors import MaskError
    from amask.lalm.identity import Identity
    from amask.mask_bank.mask import HeadMask

    ours, other = lalm.identity, Identity(lalm.geometry, "0" * 16, "other")
    assert lalm.pruned(HeadMask(torch.ones(lalm.geometry.shape, dtype=torch.bool), ours)).identity == ours
    with pytest.raises(MaskError, match="the mask is for other"):
        lalm.pruned(HeadMask(torch.ones(lalm.geometry.shape, dtype=torch.bool), other))


def test_a_pruned_model_answers_for_clips_by_its_mask_only(lalm, swelling):
    from amask.errors import ModelError
    from amask.lalm.gating import gated

    clips = [(wave, 16_000) for wave in swelling((0.5, 1.0))]
    gates = bits(lalm)
    pruned = lalm.pruned(gates)
    expected = lalm.run(clips, gates, max_new_tokens=8)
    assert pruned.run(clips, max_new_tokens=8) == pruned.run(clips, gates, max_new_tokens=8) == expected
    for use in (lambda: pruned.run(clips, bits(lalm, 1)), lambda: gated(pruned, gates)):
        with pytest.raises(ModelError, match="the model that it was made from"):
            use()


def test_a_quantised_model_says_why_not(lalm):
    from amask.errors import ModelError

    class Packed(torch.nn.Linear):
        """Stands for a quantised layer."""

    site = lalm.sites[0].projection
    site.__class__ = Packed
    try:
        assert "Packed, not Linear" in lalm.prune_obstacle
        with pytest.raises(ModelError, match="cannot be pruned: .*Packed"):
            lalm.pruned(bits(lalm))
    finally:
        site.__class__ = torch.nn.Linear
    assert lalm.prune_obstacle == ""


def test_weights_and_cache_shrink_with_the_heads(lalm):
    from transformers import DynamicCache

    gates = torch.zeros(lalm.geometry.shape)
    gates[1, 1] = 1  # of 2 layers × 4 heads of 4 over 2 of keys and values: one layer, one head, one group
    pruned = lalm.pruned(gates)
    attention = pruned.model.get_decoder().layers[1].self_attn
    shapes = [tuple(getattr(attention, name).weight.shape) for name in ("q_proj", "k_proj", "v_proj", "o_proj")]
    assert shapes == [(4, 24), (4, 24), (4, 24), (24, 4)]
    cache = DynamicCache(config=pruned.model.config.get_text_config(decoder=True))
    pruned.model.get_decoder()(inputs_embeds=torch.randn(1, 5, 24), past_key_values=cache, use_cache=True)
    assert [layer.keys is None for layer in cache.layers] == [True, False]
    assert cache.layers[1].keys.shape == (1, 1, 5, 4)
