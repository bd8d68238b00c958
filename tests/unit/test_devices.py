"""Where models go: a user's words, cards that are pretended, and what transformers and accelerate make of it."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch


def texts(answers) -> list[str]:
    return [answer.text for answer in answers]


@pytest.fixture
def two_cards(monkeypatch):
    """Two CUDA cards, as far as anyone asks."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_cards(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delattr(torch, "npu", raising=False)


def test_without_cards_the_cpu_computes_in_float32(no_cards):
    from amask.lalm.devices import choose_placement

    place = choose_placement()
    assert (place.device, place.spread) == (torch.device("cpu"), False)
    assert place.arguments() == {"dtype": "float32"}
    assert choose_placement("cpu", "bfloat16").arguments() == {"dtype": "bfloat16"}


def test_a_card_takes_the_checkpoints_own_dtype(two_cards):
    from amask.lalm.devices import choose_placement

    place = choose_placement("auto", "auto")
    assert place.device == torch.device("cuda")
    assert place.arguments() == {"dtype": "auto"}
    assert place.arguments("float32") == {"dtype": "float32"}
    assert choose_placement("cuda:1", "float16").arguments("float32") == {"dtype": "float16"}
    assert choose_placement("cuda:1").device == torch.device("cuda", 1)
    assert choose_placement("cpu").arguments() == {"dtype": "float32"}


def test_map_spreads_over_the_cards(two_cards):
    from amask.lalm.devices import choose_placement

    place = choose_placement("map", "bfloat16")
    assert (place.device, place.spread) == (torch.device("cuda", 0), True)
    assert place.arguments() == {"dtype": "bfloat16", "device_map": "auto"}


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("cuda", "'cuda' is not available; there is cpu"),
        ("npu:0", "'npu:0' is not available; there is cpu"),
        ("map", "spreads a model over cards, and there are none"),
        ("cpu:1", "'cpu:1' is not available; the last of its kind is cpu:0"),
        *[(name, "unknown device .* expected auto, cpu, cuda, npu") for name in ("tpu", "", "cuda:", "cuda:x", "cuda:01", "CPU")],
    ],
)
def test_a_device_that_is_not_there_is_named(no_cards, device, words):
    from amask.errors import ModelError
    from amask.lalm.devices import choose_placement

    with pytest.raises(ModelError, match=words) as caught:
        choose_placement(device)
    assert "\n" not in str(caught.value)


def test_a_card_too_many_is_named(two_cards):
    from amask.errors import ModelError
    from amask.lalm.devices import choose_placement

    with pytest.raises(ModelError, match="'cuda:2' is not available; the last of its kind is cuda:1"):
        choose_placement("cuda:2")


@pytest.mark.parametrize("dtype", ["int8", "", "Float32", "torch.float32", "fp16"])
def test_an_unknown_dtype_is_named(dtype):
    from amask.errors import ModelError
    from amask.lalm.devices import choose_placement

    with pytest.raises(ModelError, match=f"unknown dtype {dtype!r}; expected float32, bfloat16, float16 or auto"):
        choose_placement("cpu", dtype)


# What torch-npu does to torch, less the device itself.
PRETENDED_NPU = """
import sys, types, torch

def _autoload():
    torch.utils.rename_privateuse1_backend("npu")
    npu = types.ModuleType("torch_npu.npu")
    npu.is_available, npu.device_count, npu.current_device = (lambda: True), (lambda: 2), (lambda: 0)
    npu.get_device_name = lambda at=None: "Ascend910B"
    npu.get_device_properties = lambda at=None: types.SimpleNamespace(total_memory=64_000_000_000)
    torch._register_device_module("npu", npu)
"""
ASK = """
from amask.lalm.devices import choose_placement
for name in ("auto", "npu:1", "map"):
    place = choose_placement(name)
    print(place.device, place.spread)
from amask.doctor import _devices, load_torch
torch, broken = load_torch()
print(broken, *[fact.text for fact in _devices(torch) if fact.name.startswith("npu:")], sep=" / ")
"""


def test_an_ascend_npu_is_found_through_torch_npu(tmp_path):
    (tmp_path / "torch_npu.py").write_text(PRETENDED_NPU)
    info = tmp_path / "torch_npu-2.13.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torch-npu\nVersion: 2.13.0\n")
    (info / "entry_points.txt").write_text("[torch.backends]\ntorch_npu = torch_npu:_autoload\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-P", "-c", ASK], env=environment, capture_output=True, text=True, check=False)
    expected = ["npu False", "npu:1 False", "npu:0 True", "[] / Ascend910B, 64.0 GB / Ascend910B, 64.0 GB"]
    assert done.stdout.splitlines() == expected, done.stderr


@pytest.fixture(scope="module")
def folder(tiny_qwen2_audio, tmp_path_factory):
    """A tiny Qwen2-Audio on disk, in bfloat16."""
    model, processor = tiny_qwen2_audio()
    where = tmp_path_factory.mktemp("tiny")
    model.to(torch.bfloat16).save_pretrained(where)
    processor.save_pretrained(where)
    return where


def _load(folder, place):
    from transformers import Qwen2AudioForConditionalGeneration

    return place.settle(Qwen2AudioForConditionalGeneration.from_pretrained(folder, **place.arguments()))


