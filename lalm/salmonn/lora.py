"""LoRA (Hu et al. 2022) as SALMONN uses it: merged into the language model's weights once and for all."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import ModelError

TARGETS = ("q_proj", "v_proj")
_PREFIX = "llama_model.base_model.model."


def is_lora(name: str) -> bool:
    """Whether a tensor of SALMONN's checkpoint belongs to LoRA."""
    return ".lora_" in name


@torch.no_grad()
def merge_lora(llm: nn.Module, tensors: Mapping[str, Tensor], alpha: float, path: Path) -> None:
    """W + alpha / rank · B · A in place of each query and value projection's W.

    The sum is made in single precision and rounded to the model's own.

    Args:
        llm: a LLaMA with its head.
        tensors: of SALMONN's checkpoint.
        alpha: LoRA's weight times its rank.
        path: where the tensors come from.

    Raises:
        ModelError: tensors are missing or do not fit the model.
    """
    projections = [(name, module) for name, module in llm.named_modules() if name.rpartition(".")[2] in TARGETS]
    for name, module in projections:
        names = [f"{_PREFIX}{name}.lora_{half}.default.weight" for half in "AB"]
        for needed in names:
            if needed not in tensors:
                raise ModelError(f"{path} lacks the tensor {needed}; the checkpoint belongs to another language model")
        low, high = (tensors[needed].to(module.weight.device, torch.float32) for needed in names)
        if (len(high), low.shape[-1]) != module.weight.shape or high.shape[-1] != len(low):
            shapes = f"{tuple(high.shape)} × {tuple(low.shape)}, expected {tuple(module.weight.shape)}"
            raise ModelError(f"{path}: {names[1]} × its lora_A is {shapes}; the checkpoint belongs to another language model")
        module.weight.copy_(module.weight.float() + alpha / len(low) * high @ low)
