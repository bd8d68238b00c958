"""The end of the making: weights in half precision and the processor, as transformers saves them."""

from pathlib import Path

from transformers import PreTrainedTokenizerFast, Qwen2AudioForConditionalGeneration

from ...lalm.qwen2_audio import SETUP_FILE, Setup
from ..architecture import MARGIN, TEMPLATE, build_processor


def save_pocket(model: Qwen2AudioForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write what `load_pocket` reads: transformers' files, and how the model is spoken to."""
    folder.mkdir(parents=True, exist_ok=True)
    processor = build_processor(tokenizer)
    processor.chat_template = TEMPLATE.before + "<|AUDIO|>" + TEMPLATE.after.format("{{ messages[-1]['content'][-1]['text'] }}")
    model.half().save_pretrained(folder)
    processor.save_pretrained(folder)
    setup = Setup(before=TEMPLATE.before, after=TEMPLATE.after, end=TEMPLATE.end, silence=MARGIN)
    (folder / SETUP_FILE).write_text(setup.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / "model.safetensors").chmod(0o644)  # safetensors keeps its files to the owner
