"""`LALM` over a tiny random Qwen2-Audio: the same numbers as transformers' own path, clip by clip and in batches."""

import json
from concurrent.futures import ThreadPoolExecutor
from time import sleep

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig

CLOSE = {"rtol": 0, "atol": 2e-5}
SECONDS = (0.6, 2.0, 1.25)
ASKED = ("who speaks?", "", "a {brace}, please")
ANSWERS = ("a man", "the quick brown fox", "x")


FROM_FILES = {
    "repetition_penalty": 5.0,
    "do_sample": True,
    "top_p": 0.5,
    "temperature": 0.7,
    "no_repeat_ngram_size": 1,
    "suppress_tokens": list(range(6, 60)),
    "begin_suppress_tokens": [60],
    "bad_words_ids": [[61], [62, 63]],
    "sequence_bias": [[[64], 9.0]],
    "forced_bos_token_id": 65,
    "forced_eos_token_id": 66,
    "min_new_tokens": 12,
    "min_length": 40,
    "max_time": 1e-9,
    "length_penalty": 9.0,
    "early_stopping": "never",
    "exponential_decay_length_penalty": [1, 9.0],
    "cache_implementation": "static",
    "use_cache": False,
    "eos_token_id": [2, 3],
}


def texts(answers) -> list[str]:
    return [answer.text for answer in answers]


@pytest.fixture(scope="module")
def template():
    from amask.lalm.batching import PromptTemplate

    return PromptTemplate("<|im_start|>listen<|audio_bos|>", "<|audio_eos|>\n{}<|im_end|>\n<|im_start|>")


@pytest.fixture(scope="module")
def lalm(tiny_qwen2_audio, template):
    from amask.lalm.qwen2_audio import Qwen2Audio

    return Qwen2Audio("tiny", *tiny_qwen2_audio(seed=0), template)


@pytest.fixture(scope="module")
def waves(swelling):
    return swelling(SECONDS)


@pytest.fixture(scope="module")
def features(lalm, waves):
    return lalm.encode(waves)


@pytest.fixture(scope="module")
def gates(lalm, three_masks):
    return three_masks(lalm.geometry.shape)


def processed(lalm, waves, instructions):
    """What transformers' processor makes of the clips and the text around them."""
    texts = [f"{lalm.template.before}<|AUDIO|>{lalm.template.after.format(asked)}" for asked in instructions]
    return lalm.processor(text=texts, audio=list(waves), sampling_rate=lalm.rate, padding=True, return_tensors="pt")


def heard_by(lalm, inputs):
    """The embeddings that transformers hands to the language model, and the logits that come of them."""
    seen = {}

    def keep(_module, _args, kwargs):
        seen["embeds"] = kwargs["inputs_embeds"]

    hook = lalm.decoder.register_forward_pre_hook(keep, with_kwargs=True)
    logits = lalm.model(**inputs).logits
    hook.remove()
    return seen["embeds"], logits


@pytest.mark.parametrize("at", [0, 1, 2])
def test_prompts_equal_the_path_of_transformers(lalm, waves, at):
    embeds, logits = heard_by(lalm, processed(lalm, waves[at : at + 1], ASKED[at : at + 1]))
    (row,) = lalm._prompt_embeds(lalm.encode(waves[at : at + 1]), ASKED[at : at + 1])
    assert torch.equal(row[None], embeds)
    assert torch.equal(lalm.model(inputs_embeds=row[None]).logits, logits)


def test_prompts_of_a_batch_equal_the_path_of_transformers(lalm, waves, features):
    from amask.lalm.batching import pad_rows

    inputs = processed(lalm, waves, ASKED)
    embeds, logits = heard_by(lalm, inputs)
    padded, mask = pad_rows(lalm._prompt_embeds(features, ASKED), "left")
    assert torch.equal(mask, inputs["attention_mask"])
    torch.testing.assert_close(padded[mask.bool()], embeds[mask.bool()], **CLOSE)
    got = lalm.model(inputs_embeds=padded, attention_mask=mask).logits
    torch.testing.assert_close(got[mask.bool()], logits[mask.bool()], **CLOSE)


