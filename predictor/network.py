"""The predictor's network: token vectors → a logit for each head, and an intent of what is asked for, in one forward pass."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..lalm.gating import Geometry
from .intent import SLOTS, IntentScores
from .ngrams import NgramBags, NgramRefusalHead, NgramTaskHead
from .token_encoder import TokenEncoder, mean_state

PaddingMask = Bool[Tensor, "row token"] | None
N_QUERIES = SLOTS + 2  # one for each part of the answer, one for the form, one for the mask


@dataclass(frozen=True)
class PointerOutput:
    """Where the parts of the answer are spoken of; all are log-probabilities.

    Attributes:
        token: which task each token asks for; the last choice is none.
        position_logp: at which token each part is spoken of; place 0 is none of them, place t + 1 is token t.
        part: of each task at each place of the answer; the last choice is none.
    """

    token: Float[Tensor, "row token choice"]
    position_logp: Float[Tensor, "row slot place"]
    part: Float[Tensor, "row slot choice"]


@dataclass(frozen=True)
class NetworkOutput:
    """What the network says of some instructions.

    Attributes:
        scores: of parts, forms and none; `intent.py` makes intents of them.
        logits: one a head; on is at least 0.
        pointer: where the parts are spoken of.
        single_task: which task the n-grams speak for, if it is one alone.
    """

    scores: IntentScores
    logits: Float[Tensor, "row layer head"]
    pointer: PointerOutput
    single_task: Float[Tensor, "row task"]


class Attention(nn.Module):
    """Attention of some states to others, by PyTorch's fused kernel.

    Args:
        width: of all states.
        heads: how many.
    """

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.split = (heads, width // heads)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(
        self, queries: Float[Tensor, "row query width"], memory: Float[Tensor, "row token width"], token_mask: PaddingMask = None
    ) -> Float[Tensor, "row query width"]:
        """What each query finds among the tokens that are real."""
        rows = (self.query(queries), self.key(memory), self.value(memory))
        query, key, value = (states.unflatten(-1, self.split).transpose(1, 2) for states in rows)
        found = nn.functional.scaled_dot_product_attention(
            query, key, value, None if token_mask is None else token_mask[:, None, None]
        )
        return self.out(found.transpose(1, 2).flatten(2))


class QueryBlock(nn.Module):
    """One layer of queries over the tokens; queries do not attend to each other, to avoid memorising combinations.

    Args:
        width: of all states.
        dropout: while training.
    """

    def __init__(self, width: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.tokens = Attention(width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, queries: Float[Tensor, "row query width"], memory: Float[Tensor, "row token width"], token_mask: PaddingMask
    ) -> Float[Tensor, "row query width"]:
        """The queries' states after it."""
        queries = queries + self.dropout(self.tokens(self.norms[0](queries), memory, token_mask))
        return queries + self.dropout(self.mlp(self.norms[1](queries)))


