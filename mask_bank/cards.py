"""What stands in the README of an exported mask: which mask it is, and the lines that run it without amask."""

from pathlib import Path

from ..data.atomic_write import write_atomic
from .defaults import dev_figure
from .mask import HeadMask

PEFT = """```python
from peft import PeftModel
model = PeftModel.from_pretrained(base, "{folder}")        # or, in transformers: model.load_adapter("{folder}")
```"""
CHECKPOINT = """```python
from transformers import AutoModelForMultimodalLM, AutoProcessor
model, processor = AutoModelForMultimodalLM.from_pretrained("{folder}"), AutoProcessor.from_pretrained("{folder}")
```"""
WHAT = {
    "peft": "An (IA)³ adapter of PEFT that is the mask exactly: the inputs of the output projections are scaled by 0 or 1.",
    "lora": "A LoRA of the attentions' output projections, for engines that know no (IA)³.",
    "folded": "The whole model with the mask in it: what heads that are off put into the output projections is zero.",
    "pruned": "A smaller model with the mask in it: every layer keeps as many heads as the fullest, filled up with zeros.",
}
LEFT_OUT = (
    "What does not travel: amask holds answers to the task's labels or form and cuts silence at a clip's ends before the model "
    "hears it; here the model answers by itself, as `amask run --unconstrained` does on a clip without such silence. The model "
    "is to be asked without an instruction: its own chat format with audio alone."
)


def describe_mask(mask: HeadMask) -> str:
    """A sentence: task, heads, model, figure."""
    task = f"the task {mask.task_name}" if mask.task_name else "no task of its own"
    figure = f"; on dev clips {found}" if (found := dev_figure(mask)) else ""
    return (
        f"A head mask for {task} on {mask.identity.name} ({mask.geometry} heads, fingerprint {mask.identity.fingerprint}): "
        f"{mask.heads_on} of {mask.heads_total} attention heads are on, and no instruction is needed{figure}."
    )


def write_readme(mask: HeadMask, kind: str, folder: Path) -> None:
    """Write a folder's README.

    Args:
        mask: the mask.
        kind: of the export: peft, lora, folded or pruned.
        folder: where it goes.

    Raises:
        FileError: it cannot be written.
    """
    lines = (PEFT if kind in ("peft", "lora") else CHECKPOINT).replace("{folder}", "FOLDER")
    title = f"# {mask.task_name or 'A head mask'} for {mask.identity.name}"
    text = "\n\n".join([title, describe_mask(mask), WHAT[kind], lines, LEFT_OUT, "`mask.safetensors` is the mask for amask."])
    write_atomic(text.encode() + b"\n", folder / "README.md")
