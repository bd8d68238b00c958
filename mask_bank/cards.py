"""What stands in the README of an exported mask: which mask it is, and the lines that run it without amask."""

import json
from collections.abc import Sequence
from pathlib import Path

from ..data.atomic_write import write_atomic
from .defaults import dev_figure
from .files import StoredMask
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


PIPELINES = {"wer": "automatic-speech-recognition", "cer": "automatic-speech-recognition", "acc": "audio-classification"}
"""What the Hub calls a task, by its metric; anything else is audio-text-to-text."""
RUN = """```
amask bank pull {repo}
amask run --mask {name} clip.wav
```"""


def hub_card(masks: Sequence[StoredMask], *, peft: bool) -> str:
    """A repository's README: metadata that the Hub reads, and what a reader needs.

    Args:
        masks: of one model; several lie in folders of their names.
        peft: whether the files of PEFT are beside them.
    """
    first = masks[0]
    tasks = {mask.task.parts[0].metric if mask.task and mask.task.form == "plain" else "" for mask in masks}
    about: dict[str, object] = {"library_name": "amask", "base_model_relation": "adapter"}
    if first.identity.name.count("/") == 1 and not Path(first.identity.name).exists():
        about["base_model"] = first.identity.name
    else:
        about.pop("base_model_relation")
    about["pipeline_tag"] = PIPELINES.get(next(iter(tasks)), "audio-text-to-text") if len(tasks) == 1 else "audio-text-to-text"
    about["tags"] = [
        "amask",
        "head-mask",
        "audio",
        *(["peft", "ia3"] if peft else []),
        *sorted({m.task_name for m in masks} - {""}),
    ]
    front = "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in about.items())  # YAML takes JSON
    title = f"# {', '.join(mask.name for mask in masks)} for {first.identity.name}"
    figures = "\n".join(f"- `{mask.name}`: {describe_mask(mask)}" for mask in masks)
    text = ["The model stays as it is; the mask alone makes it do the task, without an instruction.", figures]
    text.append(RUN.replace("{repo}", "OWNER/NAME").replace("{name}", first.name))
    if peft:
        folder = "FOLDER" if len(masks) == 1 else f"FOLDER/{first.name}"
        text += [WHAT["peft"], PEFT.replace("{folder}", folder), LEFT_OUT]
    return "\n\n".join([f"---\n{front}\n---", title, *text]) + "\n"
