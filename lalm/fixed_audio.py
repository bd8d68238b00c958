"""Passes over text alone, for models whose audio positions never change.

In the pocket model every layer writes one and the same constant to all audio positions and to the null token before them
(docs/pocket.md says how). What a layer's text reads of the audio is then known without running the audio through the layers
before: the embedding plus what null has gathered. It is what the stock forward pass gives, at a fraction of its cost.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import DynamicCache

from .pruning import NoAttention


def text_states(
    decoder: nn.Module,
    audio: Float[Tensor, "row audio hidden"],
    heard: Bool[Tensor, "row audio"],
    text: Float[Tensor, "row text hidden"],
    sees: Bool[Tensor, "row text text"],
) -> Float[Tensor, "row text hidden"]:
    """Last states of the text positions; gates on `o_proj` act as in the stock pass.

    Args:
        decoder: layers of `self_attn` with q, k, v and o projections, `mlp` and two layer norms, without rotary positions.
        audio: embeddings of the audio positions.
        heard: which of them are real.
        text: embeddings of the null token, which stands before the audio, and of all that stands behind it.
        sees: which text positions (columns) each one (rows) attends to; null sees itself alone.
    """
    states, null = text, text[:, :1]
    reads = heard[:, None].expand(-1, text.shape[1], -1).clone()
    reads[:, 0] = False
    allowed = torch.cat([reads, sees], 2)[:, None]
    bias = torch.zeros(allowed.shape, dtype=text.dtype, device=text.device).masked_fill(~allowed, torch.finfo(text.dtype).min)
    stack: Any = decoder  # torch types its parts as Tensor | Module
    for layer in stack.layers:
        normed = layer.input_layernorm(states)
        if isinstance(layer.self_attn, NoAttention):
            mixed, _ = layer.self_attn(normed)
        else:
            source = torch.cat([layer.input_layernorm(audio + (states[:, :1] - null)), normed], 1)
            mixed = _attend(layer.self_attn, normed, source, bias)
        states = states + mixed
        states = states + layer.mlp(layer.post_attention_layernorm(states))
    return stack.norm(states)


def _attend(
    attn: Any,  # noqa: ANN401
    normed: Float[Tensor, "row text hidden"],
    source: Float[Tensor, "row position hidden"],
    bias: Float[Tensor, "row 1 text position"],
) -> Float[Tensor, "row text hidden"]:
    query, key, value = _heads(attn, "q_proj", normed), _heads(attn, "k_proj", source), _heads(attn, "v_proj", source)
    mixed = nn.functional.scaled_dot_product_attention(query, key, value, bias)
    return attn.o_proj(mixed.transpose(1, 2).flatten(2))


def _heads(
    attn: Any,  # noqa: ANN401
    name: str,
    inputs: Float[Tensor, "row position hidden"],
) -> Float[Tensor, "row head position width"]:
    return getattr(attn, name)(inputs).unflatten(-1, (-1, attn.head_dim)).transpose(1, 2)


def audio_cache(
    decoder: nn.Module, audio: Float[Tensor, "row audio hidden"], null: Float[Tensor, "row 1 hidden"]
) -> DynamicCache:
    """The keys and values that the stock pass over null and audio leaves behind, without that pass.

    Generation goes on from them. Gates on `o_proj` act as in the stock pass.

    Args:
        decoder: as of `text_states`.
        audio: embeddings of the audio positions, padded on the right.
        null: embedding of the null token, which stands before them.
    """
    stack: Any = decoder
    cache, states = DynamicCache(config=stack.config), null
    for layer in stack.layers:
        normed, attn = layer.input_layernorm(states), layer.self_attn
        if isinstance(attn, NoAttention):
            mixed, _ = attn(normed)
        else:
            source = torch.cat([normed, layer.input_layernorm(audio + (states - null))], 1)
            values = _heads(attn, "v_proj", source)
            cache.update(_heads(attn, "k_proj", source), values, attn.layer_idx)
            mixed = attn.o_proj(values[:, :, :1].transpose(1, 2).flatten(2))  # null sees itself alone
        states = states + mixed
        states = states + layer.mlp(layer.post_attention_layernorm(states))
    return cache


def causal(length: int, device: torch.device | None = None) -> Bool[Tensor, "text text"]:
    """Each text position sees itself and those before it."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()
