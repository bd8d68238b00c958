"""The end of the making: weights in half precision and the processor, as transformers saves them."""

import json
from pathlib import Path

from transformers import PreTrainedTokenizerFast, Qwen2AudioForConditionalGeneration

from ...lalm.qwen2_audio import SETUP_FILE, Setup
from ..architecture import LONGEST, MARGIN, TAIL, TEMPLATE, build_processor


def save_pocket(model: Qwen2AudioForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write what `load_model` reads: transformers' files, and how the model is spoken to.

    The feed-forward of the layer that makes positions stays in float32: its readout cancels large numbers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    positions = model.model.language_model.layers[0].mlp
    exact = {name: value.clone() for name, value in positions.state_dict().items()}
    model.half()
    positions.float()
    positions.load_state_dict(exact)
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["architectures"] = ["Qwen2AudioForConditionalGeneration"]  # what amask's own class is but for the tied head
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    build_processor(tokenizer).save_pretrained(folder)
    audio = {"silence": MARGIN, "tail": TAIL, "longest": LONGEST, "fixed_audio": True, "fixed_layers": (0,)}
    setup = Setup(before=TEMPLATE.before, after=TEMPLATE.after, **audio)
    (folder / SETUP_FILE).write_text(setup.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / "model.safetensors").chmod(0o644)  # safetensors keeps its files to the owner
