"""Heads cut out of every family's model are the same as heads gated: forward, cached, beams, padding, layers without heads."""

import pytest
import torch
from torch import Tensor

from amask.errors import ModelError
from amask.lalm.generic import TransformersLALM
from amask.lalm.likelihood import label_probabilities

from .test_families import ANSWERS, NAMES, heard, lalm, logits, said, some_gates

LAYERS = ("some heads off everywhere", "first", "last", "all but one", "single heads")


def mask(model: TransformersLALM, which: str) -> Tensor:
    """Bits in which groups of query heads differ in size, and some layers have none."""
    bits = some_gates(model, 11)
    bits[:, 0] = 1
    if which == "first":
        bits[0] = 0
    elif which == "last":
        bits[-1] = 0
    elif which == "all but one":
        bits[:-1] = 0
    elif which == "single heads":
        bits[:] = 0
        bits[:, 1] = 1
    return bits


@pytest.mark.parametrize("which", LAYERS)
@pytest.mark.parametrize("name", NAMES)
def test_pruned_is_gated(name: str, which: str) -> None:
    """Logits of a forward pass over rows of different length; the plain model's are others."""
    model, gates = lalm(name), mask(lalm(name), which)
    pruned = model.pruned(gates)
    expected = logits(model, heard(name), gates)
    torch.testing.assert_close(logits(pruned, heard(name)), expected, atol=1e-4, rtol=1e-4)
    assert (expected - logits(model, heard(name))).abs().max() > 1e-4


@pytest.mark.parametrize("which", LAYERS)
@pytest.mark.parametrize("name", NAMES)
def test_pruned_answers_as_gated(name: str, which: str) -> None:
    """Token for token, cached and left-padded, greedily and with beams."""
    model, gates = lalm(name), mask(lalm(name), which)
    pruned, prompts = model.pruned(gates), said(model)
    for beams in (1, 3):
        how = {"max_new_tokens": 4, "beams": beams}
        assert pruned.answer(heard(name), None, prompts, **how) == model.answer(heard(name), gates, prompts, **how)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_pruned_model_shares(name: str) -> None:
    """Identity, encoding, and all weights but those of the attentions that were cut; it takes its own gates and no other."""
    model, gates = lalm(name), mask(lalm(name), "first")
    pruned = model.pruned(gates)
    assert pruned.identity == model.identity
    own = {id(tensor) for tensor in model.model.parameters()}
    cut = [path for path, tensor in pruned.model.named_parameters() if id(tensor) not in own]
    assert cut and all("_proj" in path for path in cut)
    assert sum(map(torch.numel, pruned.model.parameters())) < sum(map(torch.numel, model.model.parameters()))
    plain = label_probabilities(model, heard(name), ANSWERS, gates)
    torch.testing.assert_close(label_probabilities(pruned, heard(name), ANSWERS, gates), plain, atol=1e-4, rtol=1e-3)
    with pytest.raises(ModelError, match="pruned to the heads of one mask"):
        pruned.answer(heard(name), torch.ones_like(gates), max_new_tokens=1)
    with pytest.raises(ModelError, match="pruned already"):
        pruned.pruned(gates)
