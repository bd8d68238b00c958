"""Likelihoods of labels: by the model's own token losses, normalised."""

import pytest
import torch


@pytest.fixture(scope="module")
def lalm(tiny_qwen2_audio):
    from amask.lalm.batching import PromptTemplate
    from amask.lalm.qwen2_audio import Qwen2Audio

    return Qwen2Audio("tiny", *tiny_qwen2_audio(), PromptTemplate("<|audio_bos|>", "<|audio_eos|>{}"))


def test_a_labels_likelihood_is_its_tokens_product_over_that_of_all(lalm, swelling):
    from amask.lalm.likelihood import label_likelihoods

    features = lalm.encode(swelling((0.5, 1.0)))
    found = label_likelihoods(lalm, features, ["a", "bc", "d"])
    each = torch.stack([torch.exp(-lalm.token_losses(features, [label] * 2)[0].sum(1)) for label in ("a", "bc", "d")], 1)
    assert torch.allclose(found, each / each.sum(1, keepdim=True), atol=1e-6)
    assert torch.allclose(found.sum(1), torch.ones(2))


def test_gates_change_them(lalm, swelling):
    from amask.lalm.likelihood import label_likelihoods

    features = lalm.encode(swelling((1.0,)))
    off = label_likelihoods(lalm, features, ["a", "b"], torch.zeros(lalm.geometry.shape))
    assert not torch.allclose(off, label_likelihoods(lalm, features, ["a", "b"]))


def test_no_labels_are_refused(lalm, swelling):
    from amask.errors import ModelError
    from amask.lalm.likelihood import label_likelihoods

    with pytest.raises(ModelError, match="no labels"):
        label_likelihoods(lalm, lalm.encode(swelling((1.0,))), [])