def test_no_instruction_is_an_empty_one_and_one_instruction_is_for_all(lalm, features):
    assert texts(lalm.answer(features, max_new_tokens=8)) == texts(lalm.answer(features, prompts=[""] * 3, max_new_tokens=8))
    said = texts(lalm.answer(features, prompts="who speaks?", max_new_tokens=8))
    assert said == texts(lalm.answer(features, prompts=["who speaks?"] * 3, max_new_tokens=8))


def test_encoding_a_batch_equals_encoding_each(lalm, waves, features):
    assert len(features) == 3
    assert features.embeds.shape[1] == features.lengths.max()
    for at, wave in enumerate(waves):
        alone = lalm.encode([wave])
        assert alone.lengths == features.lengths[at]
        torch.testing.assert_close(features.rows([at]).embeds, alone.embeds, **CLOSE)


def test_a_clip_is_heard_the_same_whatever_is_beside_it(lalm, swelling):
    """Also a sample around a whole number of frames."""
    waves = swelling((0.1, 2.0, 0.5, 8001 / 16_000, 7999 / 16_000))
    together = lalm.encode(waves)
    for at, wave in enumerate(waves):
        torch.testing.assert_close(together.rows([at]).embeds, lalm.encode([wave]).embeds, **CLOSE)


@pytest.mark.parametrize(
    ("wave", "words"),
    [
        (np.zeros(32_200, np.float32), "clip 2 of 2: the clip is 2.0125 s long, the model hears at most 2.0 s"),
        (np.zeros(1_599, np.float32), "at least 0.1 s"),
        (np.zeros(0, np.float32), "at least 0.1 s"),
        (np.zeros(16_000, np.int16), "samples of type int16; expected float"),
        (np.zeros((2, 16_000), np.float32), r"shape \(2, 16000\); expected one axis"),
        (np.full(16_000, np.nan, np.float32), "clip 2 of 2: .*finite|not a number"),
        (np.full(16_000, 3e4, np.float32), "full scale"),
        ([0.0] * 16_000, "a list; expected a numpy array"),
    ],
)
def test_what_is_no_clip_is_refused(lalm, waves, wave, words):
    from amask.errors import AudioError

    with pytest.raises(AudioError, match=words):
        lalm.encode([waves[0], wave])


def test_float64_is_heard_as_float32_and_no_clip_is_refused(lalm, waves):
    from amask.errors import AudioError

    assert torch.equal(lalm.encode([waves[0].astype(np.float64)]).embeds, lalm.encode([waves[0]]).embeds)
    with pytest.raises(AudioError, match="no clip"):
        lalm.encode([])


def test_choosing_rows_of_features(features):
    chosen = features.rows([2, 0, 2])
    assert chosen.lengths.tolist() == features.lengths[[2, 0, 2]].tolist()
    assert chosen.embeds.shape[1] == chosen.lengths.max() < features.embeds.shape[1]
    assert torch.equal(chosen.embeds[0], chosen.embeds[2])


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(any), side=st.sampled_from(["left", "right"]))
def test_padding(lengths, side):
    from amask.lalm.batching import pad_rows

    rows = [torch.randn(length, 2) for length in lengths]
    padded, mask = pad_rows(rows, side)
    assert mask.sum(1).tolist() == lengths
    assert torch.equal(padded[mask.bool()], torch.cat(rows))
    assert not padded[~mask.bool()].any()
    edge = mask.flip(1) if side == "left" else mask
    assert (edge.diff(dim=1) <= 0).all()


def reference(lalm, wave, asked, answer, gates):
    """Transformers' own loss and logits of one clip with the answer and its end as labels, and those labels."""
    from amask.lalm.gating import gated

    inputs = processed(lalm, [wave], [asked])
    said = torch.tensor([[*lalm.tokenizer(answer)["input_ids"], lalm.tokenizer.eos_token_id]])
    prompt = inputs.pop("input_ids")
    inputs["attention_mask"] = torch.ones(1, prompt.shape[1] + said.shape[1], dtype=torch.long)
    with gated(lalm.sites, gates):
        out = lalm.model(
            **inputs,
            input_ids=torch.cat([prompt, said], 1),
            labels=torch.cat([torch.full_like(prompt, -100), said], 1),
        )
    return out.loss, out.logits[0, -said.shape[1] - 1 : -1], said[0]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("asked", [None, ASKED])
