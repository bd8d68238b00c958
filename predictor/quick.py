"""The network for one instruction, with nothing computed twice: the same sums as `Network`, in a third of the time.

For ten tokens nearly all time goes into calling PyTorch, not into sums. So what reads the same states is one product, what does
not depend on the instruction is computed once, and the reader's layers are PyTorch's own fused kernel called directly. (The
kernel has no public name; `Network` itself is what is trained, and what reads several instructions at once.)
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from .intent import SLOTS, IntentScores
from .network import Attention, Network, QueryBlock
from .ngrams import NgramBags

Pair = tuple[Tensor, Tensor]


def _joined(layers: Sequence[nn.Linear]) -> Pair:
    return torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers])


def _pair(layer: nn.Linear) -> Pair:
    return layer.weight, layer.bias


def _of(norm: nn.LayerNorm) -> tuple[Any, ...]:
    return norm.normalized_shape, norm.weight, norm.bias, norm.eps


def _fixed(layer: nn.TransformerEncoderLayer) -> tuple[Any, ...]:
    """What PyTorch's kernel of a transformer layer wants beside the states: norms first, GELU."""
    attention = layer.self_attn
    own = (attention.embed_dim, attention.num_heads, attention.in_proj_weight, attention.in_proj_bias)
    norms = (layer.norm1.weight, layer.norm1.bias, layer.norm2.weight, layer.norm2.bias)
    hidden = (*_pair(layer.linear1), *_pair(layer.linear2))
    return (*own, *_pair(attention.out_proj), True, True, layer.norm1.eps, *norms, *hidden, None, None)


class QuickNetwork:
    """A network for one text at a time. It shares the network's weights as they were when it was made.

    Args:
        network: the trained network.
    """

    @torch.inference_mode()
    def __init__(self, network: Network) -> None:
        token_encoder, pointer, heads = network.token_encoder, network.pointer, network.heads
        self.width = width = token_encoder.positions.shape[1]
        self.project, self.positions = _joined([token_encoder.project, pointer.local.project]), token_encoder.positions[None]
        self.layers = [_fixed(layer) for layer in token_encoder.layers.layers]
        self.read, self.found, self.near = _of(token_encoder.layers.norm), _of(network.norm), _of(pointer.local.norm)
        attentions = [layer.tokens for layer in network.blocks]
        wanted = [each for attention in attentions for each in (attention.key, attention.value)]
        self.tokens, self.wanted = _joined([*wanted, pointer.key, pointer.asked]), len(wanted) + 1
        self.split = attentions[0].split
        self.blocks = list(network.blocks)
        self.query_vectors = network.queries[None]
        self.first = self._query(network.blocks[0], self.query_vectors)
        self.around, self.reach = [(layer.weight.flatten(1), layer.bias) for layer in pointer.local.layers], pointer.local.reach
        self.task, self.form, self.unsupported = _pair(pointer.task), _pair(network.form), _pair(network.unsupported)
        self.place = (pointer.query.weight / width**0.5, pointer.query.bias / width**0.5)
        self.null_key = pointer.null_key[None, None]
        self.ngrams = torch.cat([network.ngram_refusal.table.weight, network.ngram_tasks.table.weight], 1)
        self.heads = heads

    def _split(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, self.split).transpose(1, 2)

    def _query(self, layer: QueryBlock, found: Tensor) -> Tensor:
        return self._split(functional.linear(functional.layer_norm(found, *_of(layer.norms[0])), *_pair(layer.tokens.query)))

    def _ask(self, layer: QueryBlock, attention: Attention, found: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """One query block."""
        seen = functional.scaled_dot_product_attention(query, self._split(key), self._split(value))
        found = found + functional.linear(seen.transpose(1, 2).flatten(2), *_pair(attention.out))
        one, two = layer.mlp[0], layer.mlp[2]
        hidden = functional.gelu(functional.linear(functional.layer_norm(found, *_of(layer.norms[1])), *_pair(one)))
        return found + functional.linear(hidden, *_pair(two))

    @torch.inference_mode()
    def __call__(
        self, vectors: Float[Tensor, "1 token width_in"], ngrams: NgramBags
    ) -> tuple[IntentScores, Float[Tensor, "1 layer head"], Float[Tensor, "1 task"]]:
        """Scores, logits, and which task the n-grams speak for, as the network's."""
        both = functional.linear(vectors, *self.project)
        states, near = both[..., : self.width] + self.positions[:, : vectors.shape[1]], both[..., self.width :]
        for fixed in self.layers:
            states = torch._transformer_encoder_layer_fwd(states, *fixed)
        states = functional.layer_norm(states, *self.read)
        *wanted, asked = functional.linear(states, *self.tokens).split([self.width] * self.wanted + [1], -1)
        found, query = self.query_vectors, self.first
        for at, layer in enumerate(self.blocks):
            query = self._query(layer, found) if at else query
            found = self._ask(layer, layer.tokens, found, query, wanted[2 * at], wanted[2 * at + 1])
        found = functional.layer_norm(found, *self.found)
        about_all = torch.cat([found[:, SLOTS], functional.normalize(states.sum(1), dim=1)], 1)
        spelled = ngrams.weights[None] @ self.ngrams[ngrams.buckets]
        unsupported = functional.linear(about_all, *self.unsupported)[:, 0] + spelled[:, 0]
        scores = IntentScores(
            self._point(found[:, :SLOTS], near, wanted[-1], asked), functional.linear(found[:, SLOTS], *self.form), unsupported
        )
        return scores, self.heads(found[:, -1]), spelled[:, 1:]

    def _point(self, queries: Tensor, near: Tensor, key: Tensor, asked: Tensor) -> Float[Tensor, "1 slot choice"]:
        """Log-probability of each task at each place of the answer."""
        for weights in self.around:
            around = functional.pad(near, (0, 0, self.reach, self.reach)).unfold(1, 2 * self.reach + 1, 1).flatten(2)
            near = near + functional.gelu(functional.linear(around, *weights))
        about = functional.linear(functional.layer_norm(near, *self.near), *self.task).softmax(-1)
        wanted = asked.sigmoid()
        places = (functional.linear(queries, *self.place) @ torch.cat([self.null_key, key], 1).mT).softmax(-1)
        part = places[..., 1:] @ torch.cat([about * wanted, 1 - wanted], -1)
        part[..., -1] += places[..., 0]
        return part.clamp_(min=1e-6).log_()
