"""SALMONN over a tiny random one in the layout of the official files, which the tests write themselves."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    Blip2QFormerConfig,
    LlamaConfig,
    LlamaForCausalLM,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)
from transformers.models.t5.modeling_t5 import T5Attention

CLOSE = {"rtol": 0, "atol": 2e-5}
WINDOW = 2  # seconds that the tiny model hears, instead of 30
FRAMES = 50 * WINDOW  # of Whisper's encoder
POSITIONS = FRAMES // round(FRAMES * 0.333333 / WINDOW)
SECONDS = (2.0, 0.6, 1.3)
ANSWERS = ("a man", "the quick brown fox", "x")
ASKED = ("who speaks?", "", "words, please")
WHISPER, BEATS, VICUNA, OWN = "whisper-large-v2", "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt", "vicuna", "salmonn_v1.pth"
WIDTH, RANK, ALPHA = 24, 2, 32  # of the language model; of LoRA

CFG = {
    "encoder_layers": 2,
    "encoder_embed_dim": 16,
    "encoder_ffn_embed_dim": 32,
    "encoder_attention_heads": 2,
    "embed_dim": 12,
    "input_patch_size": 16,
    "conv_pos": 8,
    "conv_pos_groups": 4,
    "conv_bias": False,
    "num_buckets": 32,
    "max_distance": 80,
    "activation_fn": "gelu",
    "layer_norm_first": False,
    "deep_norm": True,
    "gru_rel_pos": True,
    "relative_position_embedding": True,
    "predictor_class": 3,
}


def message(*fields: tuple[int, bytes | int]) -> bytes:
    """Protocol Buffers' encoding of small numbers and short bytes."""

    def number(value: int) -> bytes:
        low = value & 127
        return bytes([low]) if value < 128 else bytes([low | 128]) + number(value >> 7)

    parts = (
        number(key << 3) + number(value) if isinstance(value, int) else number(key << 3 | 2) + number(len(value)) + value
        for key, value in fields
    )
    return b"".join(parts)


def sentencepiece_model() -> bytes:
    """A model of bytes, letters and two pairs, as SentencePiece writes it."""
    special = [("<unk>", 2), ("<s>", 3), ("</s>", 3)] + [(f"<0x{byte:02X}>", 6) for byte in range(256)]
    plain = ["th", "▁th", "▁", *(chr(code) for code in range(33, 127))]
    pieces = [message((1, text.encode()), (3, kind)) for text, kind in special] + [message((1, text.encode())) for text in plain]
    return message(*((1, piece) for piece in pieces), (2, message((3, 2))))


def noise(seed: int):
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape, scale=0.3: torch.randn(*shape, generator=generator) * scale


def beats_checkpoint(seed: int) -> dict:
    from amask.lalm.salmonn.beats import Beats, BeatsSettings

    random = noise(seed)
    tensors = {name: random(*tensor.shape) for name, tensor in Beats(BeatsSettings(**CFG)).state_dict().items()}
    table = "encoder.layers.{}.self_attn.relative_attention_bias.weight"
    tensors |= {table.format(1): tensors[table.format(0)].clone()}  # shared, and listed in each layer
    tensors |= {"predictor.weight": random(3, 16), "predictor.bias": random(3)}
    return {"cfg": CFG, "model": tensors}


def own_checkpoint(seed: int) -> dict:
    from amask.lalm.salmonn.qformer import WindowQFormer

    random = noise(seed)
    config = Blip2QFormerConfig(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=1, intermediate_size=16, encoder_hidden_size=32,
        cross_attention_frequency=1,
    )  # fmt: skip
    tensors = {}
    for name, tensor in WindowQFormer(config, (16, 16, WIDTH), 1, 1, 1).state_dict().items():
        if name.startswith("qformer."):
            bert = name.removeprefix("qformer.").replace(".attention.attention.", ".attention.self.")
            bert = bert.replace("crossattention.attention.", "crossattention.self.").replace("layernorm", "embeddings.LayerNorm")
            name = f"speech_Qformer.bert.{bert}"
        tensors[name] = random(*tensor.shape)
    for layer in range(2):
        for target in ("q_proj", "v_proj"):
            place = f"llama_model.base_model.model.model.layers.{layer}.self_attn.{target}"
            tensors[f"{place}.lora_A.default.weight"] = random(RANK, WIDTH)
            tensors[f"{place}.lora_B.default.weight"] = random(WIDTH, RANK)
    # What the official way of saving leaves in the file.
    tensors["speech_Qformer.bert.embeddings.position_ids"] = torch.arange(16)[None]
    tensors["llama_model.base_model.model.model.layers.0.self_attn.rotary_emb.inv_freq"] = random(2)
    return {"model": tensors, "epoch": 3, "optimizer": {"state": {}}}