def test_losses_and_margins_are_those_of_transformers(lalm, waves, features, gates, masked, asked):
    gates = gates if masked else None
    losses, real = lalm.token_losses(features, ANSWERS, gates, asked)
    margins, also_real = lalm.token_margins(features, ANSWERS, gates, asked)
    assert torch.equal(real, also_real)
    assert not losses[~real].any()
    assert margins[~real].eq(torch.inf).all()
    total = 0.0
    for at, (wave, answer) in enumerate(zip(waves, ANSWERS, strict=True)):
        said = asked[at] if asked else ""
        expected, logits, labels = reference(lalm, wave, said, answer, None if gates is None else gates[at])
        tokens = len(labels)
        assert real[at].tolist() == [True] * tokens + [False] * (real.shape[1] - tokens)
        torch.testing.assert_close(losses[at].sum() / tokens, expected, **CLOSE)
        total += float(expected) * tokens
        others = [torch.cat([row[:label], row[label + 1 :]]).max() for row, label in zip(logits, labels, strict=True)]
        own = logits[torch.arange(tokens), labels]
        torch.testing.assert_close(margins[at, :tokens], own - torch.stack(others), **CLOSE)
    mean = lalm.loss(features, ANSWERS, gates, asked)
    assert float(mean) == pytest.approx(total / int(real.sum()), abs=2e-5)


def test_loss_moves_each_rows_gates(lalm, features, gates):
    leaf = gates.clone().requires_grad_()
    losses, _ = lalm.token_losses(features, ANSWERS, leaf)
    (gradient,) = torch.autograd.grad(losses[1].sum(), leaf)
    assert gradient[1].all()
    assert not gradient[[0, 2]].any()


def reference_answers(lalm, inputs, beams):
    search = GenerationConfig(max_new_tokens=12, num_beams=beams, do_sample=False, eos_token_id=lalm.end_token, pad_token_id=0)
    ids = lalm.model.generate(**inputs, generation_config=search)[:, inputs["input_ids"].shape[1] :]
    return [text.strip() for text in lalm.tokenizer.batch_decode(ids, skip_special_tokens=True)]


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_answers_equal_those_of_transformers(lalm, waves, features, gates, beams, masked):
    """The processor's batch is padded on the left; clip by clip it is not padded at all. The score of beams counts the
    prompt in neither."""
    from amask.lalm.gating import gated

    gates = gates if masked else None
    answers = texts(lalm.answer(features, gates, ASKED, max_new_tokens=12, beams=beams))
    with gated(lalm.sites, gates):
        assert answers == reference_answers(lalm, processed(lalm, waves, ASKED), beams)
    for at, answer in enumerate(answers):
        with gated(lalm.sites, None if gates is None else gates[at]):
            assert [answer] == reference_answers(lalm, processed(lalm, waves[at : at + 1], ASKED[at : at + 1]), beams)
    assert len(set(answers)) == 3


@pytest.mark.parametrize("beams", [1, 3])
def test_a_batch_may_mix_masks(lalm, features, gates, beams):
    same = features.rows([1, 1, 1])  # only the gates differ
    answers = texts(lalm.answer(same, gates, max_new_tokens=12, beams=beams))
    for answer, alone in zip(answers, gates, strict=True):
        assert [answer] == texts(lalm.answer(features.rows([1]), alone, max_new_tokens=12, beams=beams))
    assert len(set(answers)) == 3


def test_eight_threads_with_masks_of_their_own_get_the_answers_of_one(lalm, waves):
    """400 calls, encoding included, on one model."""

    def ask(at):
        mask = (torch.rand(lalm.geometry.shape, generator=torch.Generator().manual_seed(at % 16)) > 0.4).float()
        features = lalm.encode([waves[at % 3]])
        return texts(lalm.answer(features, mask, [ASKED[at % 3]], max_new_tokens=2, beams=1 + (at % 4 == 0)))

    alone = [ask(at) for at in range(48)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(400)))
    assert answers == [alone[at % 48] for at in range(400)]
    assert len({answer for (answer,) in alone}) > 16


