"""How fast each number of the constructed language model moves while it is fine-tuned."""

import torch
from torch import Tensor

from .whisper_decoder import DecoderBuilder

READERS = ("q_proj.weight", "k_proj.weight", "v_proj.weight", "up_proj.weight")


def learning_rates(builder: DecoderBuilder, fresh: float) -> dict[str, Tensor]:
    """A factor for each number: 1 for Whisper's own weights, `fresh` for what stands beside them, 0 for all that must stay.

    What reads audio sees it divided by the carrier's size, so its weights are large and move as much faster.

    Args:
        builder: it knows what stands where.
        fresh: factor of fresh heads and neurons.
    """
    decoder = builder.model.model
    found = {name: torch.zeros_like(parameter) for name, parameter in decoder.named_parameters()}
    for number in range(1, len(decoder.layers)):
        at = f"layers.{number}."
        for name, zeros in list(found.items()):
            if name.startswith(at):
                found[name] = _rate(builder, number, name.removeprefix(at), zeros.shape, fresh)
    return found


def _rate(builder: DecoderBuilder, number: int, name: str, shape: torch.Size, fresh: float) -> Tensor:
    if "layernorm" in name:
        rate = torch.ones(shape)
        rate[builder.width :] = 0
    elif "mlp" in name:
        rate = _feed_forward_rate(builder, number, name, shape, fresh)
    else:
        rate = _attention_rate(builder, number, name, shape, fresh)
    if name.endswith(READERS):
        rate[:, builder.width :] = 0  # no marker is read otherwise than constructed
    if "o_proj" in name or "down_proj" in name:
        rate[builder.width :] = 0  # nothing is written on markers
    return rate


def _feed_forward_rate(builder: DecoderBuilder, number: int, name: str, shape: torch.Size, fresh: float) -> Tensor:
    rate, used = torch.ones(shape), builder.used_neurons(number)
    if "up_proj" in name:
        rate[used:] = fresh / 2
    elif name.endswith("weight"):
        rate[:, used:] = fresh / 4
    return rate


def _attention_rate(builder: DecoderBuilder, number: int, name: str, shape: torch.Size, fresh: float) -> Tensor:
    width, own = builder.shape.width, (builder.heads - builder.shape.fresh) * builder.shape.width
    rate = torch.ones(shape)
    if "o_proj" in name:
        if name.endswith("weight"):
            rate[:, own:] = fresh / 2
        return rate
    rate[own:] = fresh
    by_head = rate.view(builder.heads, width, *shape[1:])
    if name.endswith(("k_proj.weight", "v_proj.weight")):
        reads_audio = [builder.reads_audio(number, head) for head in range(builder.heads)]
        by_head[reads_audio] *= builder.raise_
    if "v_proj" not in name:
        by_head[:, -2:] = 0  # the dimensions that compare markers
    return rate
