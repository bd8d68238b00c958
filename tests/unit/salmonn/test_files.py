"""SALMONN's files: where they may lie, and what is wrong with them."""

import json
import os
import pickle
import shutil

import pytest
import torch
from transformers import LlamaForCausalLM

from .official import BEATS, OWN, VICUNA, WHISPER, message


def test_files_may_lie_anywhere(pristine, folder, tmp_path, load, model):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move(folder / WHISPER, elsewhere / "encoder")
    for name, changed in {BEATS: "b.bin", VICUNA: "llm", OWN: "s.ckpt"}.items():
        (folder / name).rename(folder / changed)
    lines = [f"whisper = {json.dumps(str(elsewhere / 'encoder'))}", 'beats = "b.bin"', 'llm = "llm"', 'checkpoint = "s.ckpt"']
    (folder / "salmonn.toml").write_text("\n".join(lines))
    found = load(folder)
    assert found.fingerprint == model.fingerprint
    assert found.name == str(folder)
    (folder / "salmonn.toml").write_text("\n".join([*lines, 'prompt = "Human: {} Answer:"', "lora_alpha = 16"]))
    other = load(folder)
    assert (other.template.before, other.template.after) == ("<s>Human: <Speech>", "</Speech> {} Answer:")
    queries = [some.model.model.layers[0].self_attn.q_proj.weight for some in (found, other)]
    assert not torch.equal(*queries)
    (folder / "salmonn.toml").write_text("\n".join([*lines, "lora_alpha = 16"]))
    assert load(folder).fingerprint not in {found.fingerprint, other.fingerprint}


def test_qformer_configuration(folder, load, model, waves):
    """Heads of the Q-Former are in no tensor's shape."""
    (folder / "qformer_config.json").write_text(json.dumps({"num_attention_heads": 2, "layer_norm_eps": 1e-12}))
    two = load(folder)
    assert two.encoder.qformer.qformer.config.num_attention_heads == 2
    assert not torch.allclose(two.encode(waves).embeds, model.encode(waves).embeds, atol=1e-4)
    assert two.fingerprint != model.fingerprint


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
    assert not any("decoder" in name for name, _ in model.encoder.named_parameters())