class LocalConv(nn.Module):
    """States of tokens that know the few tokens on both sides, and nothing of what is further away.

    Args:
        width_in: of the token vectors.
        width: of the states.
        reach: tokens on each side that a layer sees.
        dropout: while training.
    """

    def __init__(self, width_in: int, width: int, reach: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.project = nn.Linear(width_in, width)
        self.reach = reach
        self.layers = nn.ModuleList(nn.Conv1d(width, width, 2 * reach + 1) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, vectors: Float[Tensor, "row token width_in"], token_mask: Bool[Tensor, "row token"]
    ) -> Float[Tensor, "row token width"]:
        """The states."""
        there = token_mask.unsqueeze(-1)
        states = self.project(vectors) * there
        for layer in cast("Iterable[nn.Conv1d]", self.layers):
            around = nn.functional.pad(self.dropout(states), (0, 0, self.reach, self.reach)).unfold(1, 2 * self.reach + 1, 1)
            # The convolution as a product, which is three times as fast for a few tokens.
            seen = nn.functional.linear(around.flatten(2), layer.weight.flatten(1), layer.bias)
            states = (states + nn.functional.gelu(seen)) * there
        return self.norm(states)


class Pointer(nn.Module):
    """Reads each part of the answer where it is spoken of.

    Three things are told apart, so that an order of parts that was never trained is read as well as another: which task a token
    is about, which only the tokens near it say; whether it is asked for; and where the first, second and third part are spoken
    of. P(part k is j) = Σ_t P(k is spoken of at t) · P(t is asked for) · P(t is about j).

    Args:
        width_in: of the token vectors.
        width: of all states.
        parts: how many tasks there are to choose from.
    """

    def __init__(self, width_in: int, width: int, parts: int) -> None:
        super().__init__()
        self.local = LocalConv(width_in, width)
        self.task = nn.Linear(width, parts)
        self.asked = nn.Linear(width, 1)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.null_key = nn.Parameter(0.1 * torch.randn(width))

    def forward(
        self,
        queries: Float[Tensor, "row slot width"],
        states: Float[Tensor, "row token width"],
        vectors: Float[Tensor, "row token width_in"],
        token_mask: Bool[Tensor, "row token"],
    ) -> PointerOutput:
        """Where each slot's query finds its part, and which it is."""
        asked = self.asked(states)
        about = self.task(self.local(vectors, token_mask)).log_softmax(-1)
        token = torch.cat([about + nn.functional.logsigmoid(asked), nn.functional.logsigmoid(-asked)], -1)
        keys = torch.cat([self.null_key.expand(len(states), 1, -1), self.key(states)], 1)
        fits = self.query(queries) @ keys.mT / keys.shape[-1] ** 0.5
        position_logp = fits.masked_fill(~nn.functional.pad(token_mask, (1, 0), value=True)[:, None], -1e4).log_softmax(-1)
        nothing = nn.functional.one_hot(torch.tensor(token.shape[-1] - 1), token.shape[-1]).expand(len(token), 1, -1)
        part = position_logp.exp() @ torch.cat([nothing, token.exp()], 1)
        return PointerOutput(token, position_logp, part.clamp(min=1e-6).log())


class HeadLogits(nn.Module):
    """One logit a head, factorised: a network makes a code of each layer, and a head's logit is its product with that.

    A layer's code is `W₂ gelu(W₁ (state ∘ a_l + b_l))`, where a_l and b_l are the layer's own; the codes of heads are shared
    by all layers, as Text-to-LoRA shares what it knows of modules. So a larger model costs two vectors a layer and one a head.

    Args:
        width: of the state.
        geometry: heads per masked layer; layers may differ.
        hidden: width of the network.
        code: width of the codes.
    """

    present: Tensor
    fixed: Tensor

    def __init__(self, width: int, geometry: Geometry, hidden: int = 256, code: int = 64) -> None:
        super().__init__()
        layers, heads = geometry.shape
        self.scale = nn.Parameter(1 + 0.5 * torch.randn(layers, width))
        self.shift = nn.Parameter(0.5 * torch.randn(layers, width))
        self.into = nn.Linear(width, hidden)
        self.out = nn.Linear(hidden, code)
        self.heads = nn.Parameter(code**-0.5 * torch.randn(heads, code))
        self.register_buffer("present", geometry.present, persistent=False)
        self.register_buffer("fixed", geometry.fixed, persistent=False)

    def forward(self, state: Float[Tensor, "row width"]) -> Float[Tensor, "row layer head"]:
        """Logits; those of heads that a layer does not have are far below 0, those of fixed layers far above."""
        codes = self.out(nn.functional.gelu(self.into(state[:, None] * self.scale + self.shift)))
        return (codes @ self.heads.T).masked_fill(~self.present, -1e4).masked_fill(self.fixed, 1e4)


class Network(nn.Module):
    """Reads an instruction: the token encoder gives each token its state, and a few learned queries look for their answers there.

    Args:
        width_in: of the encoder's token vectors.
        parts: how many tasks there are to choose from.
        geometry: heads per masked layer of the LALM.
        token_encoder: settings of the token encoder.
    """

    def __init__(self, width_in: int, parts: int, geometry: Geometry, **token_encoder: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.token_encoder = TokenEncoder(width_in, **token_encoder)
        width = self.token_encoder.positions.shape[1]
        self.queries = nn.Parameter(0.1 * torch.randn(N_QUERIES, width))
        self.blocks = nn.ModuleList(QueryBlock(width) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.pointer = Pointer(width_in, width, parts)
        self.form = nn.Linear(width, 2)  # pipe, JSON
        self.unsupported = nn.Linear(2 * width, 1)
        self.ngram_refusal = NgramRefusalHead()
        self.ngram_tasks = NgramTaskHead(parts)
        self.heads = HeadLogits(width, geometry)

    def forward(
        self, vectors: Float[Tensor, "row token width_in"], token_mask: Bool[Tensor, "row token"], ngrams: NgramBags
    ) -> NetworkOutput:
        """What is asked for, and the mask for it."""
        states = self.token_encoder(vectors, token_mask)
        found = self.queries.expand(len(states), -1, -1)
        for layer in self.blocks:
            found = layer(found, states, None if bool(token_mask.all()) else token_mask)
        found = self.norm(found)
        about_all = torch.cat([found[:, SLOTS], mean_state(states, token_mask)], 1)
        pointer = self.pointer(found[:, :SLOTS], states, vectors, token_mask)
        unsupported = self.unsupported(about_all)[:, 0] + self.ngram_refusal(ngrams)
        scores = IntentScores(pointer.part, self.form(found[:, SLOTS]), unsupported)
        return NetworkOutput(scores, self.heads(found[:, -1]), pointer, self.ngram_tasks(ngrams))
