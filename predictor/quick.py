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

from .letters import Letters
from .network import Asking, Attention, Network
from .reading import SLOTS, Scores

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
        reader, pointer, heads = network.reader, network.pointer, network.heads
        self.width = width = reader.positions.shape[1]
        self.project, self.positions = _joined([reader.project, pointer.nearby.project]), reader.positions[None]
        self.layers = [_fixed(layer) for layer in reader.layers.layers]
        self.read, self.found, self.near = _of(reader.layers.norm), _of(network.norm), _of(pointer.nearby.norm)
        asked = [layer.tokens for layer in network.asking]
        wanted = [each for attention in asked for each in (attention.key, attention.value)]
        self.tokens, self.wanted = _joined([*wanted, pointer.key, pointer.asked]), len(wanted) + 1
        self.split = asked[0].split
        self.asking = list(network.asking)
        self.questions = network.questions[None]
        self.first = self._query(network.asking[0], self.questions)
        self.around, self.reach = [(layer.weight.flatten(1), layer.bias) for layer in pointer.nearby.layers], pointer.nearby.reach
        self.task, self.form, self.none = _pair(pointer.task), _pair(network.form), _pair(network.none)
        self.where = (pointer.query.weight / width**0.5, pointer.query.bias / width**0.5)
        self.nowhere = pointer.nowhere[None, None]
        self.letters = torch.cat([network.letters.table.weight, network.alone.table.weight], 1)
        self.heads = heads

    def _split(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, self.split).transpose(1, 2)

    def _query(self, layer: Asking, found: Tensor) -> Tensor:
        return self._split(functional.linear(functional.layer_norm(found, *_of(layer.norms[0])), *_pair(layer.tokens.query)))

    def _ask(self, layer: Asking, attention: Attention, found: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """One layer of questions."""
        seen = functional.scaled_dot_product_attention(query, self._split(key), self._split(value))
        found = found + functional.linear(seen.transpose(1, 2).flatten(2), *_pair(attention.out))
        one, two = layer.think[0], layer.think[2]
        hidden = functional.gelu(functional.linear(functional.layer_norm(found, *_of(layer.norms[1])), *_pair(one)))
        return found + functional.linear(hidden, *_pair(two))

    @torch.inference_mode()
    def __call__(
        self, vectors: Float[Tensor, "1 token width_in"], letters: Letters
    ) -> tuple[Scores, Float[Tensor, "1 layer head"], Float[Tensor, "1 task"]]:
        """Scores, logits, and which task the letters speak for, as the network's."""
        both = functional.linear(vectors, *self.project)
        states, near = both[..., : self.width] + self.positions[:, : vectors.shape[1]], both[..., self.width :]
        for fixed in self.layers:
            states = torch._transformer_encoder_layer_fwd(states, *fixed)
        states = functional.layer_norm(states, *self.read)
        *wanted, asked = functional.linear(states, *self.tokens).split([self.width] * self.wanted + [1], -1)
        found, query = self.questions, self.first
        for at, layer in enumerate(self.asking):
            query = self._query(layer, found) if at else query
            found = self._ask(layer, layer.tokens, found, query, wanted[2 * at], wanted[2 * at + 1])
        found = functional.layer_norm(found, *self.found)
        about_all = torch.cat([found[:, SLOTS], functional.normalize(states.sum(1), dim=1)], 1)
        spelled = letters.weights[None] @ self.letters[letters.buckets]
        none = functional.linear(about_all, *self.none)[:, 0] + spelled[:, 0]
        scores = Scores(
            self._point(found[:, :SLOTS], near, wanted[-1], asked), functional.linear(found[:, SLOTS], *self.form), none
        )
        return scores, self.heads(found[:, -1]), spelled[:, 1:]

    def _point(self, asking: Tensor, near: Tensor, key: Tensor, asked: Tensor) -> Float[Tensor, "1 slot choice"]:
        """Log-probability of each task at each place of the answer."""
        for weights in self.around:
            around = functional.pad(near, (0, 0, self.reach, self.reach)).unfold(1, 2 * self.reach + 1, 1).flatten(2)
            near = near + functional.gelu(functional.linear(around, *weights))
        about = functional.linear(functional.layer_norm(near, *self.near), *self.task).softmax(-1)
        wanted = asked.sigmoid()
        where = (functional.linear(asking, *self.where) @ torch.cat([self.nowhere, key], 1).mT).softmax(-1)
        part = where[..., 1:] @ torch.cat([about * wanted, 1 - wanted], -1)
        part[..., -1] += where[..., 0]
        return part.clamp_(min=1e-6).log_()
