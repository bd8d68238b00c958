"""SALMONN hears and answers."""

import shutil

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM
from transformers.models.t5.modeling_t5 import T5Attention

from .official import ALPHA, ANSWERS, ASKED, BEATS, CLOSE, OWN, POSITIONS, RANK, VICUNA, WHISPER, WIDTH, WINDOW, write_salmonn

# Hearing


def texts(answers) -> list[str]:
    return [answer.text for answer in answers]


def test_a_clip_does_not_depend_on_its_batch(model, waves, features):
    assert features.embeds.shape == (3, POSITIONS, WIDTH)
    assert features.lengths.tolist() == [POSITIONS] * 3
    for at, wave in enumerate(waves):
        torch.testing.assert_close(features.embeds[at], model.encode([wave]).embeds[0], **CLOSE)


def test_batches_like_the_authors(model, waves, features):
    """There the longest clip is as it is alone, and the shorter ones are not."""
    like = model.encode_like_authors(waves).embeds
    torch.testing.assert_close(like[0], features.embeds[0], **CLOSE)
    for at in (1, 2):
        assert not torch.allclose(like[at], features.embeds[at], atol=1e-2)
        alone = model.encode_like_authors([waves[at]]).embeds[0]
        torch.testing.assert_close(alone, features.embeds[at], **CLOSE)


def test_short_clips_are_padded_to_a_second(model, waves):
    padded = np.pad(waves[1], (0, 16_000 - len(waves[1])))
    assert torch.equal(model.encode([waves[1]]).embeds, model.encode([padded]).embeds)
    longer = np.pad(waves[2], (0, 8_000))  # a second is enough: here padding would be heard
    assert not torch.allclose(model.encode([waves[2]]).embeds, model.encode([longer]).embeds, atol=1e-3)


def test_long_clips_are_refused(model):
    from amask.errors import AudioError

    assert model.longest == WINDOW
    model.encode([np.zeros(16_000 * WINDOW, np.float32)])
    with pytest.raises(AudioError, match=r"2\.5 s long, .* hears at most 2\.0 s"):
        model.encode([np.zeros(40_000, np.float32)])


def test_the_first_channel_is_heard(model):
    assert model.channels == "first"


def test_filter_banks(waves):
    from amask.lalm.salmonn.fbank import BINS, DEVIATION, MEAN, fbank

    assert fbank(waves[0]).shape == (198, BINS)
    silence = fbank(np.zeros(16_000, np.float32))
    assert np.allclose(silence, (np.log(np.finfo(np.float32).eps) - MEAN) / (2 * DEVIATION))
    time = np.arange(16_000) / 16_000
    loudest = [int(fbank(np.sin(2 * np.pi * hertz * time).astype(np.float32)).mean(0).argmax()) for hertz in (1000, 2000, 4000)]
    mels = [1127 * np.log(1 + hertz / 700) for hertz in (20, 1000, 2000, 4000, 8000)]
    step = (mels[-1] - mels[0]) / (BINS + 1)
    for got, mel in zip(loudest, mels[1:-1], strict=True):
        assert got == pytest.approx((mel - mels[0]) / step - 1, abs=1)


def test_padding_of_pieces():
    from amask.lalm.salmonn.fbank import reduce_padding

    fine = torch.arange(11)[None] >= torch.tensor([0, 4, 5, 6, 11])[:, None]
    got = reduce_padding(fine, 5).int().tolist()  # pieces of two; the last sample is cut off
    assert got == [[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 1, 1], [0, 0, 0, 1, 1], [0, 0, 0, 0, 0]]


@pytest.mark.parametrize("buckets, furthest", [(32, 80), (320, 800)])
def test_position_buckets_are_those_of_t5(buckets, furthest):
    from amask.lalm.salmonn.beats import bucket

    at = torch.arange(1000)
    distance = at[None] - at[:, None]
    expected = T5Attention._relative_position_bucket(distance, True, buckets, furthest)
    assert torch.equal(bucket(distance, buckets, furthest), expected)


# The language model


