"""Masks in other formats: the same answers in a process that does not know amask; what comes back is the same mask."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

TOKENS = 12
# Answers of plain transformers, and of PEFT, for folders of checkpoints and of adapters.
PLAIN = f"""
import json, sys
import numpy as np, torch
from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration as Model
from peft import PeftModel
root, plan = sys.argv[1], json.loads(sys.argv[2])
waves = list(np.load(root + "/waves.npz").values())

def answers(model, folder):
    processor = AutoProcessor.from_pretrained(folder)
    text = processor.apply_chat_template([{{"role": "user", "content": [{{"type": "audio", "audio": "x"}}]}}], tokenize=False)
    said = []
    for wave in waves:
        inputs = processor(text=[text], audio=[wave], sampling_rate=16000, return_tensors="pt")
        out = model.generate(**inputs, max_new_tokens={TOKENS})[:, inputs["input_ids"].shape[1]:]
        said.append(processor.batch_decode(out, skip_special_tokens=True)[0].strip())
    return said

found = {{}}
for name, how in plan.items():
    folder = f"{{root}}/{{name}}"
    if how == "remote":
        from transformers import AutoModelForMultimodalLM
        model = AutoModelForMultimodalLM.from_pretrained(folder, trust_remote_code=True).eval()
        found[name] = answers(model, folder)
        found[name + " heads"] = [layer.self_attn.q_proj.out_features for layer in model.model.language_model.layers]
    elif how == "checkpoint":
        found[name] = answers(Model.from_pretrained(folder).eval(), folder)
    elif how == "peft":
        found[name] = answers(PeftModel.from_pretrained(Model.from_pretrained(root + "/base"), folder).eval(), root + "/base")
    else:
        model = Model.from_pretrained(root + "/base").eval()
        model.load_adapter(folder, adapter_name="mask")
        model.set_adapter("mask")
        found[name] = answers(model, root + "/base")
        found[name + " size"] = sum(p.numel() for p in model.parameters())
assert not any(name.partition(".")[0] == "amask" for name in sys.modules)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def lalm(tiny_qwen2_audio):
    from amask.lalm.batching import PromptTemplate
    from amask.lalm.qwen2_audio import Qwen2Audio

    return Qwen2Audio("tiny", *tiny_qwen2_audio(seed=0), PromptTemplate("<|audio_bos|>", '<|audio_eos|>{}\n"A": '))


@pytest.fixture(scope="module")
def mask(lalm):
    from amask.data.tasks import parse_task
    from amask.mask_bank.mask import HeadMask

    bits = torch.tensor([[True, False, False, True], [False, False, True, False]])
    return HeadMask(bits, lalm.identity, parse_task("gr"), lineage={"operation": "by hand"}, scores={"dev": 91.0})


