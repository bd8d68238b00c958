"""A model without the heads that a mask switches off: cut out of the weights, not multiplied by zero.

Each attention's query, key, value and output projections are sliced to the heads that are on; a layer without any skips its
attention and keeps nothing in the cache. All other weights are shared with the model that it was made from.
"""

import sys
from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ..errors import MaskError, ModelError
from .gating import PROJECTION, GatesLike, Geometry, HeadSite, as_gates
from .prompting import PromptedModel
from .source_hash import hash_source

PREFIX = "amask_"  # of the registered attentions in which each query head has any key and value head of its own
PICK = "kv_of_query"  # the buffer that says which
PARTS = {"q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "q_norm", "k_norm", "v_norm", "rotary_emb"}
"""What an attention may be made of to be cut; norms only of single heads."""
PRE_NORM = {"LlamaDecoderLayer", "NemotronDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer"}
"""Layers whose `input_layernorm` serves the attention alone, so that it goes with it."""

Model = TypeVar("Model", bound=PromptedModel)
Module = TypeVar("Module", bound=nn.Module)


def prune(model: Model, mask: GatesLike) -> Model:
    """A model that has the heads of a mask and no others; it runs that mask only, with the answers that gates give.

    Args:
        model: the whole model, which stays as it is.
        mask: of this model; or gates of exactly 0 and 1.

    Raises:
        MaskError: the mask belongs to another model.
        ModelError: the gates are not bits, do not fit the model or switch every head off; or the model cannot be pruned.
    """
    owner = getattr(mask, "identity", None)
    if owner is not None and not owner.same(model.identity):
        raise MaskError(f"the mask is for {owner}; this model is {model.identity}; give a mask of this model")
    bits = _bits(as_gates(mask), model.geometry)
    if model.kept_heads is not None:
        raise ModelError(f"{model.name} is pruned already; prune the model that it was made from")
    reason = prune_obstacle(model)
    if reason:
        raise ModelError(f"{model.name} cannot be pruned: {reason}; run the mask without pruning")
    pruned = copy(model)
    pruned.model = prune_decoder(model.model, model.sites, bits)
    pruned.sites = ()
    pruned.kept_heads = bits
    pruned.__dict__ |= {"fingerprint": model.fingerprint, "feature_source": hash_source(model)}
    return pruned


def prune_decoder(model: Module, sites: Sequence[HeadSite], bits: Bool[Tensor, "layer head"]) -> Module:
    """A transformers model with some of its heads only, which shares all other weights; what `prune` makes of a `LALM`'s.

    Args:
        model: with or without an audio encoder.
        sites: where its heads are.
        bits: which of them stay; at least one.
    """
    shared = [*model.parameters(), *model.buffers()]
    pruned = deepcopy(model, {id(tensor): tensor for tensor in shared})
    _cut(pruned, _attention_paths(model, sites), bits, [site.width for site in sites])
    return pruned


def _bits(gates: Tensor | None, geometry: Geometry) -> Bool[Tensor, "layer head"]:
    if gates is None or tuple(gates.shape) != geometry.shape:
        got = "none" if gates is None else f"some of shape {tuple(gates.shape)}"
        raise ModelError(f"cannot prune by these gates: got {got}; expected one number a head of {geometry}")
    gates, present = gates.detach().cpu().float(), geometry.present
    if not bool(((gates == 0) | (gates == 1))[present].all()):
        raise ModelError("cannot prune by gates between 0 and 1; expected exactly 0 (a head is off) or 1 (on)")
    bits = (gates == 1) & present
    if not bool(bits.any()):
        raise ModelError("cannot prune a model to no heads at all; give a mask with at least one head on")
    return bits


def prune_obstacle(model: PromptedModel) -> str:
    """Why a model's heads cannot be cut out; empty where they can."""
    for path, site in zip(_attention_paths(model.model, model.sites), model.sites, strict=True):
        attention = model.model.get_submodule(path)
        where = f"{path} ({type(attention).__name__})"
        parts = {name for name, _ in attention.named_children()}
        own = [name for name, _ in attention.named_parameters(recurse=False)]
        if not parts <= PARTS or own:
            return f"{where} has parts that amask does not know: {', '.join([*sorted(parts - PARTS), *own])}"
        linear = [_linear(attention, name) for name in ("q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj")]
        kinds = {type(module).__name__ for module in linear if module is not None and type(module) is not nn.Linear}
        if kinds:
            return f"{where} has projections of type {', '.join(sorted(kinds))}, not Linear (quantised, or with an adapter)"
        norms = [getattr(attention, name, None) for name in ("q_norm", "k_norm", "v_norm")]
        sizes = {len(weight) for norm in norms if (weight := getattr(norm, "weight", None)) is not None}
        if sizes - {_head_width(attention, site.width)}:
            return f"{where} normalises all heads together"
    return ""


def _attention_paths(model: nn.Module, sites: Sequence[HeadSite]) -> list[str]:
    """Where each site's attention is in the model, in the sites' order."""
    paths = {id(module): path for path, module in model.named_modules()}
    found = []
    for site in sites:
        path = paths[id(site.projection)]
        found.append(path[: f".{path}".rindex(f".{PROJECTION}") - 1] if f".{PROJECTION}" in f".{path}" else path)
    return found


def _linear(attention: nn.Module, name: str) -> Any:  # noqa: ANN401
    """A projection, also where a family wraps it."""
    found = getattr(attention, name, None)
    return getattr(found, "linear", found)


def _head_width(attention: Any, width: int) -> int:  # noqa: ANN401
    return int(getattr(attention, "head_dim", None) or width)


@torch.no_grad()
def _cut(model: nn.Module, places: list[str], bits: Bool[Tensor, "layer head"], widths: list[int]) -> None:
    attentions = [cast(Any, model.get_submodule(path)) for path in places]
    skipped: set[int] = set()
    for path, attention, row, width in zip(places, attentions, bits, widths, strict=True):
        on = row.nonzero()[:, 0].tolist()
        if not on and not getattr(attention, "store_full_length_kv", False):
            skipped.add(int(attention.layer_idx))
            _skip(model, path, attention)
        else:
            _slice(attention, on, width)
    picking = [attention for attention in attentions if hasattr(attention, PICK)]
    top = cast(Any, model)
    configs = [attention.config for attention in attentions]
    configs += [getattr(module, "config", None) for path, module in model.named_modules() if _holds(path, places)]
    configs.append(top.config.get_text_config(decoder=True))
    for config in {id(config): config for config in configs if config is not None}.values():
        if picking and getattr(config, "_attn_implementation", None):
            config._attn_implementation = _register(config._attn_implementation)
        if skipped and getattr(config, "num_hidden_layers", None):
            _without_cache(config, skipped)


def _holds(path: str, places: list[str]) -> bool:
    """Whether a module has all of some places below it."""
    return all(place.startswith(f"{path}." if path else "") for place in places)


def _slice(attention: Any, on: list[int], width: int) -> None:  # noqa: ANN401
    """Cut an attention to some of its heads; a layer whose keys others use keeps these, and one head that adds nothing."""
    shares = getattr(attention, "store_full_length_kv", False) or getattr(attention, "is_kv_shared_layer", False)
    head, output = _head_width(attention, width), _linear(attention, PROJECTION)
    heads = output.in_features // width
    group = int(attention.num_key_value_groups)
    used = sorted({at // group for at in on or [0]})
    groups = list(range(heads // group)) if shares else used
    if not on:
        output.weight = nn.Parameter(torch.zeros_like(output.weight), requires_grad=False)
        on = [0]
    fused = _linear(attention, "qkv_proj")
    if fused is not None:
        keys = heads * head
        values = keys + heads // group * head
        rows = [_units(on, head), keys + _units(groups, head), values + _units(groups, head)]
        _select(fused, torch.cat(rows), 0)
        attention.config = deepcopy(attention.config)
        attention.config.num_attention_heads, attention.config.num_key_value_heads = len(on), len(groups)
        attention.num_key_value_heads = len(groups)
    else:
        _select(_linear(attention, "q_proj"), _units(on, head), 0)
        if not shares:
            for name in ("k_proj", "v_proj"):
                if _linear(attention, name) is not None:
                    _select(_linear(attention, name), _units(groups, head), 0)
    _select(output, _units(on, width), 1)
    counts = {sum(at // group == each for at in on) for each in groups}
    if len(counts) == 1:  # as many query heads for each of key and value: transformers' own repetition is right
        attention.num_key_value_groups = counts.pop()
        return
    attention.num_key_value_groups = 1
    pick = torch.tensor([groups.index(at // group) for at in on], device=output.weight.device)
    attention.register_buffer(PICK, pick, persistent=False)


def _units(heads: list[int], width: int) -> Int[Tensor, " unit"]:
    return (torch.tensor(heads)[:, None] * width + torch.arange(width)).flatten()


def _select(linear: nn.Linear, units: Int[Tensor, " unit"], dim: int) -> None:
    """Keep some outputs (0) or inputs (1) of a linear layer, in weights of its own."""
    units = units.to(linear.weight.device)
    linear.weight = nn.Parameter(linear.weight.index_select(dim, units).contiguous(), requires_grad=False)
    if dim == 0 and linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias[units], requires_grad=False)
    linear.out_features, linear.in_features = linear.weight.shape


class NoAttention(nn.Module):
    """Stands where a layer's attention was: adds nothing but the output projection's bias, keeps no keys and values.

    Args:
        bias: the output projection's.
    """

    def __init__(self, bias: Tensor | None) -> None:
        super().__init__()
        self.bias = bias

    def forward(self, hidden_states: Float[Tensor, "row position width"], *_: object, **__: object) -> tuple[Tensor, None]:
        """What attention without heads adds."""
        added = hidden_states.new_zeros(()) if self.bias is None else self.bias
        return added.expand_as(hidden_states), None


def _skip(model: nn.Module, path: str, attention: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    layer = model.get_submodule(parent)
    bias = _linear(attention, PROJECTION).bias
    setattr(layer, name, NoAttention(bias))
    if type(layer).__name__ in PRE_NORM:
        layer.input_layernorm = nn.Identity()


def _without_cache(config: Any, skipped: set[int]) -> None:  # noqa: ANN401
    """Caches made for this configuration hold nothing for some layers; otherwise they would count positions by an empty one."""
    modes = list(getattr(config, "kv_sharing_modes", None) or [None] * config.num_hidden_layers)
    for at in skipped:
        modes[at] = "reuse"
    # In a class of its own, since some families compute the modes in a property.
    config.__class__ = type(type(config).__name__, (type(config),), {"kv_sharing_modes": modes})


def _register(implementation: str) -> str:
    """An attention as implemented there, but with a key and value head of its own for each query head."""
    if implementation.startswith(PREFIX):
        return implementation
    name = PREFIX + implementation
    if name not in ALL_ATTENTION_FUNCTIONS:

        def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **how: Any) -> Any:  # noqa: ANN401
            pick = getattr(module, PICK, None)
            if pick is not None:
                key, value = key[:, pick], value[:, pick]
            plain: Callable[..., Any] = sys.modules[type(module).__module__].__dict__["eager_attention_forward"]
            return ALL_ATTENTION_FUNCTIONS.get_interface(implementation, plain)(module, query, key, value, mask, **how)

        AttentionInterface.register(name, attend)
        AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[implementation])
    return name