@pytest.mark.parametrize(
    ("rope", "overlap"),
    [({"rope_type": "default", "rope_theta": 1e4}, True), ({"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}, False)],
    ids=["default", "dynamic"],
)
def test_calls_wait_for_each_other_where_the_model_keeps_state_of_a_call(tiny_qwen2_audio, template, waves, rope, overlap):
    """As rotary embeddings do whose frequencies change with the length of the input."""
    from transformers import Qwen2AudioForConditionalGeneration

    from amask.lalm.qwen2_audio import Qwen2Audio

    built, processor = tiny_qwen2_audio()
    built.config.text_config.rope_parameters = rope
    lalm = Qwen2Audio("tiny", Qwen2AudioForConditionalGeneration(built.config), processor, template)
    features, inside, most = lalm.encode(waves), [], []

    def enter(*_):
        inside.append(1)
        sleep(0.02)  # in which other threads go on
        most.append(len(inside))

    def leave(*_):
        inside.pop()

    lalm.decoder.register_forward_pre_hook(enter)
    lalm.decoder.register_forward_hook(leave)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: texts(lalm.answer(features, max_new_tokens=2)), range(4)))
        list(pool.map(lambda _: lalm.loss(features, ANSWERS), range(4)))
    assert (max(most) > 1) is overlap


def test_an_answer_ends_at_the_end_token(lalm, features, monkeypatch):
    (answer,) = texts(lalm.answer(features.rows([0]), max_new_tokens=12))
    monkeypatch.setattr(type(lalm), "end_token", lalm.tokenizer.convert_tokens_to_ids(answer[2]))
    (cut,) = texts(lalm.answer(features.rows([0]), max_new_tokens=12))
    assert cut == answer[: answer.index(answer[2]) + 1]


@pytest.mark.parametrize("beams", [1, 3])
def test_search_does_not_depend_on_settings_in_the_models_files(lalm, features, template, tmp_path, beams):
    """Only the tokens that end answers are taken from them."""
    from transformers import Qwen2AudioForConditionalGeneration

    from amask.lalm.qwen2_audio import Qwen2Audio

    lalm.model.save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps(FROM_FILES))
    model = Qwen2Audio("tiny", Qwen2AudioForConditionalGeneration.from_pretrained(tmp_path), lalm.processor, template)
    own = model.model.generation_config
    assert {name: getattr(own, name) for name in FROM_FILES} == FROM_FILES
    answers = texts(lalm.answer(features, max_new_tokens=12, beams=beams))
    assert texts(model.answer(features, max_new_tokens=12, beams=beams)) == answers
    assert model.model.generation_config is own
    assert model.end_tokens == [2, 3]


def test_gates_for_other_rows_are_refused(lalm, features, gates):
    from amask.errors import ModelError

    with pytest.raises(ModelError, match="got 2 prompts for 3 rows"):
        lalm.answer(features, None, ["a", "b"])
    four = features.rows([0, 1, 2, 0])
    with pytest.raises(ModelError, match="gates for 2 rows and audio for 4"):
        lalm.answer(four, gates[:2])
    with pytest.raises(ModelError, match="gates for 2 rows and audio for 4"):
        lalm.loss(four, ["a"] * 4, gates[:2])
    with pytest.raises(ModelError, match=r"do not fit tiny, a model of 2×4"):
        lalm.answer(four, torch.ones(2, 3))


def test_model_is_frozen_and_the_same_after_use(lalm, features, gates):
    fingerprint = lalm.fingerprint
    lalm.answer(features, gates, max_new_tokens=2)
    assert not lalm.model.training
    assert not any(parameter.requires_grad for parameter in lalm.model.parameters())
    del lalm.fingerprint  # computed anew
    assert lalm.fingerprint == fingerprint


@pytest.mark.parametrize("wrong", [-0.1, 1.5, float("nan"), float("inf")])
def test_gates_outside_0_and_1_are_refused_where_answers_are_given(lalm, features, gates, wrong):
    """Soft gates are legal, as training has them."""
    from amask.errors import ModelError

    lalm.answer(features, gates * 0.5, max_new_tokens=1)
    gates = gates.clone()
    gates[1, 1, 2] = wrong
    with pytest.raises(ModelError, match="between 0 .* and 1"):
        lalm.answer(features, gates, max_new_tokens=1)


def test_a_model_shows_itself_in_a_line(lalm):
    assert repr(lalm) == f"Qwen2Audio('tiny', 2×4 heads, {lalm.fingerprint})"