def test_lora_is_merged(pristine, load, model):
    plain = LlamaForCausalLM.from_pretrained(pristine / VICUNA).model.layers
    tensors = torch.load(pristine / OWN)["model"]
    halves = load(pristine, "bfloat16").model.model.layers
    for at, layer in enumerate(model.model.model.layers):
        for target in ("q_proj", "k_proj", "v_proj", "o_proj"):
            got, before, half = (some.self_attn.get_submodule(target).weight for some in (layer, plain[at], halves[at]))
            place = f"llama_model.base_model.model.model.layers.{at}.self_attn.{target}.lora_"
            change = torch.zeros_like(before)
            if target in ("q_proj", "v_proj"):
                change = ALPHA / RANK * tensors[f"{place}B.default.weight"] @ tensors[f"{place}A.default.weight"]
            torch.testing.assert_close(got, before + change)
            assert torch.equal(half, (before.bfloat16().float() + change).bfloat16())


def test_prompts(model, features):
    start, said = model.tokenizer.bos_token_id, model.template.before
    assert model._ids(said).tolist() == [start, *model._ids(said.removeprefix("<s>")).tolist()]
    (row,) = model._prompt_embeds(features.rows([0]), [" who? "])
    embed = model.model.get_input_embeddings()
    pieces = [torch.tensor([start]), model._ids("USER: <Speech>"), model._ids("</Speech> who?\nASSISTANT:")]
    expected = torch.cat([embed(pieces[0]), embed(pieces[1]), features.embeds[0], embed(pieces[2])])
    assert torch.equal(row, expected)
    (row,) = model._prompt_embeds(features.rows([0]), [""])
    assert torch.equal(row[-len(model._ids("</Speech> \nASSISTANT:")) :], embed(model._ids("</Speech> \nASSISTANT:")))


def test_gates(model, features, gates):
    plain = model.token_losses(features, ANSWERS, None, ASKED)[0]
    assert torch.equal(model.token_losses(features, ANSWERS, torch.ones_like(gates), ASKED)[0], plain)
    rows = model.token_losses(features, ANSWERS, gates, ASKED)[0]
    for at, answer in enumerate(ANSWERS):
        alone = model.token_losses(features.rows([at]), [answer], gates[at], [ASKED[at]])[0]
        torch.testing.assert_close(rows[at, : alone.shape[1]], alone[0], **CLOSE)
        assert not torch.allclose(rows[at], plain[at], atol=1e-3)
    off = torch.ones(model.geometry.shape)
    off[1, 2] = 0
    one = model.token_losses(features, ANSWERS, off)[0]
    site = model.sites[1]
    columns = site.projection.weight[:, 2 * site.width : 3 * site.width]
    kept = columns.clone()
    columns.zero_()
    try:
        torch.testing.assert_close(model.token_losses(features, ANSWERS)[0], one, **CLOSE)
    finally:
        columns.copy_(kept)


@pytest.mark.parametrize("beams", [1, 3])
def test_answers_of_a_batch_are_those_alone(model, features, gates, beams):
    """Prompts of different length and rows that end early do not disturb the others."""
    answers = texts(model.answer(features, gates, ASKED, max_new_tokens=12, beams=beams))
    for at, answer in enumerate(answers):
        alone = texts(model.answer(features.rows([at]), gates[at], [ASKED[at]], max_new_tokens=12, beams=beams))
        assert [answer] == alone
    assert len(set(answers)) == 3


def test_half_precision(pristine, load, model, waves):
    half = load(pristine, "bfloat16")
    heard = half.encode(waves)
    assert heard.embeds.dtype == torch.bfloat16
    torch.testing.assert_close(heard.embeds, model.encode(waves).embeds.bfloat16())
    assert len(texts(half.answer(heard, max_new_tokens=4))) == 3
    assert half.fingerprint == model.fingerprint


def test_fingerprint_is_of_all_parts(pristine, folder, load, model, randomized, tmp_path):
    assert load(folder).fingerprint == model.fingerprint
    other = write_salmonn(tmp_path / "other", randomized, seed=10)
    prints = {model.fingerprint}
    for part in (WHISPER, BEATS, VICUNA, OWN):
        changed = tmp_path / f"changed {part}"
        shutil.copytree(pristine, changed)
        shutil.rmtree(changed / part) if (changed / part).is_dir() else (changed / part).unlink()
        copy = shutil.copytree if (other / part).is_dir() else shutil.copy
        copy(other / part, changed / part)
        prints.add(load(changed).fingerprint)
    tensors = torch.load(folder / OWN)
    name = next(name for name in tensors["model"] if "lora_B" in name)
    tensors["model"][name] = -tensors["model"][name]
    torch.save(tensors, folder / OWN)
    prints.add(load(folder).fingerprint)
    assert len(prints) == 6