def write_salmonn(folder: Path, randomized, seed: int = 0) -> Path:
    whisper = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=8, num_mel_bins=16, d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=32,
            decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=32, max_source_positions=FRAMES, pad_token_id=0,
            bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        )
    )  # fmt: skip
    randomized(whisper, seed).save_pretrained(folder / WHISPER)
    WhisperFeatureExtractor(feature_size=16, chunk_length=WINDOW).save_pretrained(folder / WHISPER)
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=3 + 256 + 3 + 94, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=256, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip
    randomized(llama, seed + 1).save_pretrained(folder / VICUNA)
    (folder / VICUNA / "tokenizer.model").write_bytes(sentencepiece_model())
    torch.save(beats_checkpoint(seed + 2), folder / BEATS)
    torch.save(own_checkpoint(seed + 3), folder / OWN)
    return folder


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


# Hearing


def test_a_clip_does_not_depend_on_its_batch(model, waves, features):
    assert features.embeds.shape == (3, POSITIONS, WIDTH)
    assert features.lengths.tolist() == [POSITIONS] * 3
    for at, wave in enumerate(waves):
        torch.testing.assert_close(features.embeds[at], model.encode([wave]).embeds[0], **CLOSE)


def test_batches_like_the_authors(model, waves, features):
    """There the longest clip is as it is alone, and the shorter ones are not."""
    like = model.encode(waves, batch_like_authors=True).embeds
    torch.testing.assert_close(like[0], features.embeds[0], **CLOSE)
    for at in (1, 2):
        assert not torch.allclose(like[at], features.embeds[at], atol=1e-2)
        alone = model.encode([waves[at]], batch_like_authors=True).embeds[0]
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
    (row,) = model._prompt_rows(features.rows([0]), [" who? "])
    embed = model.model.get_input_embeddings()
    pieces = [torch.tensor([start]), model._ids("USER: <Speech>"), model._ids("</Speech> who?\nASSISTANT:")]
    expected = torch.cat([embed(pieces[0]), embed(pieces[1]), features.embeds[0], embed(pieces[2])])
    assert torch.equal(row, expected)
    (row,) = model._prompt_rows(features.rows([0]), None)
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
    answers = model.generate(features, gates, ASKED, max_new_tokens=12, num_beams=beams)
    for at, answer in enumerate(answers):
        alone = model.generate(features.rows([at]), gates[at], [ASKED[at]], max_new_tokens=12, num_beams=beams)
        assert [answer] == alone
    assert len(set(answers)) == 3


def test_half_precision(pristine, load, model, waves):
    half = load(pristine, "bfloat16")
    heard = half.encode(waves)
    assert heard.embeds.dtype == torch.bfloat16
    torch.testing.assert_close(heard.embeds, model.encode(waves).embeds.bfloat16())
    assert len(half.generate(heard, max_new_tokens=4)) == 3
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
    tensors["model"][name] *= 1.5
    torch.save(tensors, folder / OWN)
    prints.add(load(folder).fingerprint)
    assert len(prints) == 6


# Files


def test_files_may_lie_anywhere(pristine, folder, tmp_path, load, model):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move(folder / WHISPER, elsewhere / "ears")
    for name, changed in {BEATS: "b.bin", VICUNA: "llm", OWN: "s.ckpt"}.items():
        (folder / name).rename(folder / changed)
    lines = [f"whisper = {json.dumps(str(elsewhere / 'ears'))}", 'beats = "b.bin"', 'llm = "llm"', 'checkpoint = "s.ckpt"']
    (folder / "salmonn.toml").write_text("\n".join(lines))
    found = load(folder)
    assert found.fingerprint == model.fingerprint
    assert found.name == str(folder)
    (folder / "salmonn.toml").write_text("\n".join([*lines, 'prompt = "Human: {} Answer:"', "lora_alpha = 16"]))
    other = load(folder)
    assert (other.template.before, other.template.after) == ("<s>Human: <Speech>", "</Speech> {} Answer:")
    queries = [some.model.model.layers[0].self_attn.q_proj.weight for some in (found, other)]
    assert not torch.equal(*queries)


