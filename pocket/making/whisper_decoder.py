"""Whisper's decoder as a causal language model over audio and text (`NemotronForCausalLM`), by construction.

Sequence: `[null] [audio …] [anchor] text …`. A Whisper layer becomes two causal ones: its self-attention, then its
cross-attention with the feed-forward. Each stream has Whisper's width and, beside it, pairs of marker dimensions (+v, −v),
which a layer norm leaves centred. Two dimensions of every head compare markers, so that

- heads of the self-attention see text only, and heads of the cross-attention audio only;
- audio and null attend to null alone, and feed-forwards are silent there, so that every layer writes the same constant to
  all of them: the audio's stream never changes (`constant` keeps count of what was written, and later layers subtract it).

A first layer counts the text's tokens since the anchor and adds Whisper's learned positions; rotary positions are off.
docs/pocket.md explains it at length. All numbers are computed in float64 and rounded once, at the end.
"""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import NemotronConfig, NemotronForCausalLM, WhisperForConditionalGeneration
from transformers.models.nemotron.modeling_nemotron import NemotronAttention, NemotronDecoderLayer
from transformers.models.whisper.modeling_whisper import WhisperAttention, WhisperDecoder, WhisperDecoderLayer

from .whisper_moments import Moments

MARKERS = 16
AUDIO, NULL, ANCHOR, TEXT, MEAN, COUNT = 0, 2, 4, 6, 8, 10  # offsets of the marker pairs; COUNT: the counting heads' six
COUNTERS = (1.0, 3.0, 9.0, 27.0, 80.0, 240.0)  # tokens at which a counting head looks half at the anchor
POSITIONS = 200  # text positions that the first layer knows
FORBIDDEN = 10.0  # scores of what a head must not see, in units of the carrier
SILENT = 100.0  # input of a feed-forward's neurons where they must not write
TEXT_CARRIER = 64.0  # a marker of the text's in the first layer; a power of two is exact in float16


@dataclass(frozen=True)
class DecoderShape:
    """Sizes of the language model.

    Attributes:
        vocabulary: how many of Whisper's byte-pair tokens are kept, see `architecture.kept_tokens`.
        width: of a head; the last two dimensions compare markers, the others are Whisper's best by `Moments`.
        split: heads that one of Whisper's becomes; its values are divided among them.
        fresh: heads a layer beside Whisper's.
        neurons: of each feed-forward.
        fresh_neurons: of these in layers that have Whisper's; its least active ones go behind the next self-attention.
        carrier: size of the audio's marker relative to the audio's states.
    """

    vocabulary: int = 14_000
    width: int = 36
    split: int = 2
    fresh: int = 6
    neurons: int = 832
    fresh_neurons: int = 48
    carrier: float = 10.0


def pair(tensor: Tensor, at: int, value: float | Tensor) -> None:
    """Write a marker: `value` at one dimension, its negative at the next."""
    tensor[..., at], tensor[..., at + 1] = value, -value


