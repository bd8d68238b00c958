"""Fingerprints: the same in every precision and under every name, another one for every other model."""

from copy import deepcopy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import Qwen2AudioForConditionalGeneration

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.fixture(scope="module")
def template():
    from amask.lalm.batching import PromptTemplate

    return PromptTemplate("<|audio_bos|>", "<|audio_eos|>{}\n")


@pytest.fixture(scope="module")
def lalm(tiny_qwen2_audio, template):
    """Its smallest weights are 0 in float16."""
    from amask.lalm.qwen2_audio import Qwen2Audio

    model, processor = tiny_qwen2_audio()
    for parameter in model.parameters():
        parameter.flatten()[::3] *= 1e-8
    return Qwen2Audio("tiny", model, processor, template)


@pytest.fixture(scope="module")
def fingerprint(lalm, template):
    from amask.lalm.qwen2_audio import Qwen2Audio

    return lambda model=lalm.model, text=template: Qwen2Audio("other name", model, lalm.processor, text).fingerprint


@pytest.mark.parametrize("saved", DTYPES)
@pytest.mark.parametrize("loaded", DTYPES)
def test_precision_of_saving_and_loading_does_not_matter(lalm, fingerprint, tmp_path, saved, loaded):
    deepcopy(lalm.model).to(saved).save_pretrained(tmp_path)
    model = Qwen2AudioForConditionalGeneration.from_pretrained(tmp_path, dtype=loaded)
    assert {parameter.dtype for parameter in model.parameters()} == {loaded}
    assert fingerprint(model) == lalm.fingerprint
    assert len(lalm.fingerprint) == 16


@given(numbers=st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40))
def test_no_rounding_changes_it(numbers):
    from amask.lalm.fingerprint import hash_model

    exact = torch.tensor(numbers)
    roundings = [exact, exact.half(), exact.bfloat16(), exact.half().bfloat16(), exact.bfloat16().half(), exact.double()]
    assert len({hash_model({}, [rounded]) for rounded in roundings}) == 1


class Nested(nn.Module):
    """The same weights in another order, nested otherwise and under other names."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.config, self.decoder = model.config, model.get_decoder()
        self.renamed = nn.ParameterList(reversed(list(model.parameters())))


def test_names_nesting_and_order_do_not_matter(lalm, fingerprint):
    from amask.lalm.qwen2_audio import Qwen2Audio

    class Renamed(Qwen2Audio):
        """Our own class by another name."""

    other = Renamed("tiny", lalm.model, lalm.processor, lalm.template)
    assert other.fingerprint == lalm.fingerprint
    other.model = Nested(lalm.model)
    del other.fingerprint  # computed anew
    assert other.fingerprint == lalm.fingerprint


def test_a_shared_weight_is_the_same_as_two_equal_ones(lalm, fingerprint):
    tied = deepcopy(lalm.model)
    tied.lm_head.weight = tied.get_input_embeddings().weight
    apart = deepcopy(tied)
    apart.lm_head.weight = nn.Parameter(apart.lm_head.weight.clone(), requires_grad=False)
    assert len(list(apart.parameters())) == len(list(tied.parameters())) + 1
    assert fingerprint(apart) == fingerprint(tied) != lalm.fingerprint


def test_gates_are_no_part_of_it(lalm, fingerprint):
    from amask.lalm.gating import gated

    with gated(lalm, torch.zeros(lalm.geometry.shape)):
        assert fingerprint() == lalm.fingerprint


def fine_tuned(lalm, swelling, answer: str) -> nn.Module:
    """Five small steps of AdamW."""
    model = deepcopy(lalm.model).requires_grad_(True)
    tuned = type(lalm)("tiny", model, lalm.processor, lalm.template)
    model.requires_grad_(True)
    features, optimizer = tuned.encode(swelling((0.6,))), torch.optim.AdamW(model.parameters(), lr=1e-4)
    for _ in range(5):
        tuned.loss(features, [answer]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.requires_grad_(False)


def test_every_training_and_fine_tune_is_a_model_of_its_own(lalm, fingerprint, tiny_qwen2_audio, swelling):
    tunes = [fine_tuned(lalm, swelling, answer) for answer in ("a man", "a woman")]
    largest = max(float((a - b).abs().max()) for a, b in zip(tunes[0].parameters(), lalm.model.parameters(), strict=True))
    assert largest < 1e-3
    models = [lalm.model, tiny_qwen2_audio(seed=1)[0], *tunes]
    assert len({fingerprint(model) for model in models}) == 4


def test_the_text_around_the_audio_is_part_of_it(lalm, fingerprint, template):
    from dataclasses import replace

    others = [
        replace(template, after=template.after + " "),
        replace(template, before=template.before + " "),
        replace(template, after="{}" + template.after.replace("{}", "")),
        replace(template, end="<|endoftext|>"),
    ]
    assert len({lalm.fingerprint, *(fingerprint(text=text) for text in others)}) == 5


def test_weights_that_are_not_there_are_refused(lalm, fingerprint):
    from amask.errors import ModelError

    with pytest.raises(ModelError, match="some of its weights are not in memory; load all of it"):
        fingerprint(deepcopy(lalm.model).to("meta"))
