"""Random weights that matter: freshly made models hardly look at their input, and no head of theirs counts."""

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase


@torch.no_grad()
def redraw(model: nn.Module) -> None:
    """Draw every matrix anew, so that each layer keeps the scale of its input, and every bias.

    Norms and fixed position embeddings stay as they are.
    """
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
            elif parameter.dim() > 1:  # also stacks of experts' matrices, (expert, out, in)
                is_conv = isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
                inputs = parameter[0].numel() if is_conv else parameter.shape[-1]
                parameter.normal_(0, inputs**-0.5)


def ready(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Redraw the weights, name the tokens that end and fill up answers, and stop training."""
    redraw(model)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model.eval()