class DecoderBuilder:
    """Builds the causal language model of a Whisper model.

    Args:
        whisper: the model; English-only checkpoints of any size.
        shape: sizes.
        moments: of its queries, keys and neurons, see `whisper_moments`.
        kept: Whisper's ids of the kept vocabulary, special tokens last; null and anchor follow behind them.
    """

    def __init__(
        self, whisper: WhisperForConditionalGeneration, shape: DecoderShape, moments: Moments, kept: list[int], extra: int = 0
    ) -> None:
        self.shape, self.moments = shape, moments
        self.decoder: WhisperDecoder = whisper.model.decoder
        self.width = whisper.config.d_model
        self.whisper_heads = whisper.config.decoder_attention_heads
        self.head = self.width // self.whisper_heads
        self.heads = self.whisper_heads * shape.split + shape.fresh
        self.hidden = self.width + MARKERS
        self.norm = (self.width / self.hidden) ** 0.5  # of the layer norm, so that text is normed as Whisper norms it
        self.centre = torch.eye(self.width, dtype=torch.float64) - 1 / self.width
        # Markers that float16 has, so that what is written and what removes it are the same on disk.
        self.carrier = round(shape.carrier * moments.audio_norm / 2**0.5 / 8) * 8 * 2**0.5
        self.sigma = ((moments.audio_norm**2 + self.carrier**2) / self.hidden) ** 0.5  # of audio's and null's stream
        self.mark = self.norm * self.carrier / 2**0.5 / self.sigma  # what a marker is behind the norm
        self.raise_ = self.sigma / self.norm  # from a normed audio state to the state itself
        self.forbidden = (FORBIDDEN * shape.carrier * shape.width**0.5) ** 0.5
        self.null, self.anchor = len(kept), len(kept) + 1
        layers = 1 + 2 * len(self.decoder.layers)
        config = NemotronConfig(
            vocab_size=len(kept) + 2 + extra,
            hidden_size=self.hidden,
            intermediate_size=shape.neurons,
            num_hidden_layers=layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads,
            head_dim=shape.width,
            hidden_act="gelu",
            attention_bias=True,
            mlp_bias=True,
            norm_eps=1e-5 * self.width / self.hidden,
            max_position_embeddings=2048,
            pad_token_id=None,
            bos_token_id=None,
            eos_token_id=None,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.0},
        )
        self.model = NemotronForCausalLM(config).eval()
        self.layers = [cast(NemotronDecoderLayer, layer) for layer in self.model.model.layers]
        embeddings = self.decoder.embed_tokens.weight.detach().double()[kept]
        with torch.no_grad():
            self._fill(embeddings)

    def _fill(self, embeddings: Float[Tensor, "token width"]) -> None:
        """All weights: embeddings, positions, Whisper's layers, fresh heads and neurons."""
        stack = self.model.model
        table = torch.zeros(stack.embed_tokens.weight.shape, dtype=torch.float64)
        table[: len(embeddings), : self.width] = embeddings @ self.centre
        pair(table, self.width + TEXT, TEXT_CARRIER)
        pair(table[self.null : self.anchor + 1], self.width + NULL, self.carrier / 2**0.5)
        pair(table[self.anchor], self.width + ANCHOR, TEXT_CARRIER * 2**0.5)
        stack.embed_tokens.weight.copy_(table.half())
        for built in self.layers:
            for parameter in built.parameters():
                parameter.zero_()
            for norm in (built.input_layernorm, built.post_attention_layernorm):
                norm.weight.fill_(self.norm - 1)
        last = self.decoder.layer_norm
        stack.norm.weight.fill_(-1.0)  # the norm multiplies by 1 + weight: no marker is read by the head
        stack.norm.weight[: self.width] = last.weight * self.norm - 1
        stack.norm.bias.zero_()
        stack.norm.bias[: self.width] = last.bias
        constant = torch.zeros(self.width, dtype=torch.float64)
        self._count_positions(self.layers[0])
        for at, module in enumerate(self.decoder.layers):
            layer = cast(WhisperDecoderLayer, module)
            own, cross = self.layers[1 + 2 * at], self.layers[2 + 2 * at]
            after = self.layers[3 + 2 * at] if 3 + 2 * at < len(self.layers) else None
            constant = self._attention(own, layer.self_attn, layer.self_attn_layer_norm, at, constant, cross=False)
            constant = self._attention(cross, layer.encoder_attn, layer.encoder_attn_layer_norm, at, constant, cross=True)
            constant = self._feed_forward(cross, after, layer, at, constant)
        self._add_fresh()

    # Whisper's attention -------------------------------------------------------------------------------------------

    def _attention(
        self, target: NemotronDecoderLayer, source: WhisperAttention, norm: nn.LayerNorm, at: int, constant: Tensor, cross: bool
    ) -> Tensor:
        """One of Whisper's attentions as heads of a causal layer; returns the constant written to audio and null so far."""
        attn, width, split = target.self_attn, self.shape.width, self.shape.split
        w, b = norm.weight.double(), norm.bias.double()
        by_head = lambda tensor: tensor.double().view(self.whisper_heads, self.head, *tensor.shape[1:])  # noqa: E731
        wq, wk, wv = (by_head(proj.weight) for proj in (source.q_proj, source.k_proj, source.v_proj))
        bq = by_head(source.q_proj.bias) + wq @ b
        out = self.centre @ source.out_proj.weight.double()
        # Values' biases pass through attention unchanged, and so does what was written to the audio: both move into the output's.
        shift = source.v_proj.weight.double() @ (-constant if cross else b) + source.v_proj.bias.double()
        bias = self.centre @ source.out_proj.bias.double() + out @ shift
        scale = (width / self.head) ** 0.25  # transformers divides scores by the root of the width
        share = self.head // split
        null_value = torch.zeros(self.width, dtype=torch.float64)
        for h in range(self.whisper_heads):
            to_query, to_key = self._narrow(at, cross, h)
            rank = len(to_query)
            key = to_key @ wk[h] * scale
            for part in range(split):
                first = (h * split + part) * width
                rows, value = slice(first, first + rank), wv[h][part * share : (part + 1) * share]
                values, begin = slice(first, first + share), h * self.head + part * share
                columns = slice(begin, begin + share)
                attn.q_proj.weight[rows, : self.width] = (to_query @ wq[h] * w * scale).float()
                attn.q_proj.bias[rows] = (to_query @ bq[h] * scale).float()
                if cross:  # Whisper reads the encoder's states themselves: their mean stands in a marker, no norm is undone
                    for proj, at_rows, matrix in ((attn.k_proj, rows, key), (attn.v_proj, values, value)):
                        proj.weight[at_rows, : self.width] = (matrix * self.raise_).float()
                        proj.weight[at_rows, self.width + MEAN] = (matrix.sum(1) * self.raise_).float()
                else:
                    attn.k_proj.weight[rows, : self.width] = (key * w).float()
                    attn.v_proj.weight[values, : self.width] = (value * w).float()
                attn.o_proj.weight[: self.width, values] = out[:, columns].float()
                null_value += out[:, columns] @ (value @ (constant if cross else w * constant / self.raise_))
                self._mark_head(attn, h * split + part, reads_audio=cross)
        attn.o_proj.bias[: self.width] = bias.float()
        return constant + bias + null_value

    def _mark_head(self, attn: NemotronAttention, head: int, reads_audio: bool) -> None:
        """The two dimensions in which a head compares markers: text sees text or audio, audio and null see null."""
        end, big = (head + 1) * self.shape.width, self.forbidden
        query, key = attn.q_proj, attn.k_proj
        query.bias[end - 2] = big
        query.weight[end - 1, self.width + AUDIO] = big / self.mark
        key.weight[end - 1, self.width + NULL] = 2 * big / self.mark
        if reads_audio:
            key.bias[end - 2] = -2 * big
            key.weight[end - 2, self.width + AUDIO] = 2 * big / self.mark
            key.weight[end - 2, self.width + NULL] = big / self.mark
        else:
            for marker in (AUDIO, NULL):
                key.weight[end - 2, self.width + marker] = -big / self.mark

    def _narrow(self, at: int, cross: bool, head: int) -> tuple[Tensor, Tensor]:
        """The best few dimensions of a head's scores: maps of its queries and keys whose product keeps most of q·k.

        With C_q = E[q qᵀ] and C_k the keys' covariance, the error E[(q·k − q·AᵀB k)²] is least for the leading singular vectors
        of C_q^½ C_k^½ (Eckart–Young).
        """
        rank = self.shape.width - 2
        if rank >= self.head:
            return torch.eye(self.head).double(), torch.eye(self.head).double()
        moments = (each.double() for each in self.moments.scores[at, cross, head])
        cq, ck = (each + 1e-4 * each.diagonal().mean() * torch.eye(self.head) for each in moments)
        u, s, vt = torch.linalg.svd(_power(cq, 0.5) @ _power(ck, 0.5))
        root = s[:rank, None] ** 0.5
        return root * (u[:, :rank].T @ _power(cq, -0.5)), root * (vt[:rank] @ _power(ck, -0.5))

    # Whisper's feed-forward ----------------------------------------------------------------------------------------

    def _feed_forward(
        self,
        target: NemotronDecoderLayer,
        after: NemotronDecoderLayer | None,
        layer: WhisperDecoderLayer,
        at: int,
        constant: Tensor,
    ) -> Tensor:
        """Whisper's feed-forward; the neurons that write least stand behind the next self-attention, where there is one."""
        w, b = layer.final_layer_norm.weight.double(), layer.final_layer_norm.bias.double()
        up, down = layer.fc1.weight.double(), self.centre @ layer.fc2.weight.double()
        bias = layer.fc1.bias.double() + up @ b
        kept, rest = self.neurons_of(at)
        for place, chosen in ((target, kept), (after, rest)):
            if place is not None and len(chosen):
                count = len(chosen)
                place.mlp.up_proj.weight[:count, : self.width] = (up[chosen] * w).float()
                place.mlp.up_proj.bias[:count] = bias[chosen].float()
                place.mlp.down_proj.weight[: self.width, :count] = down[:, chosen].float()
                self._silence(place.mlp.up_proj.weight[:count])
        written = self.centre @ layer.fc2.bias.double()
        target.mlp.down_proj.bias[: self.width] = written.float()
        return constant + written

    def neurons_of(self, at: int) -> tuple[Tensor, Tensor]:
        """Which neurons of a Whisper layer stay in it, and which go behind the next self-attention."""
        order = self.moments.neurons[at].argsort(descending=True)
        kept = min(len(order), self.shape.neurons - self.shape.fresh_neurons)
        return order[:kept], order[kept : kept + self.shape.neurons]

    def _silence(self, up: Float[Tensor, "neuron hidden"]) -> None:
        for marker in (AUDIO, NULL):
            up[:, self.width + marker] = -SILENT / self.mark

    # Positions -----------------------------------------------------------------------------------------------------

    def _count_positions(self, target: NemotronDecoderLayer) -> None:
        """The first layer: heads that look at the anchor with weight e^s / (e^s + t) count t text tokens.

        The feed-forward makes Whisper's positions of the counts; it is fitted to what this very layer gives.
        """
        attn, width = target.self_attn, self.shape.width
        text = TEXT_CARRIER * 2**0.5  # norm of the text's marker pair
        sigma_anchor = ((self.carrier**2 + 3 * text**2) / self.hidden) ** 0.5
        sigma_null = ((self.carrier**2 + text**2) / self.hidden) ** 0.5
        mark = self.norm * TEXT_CARRIER * 2**0.5 / sigma_anchor
        for head, tokens in enumerate(COUNTERS):
            first, end = head * width, (head + 1) * width
            score = torch.tensor(tokens).log() * width**0.5 / self.forbidden
            attn.q_proj.bias[end - 2] = self.forbidden
            attn.k_proj.weight[end - 2, self.width + NULL] = -self.forbidden / (self.norm * self.carrier / 2**0.5 / sigma_anchor)
            attn.k_proj.weight[end - 2, self.width + AUDIO] = -self.forbidden / (self.norm * self.carrier / 2**0.5 / sigma_null)
            attn.k_proj.weight[end - 2, self.width + ANCHOR] = (self.forbidden + score) / mark
            attn.v_proj.weight[first, self.width + ANCHOR] = 1 / mark
            attn.o_proj.weight[self.width + COUNT + head, first] = text / 4
        for parameter in attn.parameters():
            parameter.copy_(parameter.half())
        states, normed = self._counted(target)
        line, slope, offset = self._line_of(normed[..., self.width + COUNT : self.width + COUNT + len(COUNTERS)])
        self._fit_positions(target, states, normed, line, slope, offset)

    def _counted(self, target: NemotronDecoderLayer) -> tuple[Tensor, Tensor]:
        """States of random text behind null and anchor, after the counting heads; and as the feed-forward sees them."""
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(0, self.null, (8, POSITIONS), generator=generator)
        start = torch.tensor([[self.null, self.anchor]]).expand(8, 2)
        states = self.model.model.embed_tokens(torch.cat([start, ids], 1))
        rotary = self.model.model.rotary_emb(states, torch.arange(states.shape[1])[None])
        causal = torch.full((states.shape[1],) * 2, -1e30).triu(1)[None, None].expand(8, 1, -1, -1)
        states = states + target.self_attn(target.input_layernorm(states), rotary, causal)[0]
        return states[:, 2:], target.post_attention_layernorm(states)[:, 2:]

    def _line_of(self, counts: Float[Tensor, "row position counter"]) -> tuple[Tensor, Tensor, Tensor]:
        """A combination of the counts that grows with the position: its values, its slopes, its offset."""
        mean = torch.cat([counts.mean(0), torch.ones(POSITIONS, 1)], 1).double()
        scale = mean.std(0).clamp_min(0.1)
        goal = torch.arange(POSITIONS).double()
        trust = 1 / (goal[:, None] + 2)  # early positions matter more
        scaled = mean / scale
        gram = (trust * scaled).T @ scaled + 1e-6 * torch.eye(len(scale)).double()
        fit = torch.linalg.solve(gram, (trust * scaled).T @ goal) / scale
        return mean @ fit, fit[:-1], fit[-1]

    def _fit_positions(
        self, target: NemotronDecoderLayer, states: Tensor, normed: Tensor, line: Tensor, slope: Tensor, offset: Tensor
    ) -> None:
        """Neurons that begin at each position, and the least-squares readout that makes Whisper's positions of them."""
        step = (line[1:] - line[:-1]).clamp_min(0.4)
        before = line[:1] - step[:1] * torch.tensor([3.0, 2.0, 1.0])  # so that nothing needs a constant, which audio would get
        begin = torch.cat([before, (line[1:] + line[:-1]) / 2])
        step = torch.cat([step[:1].expand(3), step])
        steepness = [2.0, 4.0, 0.5][: self.shape.neurons // len(begin)]
        slopes, begins = torch.cat([each / step for each in steepness]), begin.repeat(len(steepness))
        count, up, down = len(begins), target.mlp.up_proj, target.mlp.down_proj
        up.weight[:count, self.width + COUNT : self.width + COUNT + len(COUNTERS)] = (slopes[:, None] * slope).float()
        up.bias[:count] = (slopes * (offset - begins)).float()
        for marker in (AUDIO, NULL):
            up.weight[:count, self.width + marker] = -200 * SILENT / self.mark
        wanted = torch.zeros(*states.shape[:2], self.hidden)
        wanted[..., : self.width] = (self.decoder.embed_positions.weight.double()[:POSITIONS] @ self.centre).float()
        counts = slice(self.width + COUNT, self.width + COUNT + len(COUNTERS))
        wanted[..., counts] = -states[..., counts]  # and the counts are removed
        a = target.mlp.act_fn(up(normed))[..., :count].flatten(0, 1).double()
        gram = a.T @ a + 1e-4 * torch.eye(count).double()  # or the readout grows large and cancels itself
        down.weight[:, :count] = torch.linalg.solve(gram, a.T @ wanted.flatten(0, 1).double()).T.float()
        pair(down.bias, self.width + TEXT, -TEXT_CARRIER)

    # Fresh heads and neurons ---------------------------------------------------------------------------------------

    def _add_fresh(self) -> None:
        """Random heads and neurons beside Whisper's that write next to nothing yet; half of those of a self layer read text."""
        generator = torch.Generator().manual_seed(5)
        draw = lambda *size: torch.randn(*size, generator=generator)  # noqa: E731
        width, rank = self.shape.width, self.shape.width - 2
        for number, layer in enumerate(self.layers):
            if number == 0:
                continue
            attn = layer.self_attn
            for head in range(self.heads - self.shape.fresh, self.heads):
                reads_audio = self.reads_audio(number, head)
                gain = self.raise_ if reads_audio else 1.0
                rows, scored = slice(head * width, (head + 1) * width), slice(head * width, head * width + rank)
                attn.q_proj.weight[scored, : self.width] = draw(rank, self.width) * 0.03
                attn.k_proj.weight[scored, : self.width] = draw(rank, self.width) * 0.03 * gain
                attn.v_proj.weight[rows, : self.width] = draw(width, self.width) * self.width**-0.5 * gain
                attn.o_proj.weight[: self.width, rows] = self.centre.float() @ draw(self.width, width) * 0.002
                self._mark_head(attn, head, reads_audio)
            used = self.used_neurons(number)
            up = layer.mlp.up_proj.weight[used:]
            up[:, : self.width] = draw(len(up), self.width) * self.width**-0.5
            self._silence(up)

    def reads_audio(self, number: int, head: int) -> bool:
        """Whether a head sees audio: all of a cross layer, and of a self layer every other fresh one; else it sees text."""
        return number % 2 == 0 or (head >= self.heads - self.shape.fresh and head % 2 == 0)

    def used_neurons(self, number: int) -> int:
        """How many of a layer's neurons are Whisper's."""
        if number % 2 == 0:
            return len(self.neurons_of(number // 2 - 1)[0])
        return len(self.neurons_of((number - 3) // 2)[1]) if number > 1 else 0

    @torch.no_grad()
    def project(self, states: Float[Tensor, "*position width"]) -> Float[Tensor, "*position hidden"]:
        """What the model's projector makes of encoder output: the state without its mean, the mean, and the audio's markers."""
        mean = states.mean(-1, keepdim=True)
        found = torch.zeros(*states.shape[:-1], self.hidden)
        found[..., : self.width] = states - mean
        pair(found, self.width + MEAN, mean[..., 0])
        pair(found, self.width + AUDIO, self.carrier / 2**0.5)
        pair(found, self.width + TEXT, TEXT_CARRIER)
        return found

    def projector(self) -> tuple[Float[Tensor, "hidden width"], Float[Tensor, " hidden"]]:
        """The same as a linear layer: weight and bias."""
        bias = self.project(torch.zeros(self.width))
        return (self.project(torch.eye(self.width)) - bias).T, bias


def _power(matrix: Float[Tensor, "n n"], exponent: float) -> Float[Tensor, "n n"]:
    """A symmetric positive matrix to a power."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.clamp_min(1e-9) ** exponent) @ vectors.T