@pytest.mark.parametrize(
    ("asked", "given"),
    [("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_the_model_is_loaded_in_the_dtype_asked_for(no_cards, folder, asked, given):
    from amask.lalm.devices import choose_placement

    model = _load(folder, choose_placement("cpu", asked))
    assert {parameter.dtype for parameter in model.parameters()} == {given}


def test_a_spread_model_is_not_moved(folder, monkeypatch):
    from transformers import Qwen2AudioForConditionalGeneration as Model

    from amask.lalm.devices import Placement

    plain = _load(folder, Placement(torch.device("cpu")))
    monkeypatch.setattr(Model, "to", lambda *_, **__: pytest.fail("accelerate has put the model in its place"))
    spread = _load(folder, Placement(torch.device("cpu"), "float32", spread=True))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), spread.parameters(), strict=True))


def test_a_model_that_does_not_fit_on_the_cards_is_refused(folder, tmp_path):
    """Because it has no fingerprint: some of its weights are not there."""
    import accelerate
    from transformers import AutoProcessor

    from amask.errors import ModelError
    from amask.lalm.devices import Placement
    from amask.lalm.qwen2_audio import BASE_TEMPLATE, Qwen2Audio

    place, processor = Placement(torch.device("cpu"), spread=True), AutoProcessor.from_pretrained(folder)
    model = _load(folder, Placement(torch.device("cpu")))
    accelerate.disk_offload(model.model.language_model.layers[1], tmp_path)
    with pytest.raises(ModelError, match=r"does not fit on the cards: \d+ of its tensors .*layers\.1\..* --dtype bfloat16"):
        place.settle(model)
    with pytest.raises(ModelError, match="some of its weights are not in memory"):
        _ = Qwen2Audio("tiny", model, processor, BASE_TEMPLATE).fingerprint


def test_gates_work_through_accelerates_hooks(folder):
    """Accelerate replaces the forward of each module of a spread model; ours are pre-hooks beside that."""
    import accelerate
    from transformers import AutoProcessor

    from amask.lalm.devices import Placement
    from amask.lalm.qwen2_audio import BASE_TEMPLATE, Qwen2Audio

    processor = AutoProcessor.from_pretrained(folder)
    waves = [np.random.default_rng(seed).normal(size=8000).astype(np.float32) for seed in range(2)]
    gates = torch.ones(2, 4)
    gates[0, 1], gates[1, 2:] = 0, 0
    losses, answers = [], []
    for hooked in (False, True):
        model = _load(folder, Placement(torch.device("cpu")))
        if hooked:
            layers = {f"model.language_model.layers.{at}": "cpu" for at in range(2)}
            others = ("model.audio_tower", "model.multi_modal_projector", "model.language_model.embed_tokens")
            rest = dict.fromkeys((*others, "model.language_model.norm", "model.language_model.rotary_emb", "lm_head"), "cpu")
            model = accelerate.dispatch_model(model, layers | rest, force_hooks=True)
            assert hasattr(model.model.language_model.layers[0], "_hf_hook")
        lalm = Qwen2Audio("tiny", model, processor, BASE_TEMPLATE)
        features = lalm.encode(waves)
        losses += [lalm.loss(features, ["yes", "no"], given).item() for given in (None, gates)]
        answers += [texts(lalm.answer(features, given, max_new_tokens=6, beams=2)) for given in (None, gates)]
    assert (losses[:2], answers[:2]) == (losses[2:], answers[2:])
    assert answers[0] != answers[1]
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "CLIP", "--task", "gr"),
        ("eval", "gr"),
        ("compose", "gr AND asr"),
        ("bank", "train", "gr"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize(
    ("option", "words"),
    [(("--dtype", "int8"), "unknown dtype 'int8'"), (("--device", "cuda:9"), "device 'cuda:9' is not available")],
    ids=["dtype", "device"],
)
def test_commands_say_it_in_one_line(root, arguments, option, words):
    from typer.testing import CliRunner

    from amask.cli.main import app

    clip = str(root / "docs" / "clips" / "woman.opus")
    done = CliRunner().invoke(app, [word.replace("CLIP", clip) for word in arguments] + list(option), catch_exceptions=False)
    assert (done.exit_code, done.stdout) == (1, "")
    assert re.fullmatch(f"amask: {words}.*\n", done.stderr)


@pytest.mark.parametrize(("asked", "given"), [((), None), (("--dtype", "float16"), "float16")], ids=["default", "float16"])
def test_the_dtype_reaches_the_loading(root, monkeypatch, asked, given):
    from typer.testing import CliRunner

    from amask.cli.main import app
    from amask.errors import ModelError
    from amask.lalm import registry
    from amask.lalm.devices import Placement, choose_placement

    seen = []

    def load(*how: object) -> None:
        seen.append(how)
        raise ModelError("enough seen")

    monkeypatch.setattr(registry, "load_model", load)
    clip = str(root / "docs" / "clips" / "woman.opus")
    CliRunner().invoke(app, ["run", "--task", "gr", clip, "--device", "cpu", *asked], catch_exceptions=False)
    ((name, *where),) = seen
    assert name == "pocket"
    assert choose_placement(*where) == Placement(torch.device("cpu"), given)
