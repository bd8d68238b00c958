"""BEATs (Chen et al. 2022), the encoder of SALMONN for sounds that are not speech.

Modules are called as in the released checkpoints, so that their tensors load by name.
"""

import math
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError
from torch import Tensor, nn
from torch.nn import functional

from ...errors import ModelError
from .fbank import BINS
from .files import fill, read_tensors

ADVICE = "take BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt of BEATs' authors"


class BeatsSettings(BaseModel):
    """What a checkpoint says about its structure; what is fixed here is so in all released ones."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    encoder_layers: PositiveInt
    encoder_embed_dim: PositiveInt
    encoder_ffn_embed_dim: PositiveInt
    encoder_attention_heads: PositiveInt
    embed_dim: PositiveInt
    input_patch_size: PositiveInt
    conv_pos: PositiveInt
    conv_pos_groups: PositiveInt
    num_buckets: PositiveInt
    max_distance: PositiveInt
    conv_bias: bool = False
    activation_fn: Literal["gelu"]
    layer_norm_first: Literal[False]
    deep_norm: Literal[True]
    gru_rel_pos: Literal[True]
    relative_position_embedding: Literal[True]

    @property
    def head_width(self) -> int:
        """Numbers of a head."""
        return self.encoder_embed_dim // self.encoder_attention_heads


def bucket(distance: Int[Tensor, "query key"], buckets: int, furthest: int) -> Int[Tensor, "query key"]:
    """Number the distances from query to key: T5's relative positions (Raffel et al. 2020), both directions.

    Half of the buckets serve each sign; half of those one distance each, the others longer ones on a logarithmic scale.
    """
    half, exact = buckets // 2, buckets // 4
    near = distance.abs()
    scale = math.log(furthest / exact)
    far = exact + (torch.log(near.clamp(min=1).float() / exact) / scale * (half - exact)).long()
    return torch.where(near < exact, near, far.clamp(max=half - 1)) + half * (distance > 0)


class _Attention(nn.Module):
    """Self-attention whose scores have a position bias, gated by the query (BEATs' `gru_rel_pos`)."""

    def __init__(self, settings: BeatsSettings) -> None:
        super().__init__()
        width, self.heads = settings.encoder_embed_dim, settings.encoder_attention_heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))
        self.grep_linear = nn.Linear(settings.head_width, 8)
        self.grep_a = nn.Parameter(torch.ones(1, self.heads, 1, 1))

    def forward(
        self, states: Float[Tensor, "row time width"], bias: Float[Tensor, "head time time"], padding: Bool[Tensor, "row time"]
    ) -> Float[Tensor, "row time width"]:
        projections = (self.q_proj, self.k_proj, self.v_proj)
        query, key, value = (project(states).unflatten(2, (self.heads, -1)).transpose(1, 2) for project in projections)
        first, second = self.grep_linear(query).unflatten(-1, (2, 4)).sum(-1).sigmoid().split(1, dim=-1)
        gate = first * (second * self.grep_a - 1) + 2
        scores = (gate * bias).masked_fill(padding[:, None, None], -math.inf)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=scores)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class _Layer(nn.Module):
    """A transformer layer with norms behind and DeepNorm's residual weight (Wang et al. 2022)."""

    def __init__(self, settings: BeatsSettings) -> None:
        super().__init__()
        width, inner = settings.encoder_embed_dim, settings.encoder_ffn_embed_dim
        self.self_attn = _Attention(settings)
        self.self_attn_layer_norm, self.final_layer_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.residual = (2 * settings.encoder_layers) ** 0.25

    def forward(
        self, states: Float[Tensor, "row time width"], bias: Float[Tensor, "head time time"], padding: Bool[Tensor, "row time"]
    ) -> Float[Tensor, "row time width"]:
        states = self.self_attn_layer_norm(self.residual * states + self.self_attn(states, bias, padding))
        return self.final_layer_norm(self.residual * states + self.fc2(functional.gelu(self.fc1(states))))