@pytest.fixture(scope="module")
def exported(lalm, mask, swelling, tmp_path_factory):
    """All formats of one mask in one folder, and what plain transformers and PEFT say with each."""
    from amask.mask_bank.adapters import export_lora, export_peft
    from amask.mask_bank.exporting import export_folded, export_pruned, export_remote_code, new_folder
    from amask.mask_bank.mask import HeadMask

    root = tmp_path_factory.mktemp("exports")
    waves = swelling((0.6, 1.1, 1.7))
    np.savez(root / "waves.npz", *waves)
    whole = HeadMask(lalm.geometry.present, lalm.identity)
    before = {name: parameter.clone() for name, parameter in lalm.model.named_parameters()}
    for name, write in {
        "base": lambda folder: export_folded(lalm, whole, folder),
        "folded": lambda folder: export_folded(lalm, mask, folder),
        "pruned": lambda folder: export_pruned(lalm, mask, folder),
        "remote": lambda folder: export_remote_code(lalm, mask, folder),
        "peft": lambda folder: export_peft(lalm, mask, folder),
        "lora": lambda folder: export_lora(lalm, mask, folder),
    }.items():
        with new_folder(root / name) as folder:
            write(folder)
    assert all(torch.equal(before[name], parameter) for name, parameter in lalm.model.named_parameters())
    plan = {
        "base": "checkpoint",
        "folded": "checkpoint",
        "pruned": "checkpoint",
        "remote": "remote",
        "lora": "peft",
        "peft": "transformers",
    }
    done = subprocess.run(
        [sys.executable, "-P", "-c", PLAIN, str(root), json.dumps(plan)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ours = {
        name: [lalm.answer(lalm.encode([wave]), gates, max_new_tokens=TOKENS)[0].text for wave in waves]
        for name, gates in {"mask": mask.gates, "none": None}.items()
    }
    return root, json.loads(done.stdout), ours


@pytest.mark.parametrize("name", ["folded", "pruned", "remote", "peft", "lora"])
def test_answers_without_amask_are_the_masks(exported, name):
    _, plain, ours = exported
    assert plain["remote heads"] == [8, 4]  # two heads and one, four numbers each
    assert ours["mask"] != ours["none"] == plain["base"]
    assert plain[name] == ours["mask"]


def test_a_pruned_checkpoint_is_smaller(exported, lalm, mask):
    from amask.mask_bank.exporting import pruned_size

    root, *_ = exported
    config = json.loads((root / "pruned" / "config.json").read_text())["text_config"]
    # Of each pair of heads that shares keys one is on at most, so two of four stay in every layer.
    assert (config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]) == (2, 2, 4)
    size = pruned_size(lalm, mask)
    assert (size.heads, size.of) == (2, 4)
    sizes = [(root / name / "model.safetensors").stat().st_size for name in ("pruned", "base")]
    assert sizes[0] < sizes[1]
    assert "2 of 4 heads" in str(size)


def test_nothing_is_gained_where_a_layer_has_all_heads_on(lalm, mask):
    from amask.errors import MaskError
    from amask.mask_bank.exporting import pruned_size

    with pytest.raises(MaskError, match="nothing is gained"):
        pruned_size(lalm, mask.with_(bits=mask.bits | torch.tensor([[True], [False]])))


def test_an_adapter_comes_back_as_the_mask(exported, mask, lalm):
    from amask.mask_bank.adapters import MASK, import_peft, is_adapter

    folder = exported[0] / "peft"
    assert is_adapter(folder)
    again = import_peft(folder)
    assert (again.digest, dict(again.lineage), dict(again.scores)) == (mask.digest, dict(mask.lineage), dict(mask.scores))
    (folder / MASK).rename(folder / "aside")
    try:
        alone = import_peft(folder, heads=4, model="tiny")
        assert torch.equal(alone.bits, mask.bits)
        assert alone.identity.fingerprint == "imported:tiny"
        vouched = import_peft(folder, lalm.identity, mask.task)
        assert vouched.identity == lalm.identity
    finally:
        (folder / "aside").rename(folder / MASK)


def test_what_is_no_head_mask_is_refused_with_what_is_there(exported, mask, tmp_path):
    import safetensors.torch

    from amask.errors import MaskError
    from amask.mask_bank.adapters import CONFIG, MASK, WEIGHTS, import_peft

    source = exported[0] / "peft"
    tensors = safetensors.torch.load_file(source / WEIGHTS)
    name = sorted(tensors)[0]

    def refused(match, **changed):
        (tmp_path / CONFIG).write_text(changed.get("config", (source / CONFIG).read_text()))
        safetensors.torch.save_file(changed.get("tensors", tensors), tmp_path / WEIGHTS)
        with pytest.raises(MaskError, match=match):
            import_peft(tmp_path, **changed.get("how", {"heads": 4}))

    refused("scaled by 0.5", tensors=tensors | {name: tensors[name] * 0.5})
    half = tensors[name].clone()
    half[0, 0] = 1 - half[0, 0]
    refused("head 0 of layer 0 is scaled by 0 to 1", tensors=tensors | {name: half})
    refused("does not say how many heads", how={})
    refused("of kind LORA", config=(exported[0] / "lora" / CONFIG).read_text())
    refused("more than a head mask", tensors=tensors | {"base_model.model.x.k_proj.ia3_b": tensors[name].clone()})
    refused("vectors for layers", tensors={name.replace(".0.", ".3."): tensors[name]})
    refused("3 heads do not divide", how={"heads": 3})
    (tmp_path / MASK).write_bytes((source / MASK).read_bytes())
    refused("different masks", tensors=tensors | {name: 1 - tensors[name]})
    assert "different" not in str(import_peft(source))


def test_a_lora_is_the_columns_that_are_off(lalm, mask):
    from amask.mask_bank.adapters import lora_size, lora_update, named_sites

    size = lora_size(lalm, mask)
    assert (size.exact, size.rank) == (12, 12)  # three heads of four off, four numbers each
    (site, *_) = named_sites(lalm).values()
    off = ~mask.bits[0].repeat_interleave(site.width)
    first, second, lost = lora_update(site.projection, off, 12)
    assert torch.equal((second @ first)[:, off], -site.projection.weight[:, off])
    assert not (second @ first)[:, ~off].any()
    assert lost == 0
    losses = [lora_update(site.projection, off, rank)[2] for rank in (1, 4, 7)]
    assert losses == sorted(losses, reverse=True)
    first, second, lost = lora_update(site.projection, off, 4)  # Eckart and Young: the singular values that are left out
    values = torch.linalg.svdvals(site.projection.weight[:, off])
    assert lost == pytest.approx(float(values[4:].square().sum() / values.square().sum()), abs=1e-5)
    apart = (second @ first)[:, off] + site.projection.weight[:, off]
    assert float(apart.square().sum() / values.square().sum()) == pytest.approx(lost, abs=1e-5)


def test_a_folder_that_is_there_stays(tmp_path):
    from amask.errors import FileError
    from amask.mask_bank.exporting import new_folder

    (tmp_path / "mine").mkdir()
    for force, words in ((False, "there already"), (True, "no export of a mask")):
        with pytest.raises(FileError, match=words), new_folder(tmp_path / "mine", force=force):
            pass
    with pytest.raises(RuntimeError), new_folder(tmp_path / "new") as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]