def test_qformer_configuration(folder, load, model, waves):
    """Heads of the Q-Former are in no tensor's shape."""
    (folder / "qformer_config.json").write_text(json.dumps({"num_attention_heads": 2, "layer_norm_eps": 1e-12}))
    two = load(folder)
    assert two.ears.qformer.qformer.config.num_attention_heads == 2
    assert not torch.allclose(two.encode(waves).embeds, model.encode(waves).embeds, atol=1e-4)


@pytest.mark.parametrize("content", ['{"num_attention_heads": 3}', '{"hidden_act": "relu"}', "[]", "{"])
def test_wrong_qformer_configuration(folder, load, content):
    (folder / "qformer_config.json").write_text(content)
    assert_refused(load, folder, OWN if "heads" in content else "qformer_config.json")


def test_a_checkpoint_without_the_queries(folder, load):
    content = torch.load(folder / OWN)
    del content["model"]["speech_query_tokens"]
    torch.save(content, folder / OWN)
    assert_refused(load, folder, OWN, "no window-level Q-Former")


def assert_refused(load, folder, *words):
    from amask.errors import ModelError

    with pytest.raises(ModelError) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("part", [WHISPER, BEATS, VICUNA])
def test_missing_parts(folder, load, part):
    (folder / part).rename(folder.parent / part)
    assert_refused(load, folder, part.partition("-")[0], "found none", "salmonn.toml")


def test_too_many_parts(folder, load):
    shutil.copy(folder / OWN, folder / "salmonn_7b.pth")
    assert_refused(load, folder, "salmonn_7b.pth, salmonn_v1.pth", "salmonn.toml")