class _PositionalConvolution(nn.Module):
    """A grouped convolution along time that tells where each patch stands; each tap's weights have a size of their own."""

    def __init__(self, settings: BeatsSettings) -> None:
        super().__init__()
        width, self.taps, self.groups = settings.encoder_embed_dim, settings.conv_pos, settings.conv_pos_groups
        self.weight_g = nn.Parameter(torch.ones(1, 1, self.taps))
        self.weight_v = nn.Parameter(torch.ones(width, width // self.groups, self.taps))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, states: Float[Tensor, "row width time"]) -> Float[Tensor, "row width time"]:
        weight = self.weight_g * self.weight_v / self.weight_v.norm(dim=(0, 1), keepdim=True)
        mixed = functional.conv1d(states, weight, self.bias, padding=self.taps // 2, groups=self.groups)
        return functional.gelu(mixed[..., : states.shape[-1]])


class _Encoder(nn.Module):
    def __init__(self, settings: BeatsSettings) -> None:
        super().__init__()
        self.settings = settings
        self.pos_conv = nn.Sequential(_PositionalConvolution(settings))
        self.layer_norm = nn.LayerNorm(settings.encoder_embed_dim)
        self.layers = nn.ModuleList(_Layer(settings) for _ in range(settings.encoder_layers))
        # One table for all layers; checkpoints list it in each of them.
        table = nn.Embedding(settings.num_buckets, settings.encoder_attention_heads)
        self.layers[0].get_submodule("self_attn").add_module("relative_attention_bias", table)

    def forward(
        self, states: Float[Tensor, "row time width"], padding: Bool[Tensor, "row time"]
    ) -> Float[Tensor, "row time width"]:
        states = states.masked_fill(padding[..., None], 0)
        states = self.layer_norm(states + self.pos_conv(states.transpose(1, 2)).transpose(1, 2))
        at = torch.arange(states.shape[1], device=states.device)
        buckets = bucket(at[None] - at[:, None], self.settings.num_buckets, self.settings.max_distance)
        bias = self.layers[0].get_submodule("self_attn.relative_attention_bias")(buckets).permute(2, 0, 1)
        for layer in self.layers:
            states = layer(states, bias, padding)
        return states


class Beats(nn.Module):
    """BEATs without its classifier: filter banks in, one vector a patch out."""

    def __init__(self, settings: BeatsSettings) -> None:
        super().__init__()
        self.settings = settings
        patch, narrow, width = settings.input_patch_size, settings.embed_dim, settings.encoder_embed_dim
        self.patch_embedding = nn.Conv2d(1, narrow, patch, stride=patch, bias=settings.conv_bias)
        self.layer_norm = nn.LayerNorm(narrow)
        self.post_extract_proj = nn.Linear(narrow, width) if narrow != width else nn.Identity()
        self.encoder = _Encoder(settings)

    def forward(
        self, fbanks: Float[Tensor, "row frame bin"], padding: Bool[Tensor, "row patch"]
    ) -> Float[Tensor, "row patch width"]:
        """Encode; values at patches that are padding mean nothing, and no other patch depends on them.

        Args:
            fbanks: as `fbank.fbank` makes them.
            padding: True where a patch is padding; patches run over the bins first, then over time.
        """
        patches = self.patch_embedding(fbanks[:, None]).flatten(2).transpose(1, 2)
        return self.encoder(self.post_extract_proj(self.layer_norm(patches)), padding)


def read_beats(path: Path) -> Beats:
    """BEATs from a released checkpoint, `{"cfg": settings, "model": tensors}`.

    Raises:
        ModelError: the file is missing, damaged or of another structure.
    """
    content = read_tensors(path)
    try:
        settings = BeatsSettings.model_validate(content.get("cfg"))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(["cfg", *map(str, first["loc"])])
        raise ModelError(f"{path} is no BEATs checkpoint that amask knows: {place}: {first['msg']}; {ADVICE}") from None
    if BINS % settings.input_patch_size:
        raise ModelError(f"{path} has patches of {settings.input_patch_size} bins, which do not divide {BINS}; {ADVICE}")
    model = Beats(settings)
    fill(model, content["model"], path)
    return model
