"""Models from folders that are not as they should be: one line, and never a model with random numbers in it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import Qwen2Config, Qwen2ForCausalLM

from amask.errors import ModelError
from amask.lalm.qwen2_audio import BASE_TEMPLATE, INSTRUCT_TEMPLATE
from amask.lalm.registry import load_model

from . import FAMILIES
from .tokenizer import tiny_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved Audio Flamingo 3."""
    model, processor = FAMILIES["audioflamingo3"]()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    return tmp_path


def change(path: Path, **values: object) -> None:
    """Change some settings in a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def without_a_tensor(folder: Path) -> None:
    """One tensor of the decoder is missing."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors[next(name for name in tensors if name.endswith("o_proj.weight"))]
    save_file(tensors, path, {"format": "pt"})


def cut_short(folder: Path) -> None:
    """Half of the weights' file is there."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def of_another_shape(folder: Path) -> None:
    """The weights are of a model with more heads than the settings say."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    change(folder / "config.json", text_config=config["text_config"] | {"num_attention_heads": 2})


def of_no_known_class(folder: Path) -> None:
    """A class that transformers does not have; its code may lie in the folder, and is not run."""
    (folder / "modeling_evil.py").write_text("raise SystemExit('run')", encoding="utf-8")
    change(folder / "config.json", architectures=["EvilForCausalLM"], auto_map={"AutoModel": "modeling_evil.EvilForCausalLM"})


def that_only_reads(folder: Path) -> None:
    """A text-only language model."""
    for path in folder.iterdir():
        path.unlink()
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    Qwen2ForCausalLM(Qwen2Config(vocab_size=400, **small)).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (without_a_tensor, "missing or of another shape; download it again"),
        (cut_short, "cannot load model"),
        (of_another_shape, "missing or of another shape; download it again"),
        (of_no_known_class, "EvilForCausalLM"),
        (that_only_reads, "takes no audio"),
    ],
)
def test_damaged_folders(folder: Path, damage: Callable[[Path], None], says: str) -> None:
    """Each is refused with the reason."""
    damage(folder)
    with pytest.raises(ModelError, match=says) as caught:
        load_model(str(folder), "cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "eos", "chats"),
    [
        ("instruct/plain", "<|endoftext|>", False),
        ("models/my-instruct-tests", "<|endoftext|>", False),
        ("models--Qwen--Qwen2-Audio-7B-Instruct/snapshots/0a1b2c", "<|im_end|>", True),
        ("plain", "<|im_end|>", True),
        ("plain", "<|endoftext|>", False),
    ],
)
def test_qwen2_audios_text_is_told_by_its_own_files(tmp_path: Path, path: str, eos: str, chats: bool) -> None:
    """Not by what its folder or those above are called, such as a user's `~/instruct`."""
    model, processor = FAMILIES["qwen2_audio"]()
    processor.tokenizer.eos_token = "<|endoftext|>"
    model.generation_config.eos_token_id = [processor.tokenizer.convert_tokens_to_ids(token) for token in {"<|endoftext|>", eos}]
    folder = tmp_path / path
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    assert load_model(str(folder), "cpu").template == (INSTRUCT_TEMPLATE if chats else BASE_TEMPLATE)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("pockett", "there is no model 'pockett'; did you mean 'pocket'"),
        ("gr", "there is no model 'gr'; known are 'pocket', a folder, or a Hub id such as org/name"),
        ("./nothere", "there is no folder './nothere'"),
        ("/nothere/model", "there is no folder '/nothere/model'"),
        ("~/nothere", "there is no folder '~/nothere'"),
        ("a/b/c", "there is no folder 'a/b/c'"),
    ],
)
def test_what_can_be_no_hub_id_is_not_looked_for_there(name: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be half a minute of retries."""
    monkeypatch.setattr("amask.lalm.registry.read_pretrained", lambda *_, **__: pytest.fail("asked the Hub"))
    with pytest.raises(ModelError, match=says):
        load_model(name, "cpu")


def test_a_model_in_memory() -> None:
    """Is the same model as from its files, under any name; it needs its processor; a PEFT model is its base model."""
    model, processor = FAMILIES["voxtral"]()
    loaded = load_model(model, processor=processor, name="mine")
    assert (loaded.name, loaded.model) == ("mine", model)
    assert load_model(model, processor=processor, fingerprint="0123456789abcdef").identity.fingerprint == "0123456789abcdef"

    class Wrapped(type(model)):
        """As `peft.PeftModel` shows it."""

        def get_base_model(self) -> object:
            return model

    wrapped = object.__new__(Wrapped)
    assert load_model(wrapped, processor=processor).fingerprint == loaded.fingerprint
    with pytest.raises(ModelError, match="needs its processor"):
        load_model(model)


def test_transformers_arguments_are_passed_on(folder: Path) -> None:
    """Such as which attention; and code beside the weights is refused without a question."""
    assert load_model(str(folder), "cpu", attn_implementation="eager").decoder.config._attn_implementation == "eager"
    assert load_model(str(folder), device_map="cpu").device.type == "cpu"