@pytest.mark.parametrize(
    "name", [BEATS, OWN, f"{WHISPER}/model.safetensors", f"{VICUNA}/model.safetensors", f"{VICUNA}/tokenizer.model",
             f"{VICUNA}/config.json", f"{WHISPER}/preprocessor_config.json"]
)  # fmt: skip
@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "absent"])
def test_damaged_files(folder, load, name, damage):
    path = folder / name
    content = path.read_bytes()
    if damage == "absent":
        path.unlink()
    else:
        path.write_bytes({"cut": content[: len(content) // 2], "garbage": b"\x93no such thing\n" * 20, "empty": b""}[damage])
    if (name, damage) == (OWN, "absent"):
        assert_refused(load, folder)  # is not known as SALMONN any more
    else:
        assert_refused(load, folder, *(() if damage == "absent" and name.endswith("/config.json") else [path.parts[-2]]))


class Sabotage:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("name", [BEATS, OWN, f"{VICUNA}/pytorch_model.bin"])
def test_pickles_are_not_run(folder, load, name, tmp_path):
    trap = tmp_path / "trap"
    content = {"model": {"weight": torch.zeros(1)}, "cfg": Sabotage(str(trap))}
    torch.save(content, folder / name)
    (folder / VICUNA / "model.safetensors").unlink() if name.endswith(".bin") else None
    assert_refused(load, folder, (folder / name).name if name != f"{VICUNA}/pytorch_model.bin" else VICUNA)
    (folder / name).write_bytes(pickle.dumps(content["cfg"]))
    assert_refused(load, folder)
    assert not trap.exists()


def test_older_weights_of_the_language_model(folder, load, model):
    """Vicuna comes as `.bin`, which is read as data only."""
    weights = LlamaForCausalLM.from_pretrained(folder / VICUNA).state_dict()
    torch.save(weights, folder / VICUNA / "pytorch_model.bin")
    (folder / VICUNA / "model.safetensors").unlink()
    assert load(folder).fingerprint == model.fingerprint


@pytest.mark.parametrize(
    "name, tensor",
    [
        (OWN, "ln_audio.bias"),
        (OWN, "speech_llama_proj.weight"),
        (OWN, "speech_Qformer.bert.embeddings.LayerNorm.weight"),
        (OWN, "speech_Qformer.bert.encoder.layer.1.crossattention.self.key.weight"),
        (OWN, "llama_model.base_model.model.model.layers.1.self_attn.v_proj.lora_B.default.weight"),
        (BEATS, "encoder.pos_conv.0.weight_g"),
        (BEATS, "encoder.layers.0.self_attn.relative_attention_bias.weight"),
        (BEATS, "encoder.layers.1.self_attn.grep_a"),
        (f"{VICUNA}/pytorch_model.bin", "model.layers.0.mlp.up_proj.weight"),
    ],
)
@pytest.mark.parametrize("wrong", ["missing", "shape"])
def test_tensors_that_are_not_what_they_should_be(folder, load, name, tensor, wrong):
    if name.endswith(".bin"):
        content = tensors = LlamaForCausalLM.from_pretrained(folder / VICUNA).state_dict()
        (folder / VICUNA / "model.safetensors").unlink()
    else:
        content = torch.load(folder / name)
        tensors = content["model"]
    shape = tensors.pop(tensor).shape
    if wrong == "shape":
        tensors[tensor] = torch.zeros(*shape[:-1], shape[-1] + 1)
    torch.save(content, folder / name)
    assert_refused(load, folder, (folder / name).parts[-2 if name.endswith(".bin") else -1], tensor)


@pytest.mark.parametrize("change", [{"layer_norm_first": True}, {"encoder_layers": "many"}, {"input_patch_size": 7}])
def test_other_kinds_of_beats(folder, load, change):
    content = torch.load(folder / BEATS)
    content["cfg"] = content["cfg"] | change
    torch.save(content, folder / BEATS)
    assert_refused(load, folder, BEATS)


@pytest.mark.parametrize("content", [[1], {"state": {}}, {"model": {"a": 1}}, {"model": None}])
@pytest.mark.parametrize("name", [BEATS, OWN])
def test_other_layouts(folder, load, name, content):
    torch.save(content, folder / name)
    assert_refused(load, folder, name)


@pytest.mark.parametrize(
    "text, word",
    [
        ("whisper = 'w'\nbeats = ", "salmonn.toml"),
        ("", "whisper"),
        (f"whisper = '{WHISPER}'\nbeats = '{BEATS}'\nllm = '{VICUNA}'\ncheckpoint = 'lost.pth'", "lost.pth"),
        (f"whisper = '{WHISPER}'\nbeats = '{BEATS}'\nllm = '{VICUNA}'\ncheckpoint = '{OWN}'\nlora = 1", "lora"),
        (f"whisper = '{WHISPER}'\nbeats = '{BEATS}'\nllm = '{VICUNA}'\ncheckpoint = '{OWN}'\nlora_alpha = -1", "lora_alpha"),
        (f"whisper = '{WHISPER}'\nbeats = '{BEATS}'\nllm = '{VICUNA}'\ncheckpoint = '{OWN}'\nprompt = '{{a}} {{}}'", "prompt"),
    ],
)
def test_wrong_names(folder, load, text, word):
    (folder / "salmonn.toml").write_text(text)
    assert_refused(load, folder, "salmonn.toml", word)


# The tokenizer


def test_tokenizer(pristine, folder):
    from amask.lalm.salmonn.tokenizer import read_tokenizer

    tokenizer = read_tokenizer(pristine / VICUNA)
    ids = tokenizer("the thé", add_special_tokens=False)["input_ids"]
    pieces = ["▁th", "e", "▁th", "<0xC3>", "<0xA9>"]
    assert ids == tokenizer.convert_tokens_to_ids(pieces)
    assert tokenizer.decode(ids) == "the thé"
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
    marked = tokenizer("<s>the</s>", add_special_tokens=False)["input_ids"]
    assert marked == [1, *tokenizer.convert_tokens_to_ids(["▁th", "e"]), 2]
    tokenizer.save_pretrained(folder / VICUNA)
    (folder / VICUNA / "tokenizer.model").unlink()
    other = read_tokenizer(folder / VICUNA)
    for text in ("the thé", "<s>the</s>", "a\n b"):
        assert other(text, add_special_tokens=False) == tokenizer(text, add_special_tokens=False)


def test_other_kinds_of_tokenizers(folder, load):
    unigram = message((1, message((1, b"<unk>"), (3, 2))), (2, message((3, 1))))
    (folder / VICUNA / "tokenizer.model").write_bytes(unigram)
    assert_refused(load, folder, "tokenizer.model", "byte-pair")


def test_weights_of_whispers_decoder_are_not_loaded(model):
    assert not any("decoder" in name for name, _ in model.ears.named_parameters())
