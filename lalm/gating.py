"""Head gates: scale each attention head's output by a number, on any transformers decoder, without touching weights.

For layer i with heads j, `MHA_i(X) = Σ_j m_ij · Y_ij · W_O_ij` (AHAMask, eq. 3). `Y_i` is the input of `o_proj`, so
scaling that input head by head is the same thing, and a pre-hook on `o_proj` is all it takes. The gates belong to the
call and not to the module, see `calls`: threads with different gates may use one model at the same time.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..errors import MaskError, ModelError
from .call_context import Arguments, changed_inputs


@dataclass(frozen=True)
class Geometry:
    """How many heads each masked layer has; layers may differ (hybrid models).

    Tensors over a ragged geometry are as wide as the widest layer; entries that are not `present` mean nothing.

    Attributes:
        heads: of each layer.
        fixed_layers: layers whose heads are always on, as a model declares: no mask may switch them and no figure counts them.
    """

    heads: tuple[int, ...]
    fixed_layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse fixed layers that are not there, and a model none of whose heads may be switched."""
        layers = tuple(sorted(set(self.fixed_layers)))
        if layers and not set(layers) < set(range(len(self.heads))):
            raise ModelError(f"fixed layers {list(self.fixed_layers)} do not fit {len(self.heads)} layers; name some, from 0")
        object.__setattr__(self, "fixed_layers", layers)

    @property
    def shape(self) -> tuple[int, int]:
        """(layers, heads of the widest layer)."""
        return len(self.heads), max(self.heads)

    @property
    def total(self) -> int:
        """All heads that a mask may switch."""
        return sum(self.heads[layer] for layer in range(len(self.heads)) if layer not in self.fixed_layers)

    @property
    def present(self) -> Bool[Tensor, "layer head"]:
        """True where a layer has a head."""
        return torch.arange(max(self.heads))[None] < torch.tensor(self.heads)[:, None]

    @property
    def fixed(self) -> Bool[Tensor, "layer head"]:
        """True for the heads of fixed layers."""
        return self.present & torch.tensor([layer in self.fixed_layers for layer in range(len(self.heads))])[:, None]

    @property
    def switchable(self) -> Bool[Tensor, "layer head"]:
        """True for the heads that a mask may switch."""
        return self.present & ~self.fixed

    def allowed(self, bits: Bool[Tensor, "*any layer head"]) -> Bool[Tensor, "*any layer head"]:
        """The bits that a mask may have: off for heads that a layer does not have, on in fixed layers."""
        return bits & self.present.to(bits.device) | self.fixed.to(bits.device)

    def __str__(self) -> str:
        """`40×40`, or `40×16–32` where layers differ; `10×20 (layer 0 fixed)`."""
        fewest, most = min(self.heads), max(self.heads)
        shape = f"{len(self.heads)}×{most}" if fewest == most else f"{len(self.heads)}×{fewest}–{most}"
        if not self.fixed_layers:
            return shape
        return f"{shape} (layer{'s' * (len(self.fixed_layers) > 1)} {', '.join(map(str, self.fixed_layers))} fixed)"


@dataclass(frozen=True)
class HeadSite:
    """Where one layer's heads come together.

    Attributes:
        projection: the layer's output projection.
        heads: how many heads enter it.
        width: numbers that each of them puts into it.
    """

    projection: nn.Module
    heads: int
    width: int


PROJECTION = "o_proj"


def find_sites(model: nn.Module, projection: str = PROJECTION, heads: int | None = None) -> tuple[HeadSite, ...]:
    """Where the heads of a transformers model are, first layer first: its decoder's attention output projections.

    A head's width is the projection's inputs over *that layer's* number of heads; hidden size over heads, or a global
    `head_dim`, is wrong for several models.

    Args:
        model: a decoder, or a model that has one (`get_decoder()`), with or without an audio encoder.
        projection: the end of the projections' names: `o_proj` for most models, `attn.c_proj` for GPT-2,
            `self_attn.out_proj` for OPT, `self_attention.dense` for Bloom and Falcon.
        heads: heads a layer, where the attention modules do not say.

    Raises:
        ModelError: there is no such projection, or a layer's number of heads cannot be found.

    Example:
        >>> from transformers import GPT2Config, GPT2Model
        >>> decoder = GPT2Model(GPT2Config(n_layer=2, n_embd=24, n_head=3, vocab_size=100))
        >>> [(site.heads, site.width) for site in amask.find_sites(decoder, projection="attn.c_proj")]
        [(3, 8), (3, 8)]
    """
    get_decoder: Any = getattr(model, "get_decoder", None)
    decoder: nn.Module = get_decoder() if get_decoder else model
    modules: dict[str, Any] = dict(decoder.named_modules())
    sites = []
    for path, module in modules.items():
        if not f".{path}".endswith(f".{projection}"):
            continue
        attention = modules[path.rpartition(".")[0]]
        module = getattr(module, "linear", module)  # some families wrap it
        count, inputs = heads or _heads(attention), _inputs(module)
        if not count or not inputs or inputs % count:
            raise ModelError(
                f"cannot tell how many heads enter {path} ({inputs} wide; found {count}); "
                "say it by find_sites(model, projection=..., heads=...)"
            )
        sites.append(HeadSite(module, count, inputs // count))
    if not sites:
        raise ModelError(
            f"{type(decoder).__name__} has no attention output projection called {projection}; heads cannot be masked; "
            f"name it by find_sites(model, projection=...), one of {_candidates(modules)}"
        )
    return tuple(sites)


def _heads(attention: nn.Module) -> int | None:
    """How many heads an attention module has."""
    for holder in (attention, getattr(attention, "config", None)):
        for name in ("num_heads", "num_attention_heads", "n_heads", "n_head"):
            found = getattr(holder, name, None)
            if found:
                return int(found)
    return None


def _inputs(module: Any) -> int | None:  # noqa: ANN401
    """Inputs of a linear layer, also of transformers' `Conv1D`."""
    return getattr(module, "in_features", None) or getattr(module, "nx", None)


def _candidates(modules: dict[str, Any]) -> str:
    """Names of the linear layers in a decoder's layers, which differ between layers by a number only."""
    linear = [path.split(".") for path, module in modules.items() if _inputs(module)]
    names = {".".join(steps[-2:]) for steps in linear if len(steps) > 1 and not steps[-2].isdigit()}
    return ", ".join(sorted(names)) or "none"


class _Scaling:
    """Scales the heads in the input of a projection, (row, time, heads · width).

    Decoding calls it for each token, so a gate is fitted to the states once and kept; not where gradients are wanted.
    """

    def __init__(self, gate: Float[Tensor, " head"] | Float[Tensor, "row head"], width: int) -> None:
        self.gate, self.width = gate, width
        self.fitted: tuple[tuple[object, ...], Tensor] | None = None

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        states = args[0]
        how = (states.dtype, states.device, states.shape[0])
        fitted = self.fitted
        if fitted is None or fitted[0] != how or self.gate.requires_grad:
            self.fitted = fitted = how, self._fit(states)
        return (states * fitted[1], *args[1:]), kwargs

    def _fit(self, states: Tensor) -> Tensor:
        gate = self.gate.to(states).repeat_interleave(self.width, -1)
        if gate.dim() == 1:
            return gate
        rows = states.shape[0]
        if states.dim() != 3 or rows % len(gate):
            raise ModelError(f"gates for {len(gate)} rows do not fit attention over {tuple(states.shape)}")
        return gate.repeat_interleave(rows // len(gate), dim=0)[:, None]  # beams of a row lie side by side


@runtime_checkable
class HasGates(Protocol):
    """What has gates, such as a `HeadMask`."""

    @property
    def gates(self) -> Float[Tensor, "layer head"]:
        """1.0 where a head is on, 0.0 where it is off."""


GatesLike = Tensor | np.ndarray | Sequence | HasGates | None
"""Gates as users have them: one number a head, for all rows or for each, or a mask."""


def as_gates(given: object) -> Float[Tensor, "layer head"] | Float[Tensor, "row layer head"] | None:
    """Gates as a tensor, from what users have.

    Raises:
        ModelError: it is no such thing, has other dimensions, or has numbers that are not finite.
    """
    if given is None:
        return None
    gates = given.gates if not isinstance(given, Tensor) and isinstance(given, HasGates) else given
    try:
        found = gates if isinstance(gates, Tensor) else torch.as_tensor(np.asarray(gates, np.float32))
    except (TypeError, ValueError):
        raise ModelError(f"cannot gate by {type(given).__name__}; give a mask, or gates as numbers, (layer, head)") from None
    if found.dim() not in (2, 3):
        raise ModelError(f"gates have {found.dim()} dimensions; expected (layer, head), or (row, layer, head)")
    if not found.is_meta and not bool(torch.isfinite(found).all()):
        raise ModelError("gates are not finite; expected numbers between 0 (a head is off) and 1 (on)")
    return found if found.is_floating_point() else found.float()


@runtime_checkable
class HasSites(Protocol):
    """What knows where its heads are, such as a `LALM`."""

    sites: Sequence[HeadSite]


def gated(
    model: nn.Module | HasSites | Sequence[HeadSite],
    gates: GatesLike,
) -> AbstractContextManager[None]:
    """Within this context a decoder's heads are scaled by the gates, in the passes of the thread that entered it.

    Gradients reach the gates. Cached decoding and left padding need no care, since a gate holds for all positions;
    under beam search each row's gates serve all its beams. Nested contexts multiply. A thread that is started within,
    such as one that generates for a streamer, begins without gates: enter the context in that thread.

    Args:
        model: a transformers model or decoder with projections called `o_proj`, a `LALM`, or sites from `find_sites`.
        gates: a mask; or one number a head, for all rows or for each row of the batch; None gates nothing.

    Raises:
        ModelError: the gates do not fit the sites, or the model's heads are not found.

    Example:
        >>> import torch
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
        >>> decoder = LlamaForCausalLM(LlamaConfig(vocab_size=100, **sizes)).eval()
        >>> ids = torch.tensor([[1, 2, 3]])
        >>> with torch.no_grad(), amask.gated(decoder, torch.ones(2, 4)):
        ...     masked = decoder(ids).logits
        >>> torch.equal(masked, decoder(ids).logits)
        True
    """
    owner, given = getattr(gates, "identity", None), gates
    gates = as_gates(given)
    if gates is None:
        return nullcontext()
    mine = getattr(model, "identity", None)
    if owner is not None and mine is not None and not owner.same(mine):
        raise MaskError(f"the mask is for {owner}; this model is {mine}; give a mask of this model")
    if isinstance(model, nn.Module):
        sites: Sequence[HeadSite] = find_sites(model)
    else:
        sites = model if isinstance(model, Sequence) else model.sites
    if not sites:
        raise ModelError("this model is pruned: its heads are cut out and cannot be gated; use the model that it was made from")
    geometry = Geometry(tuple(site.heads for site in sites))
    if gates.dim() not in (2, 3) or tuple(gates.shape[-2:]) != geometry.shape:
        raise ModelError(f"gates of shape {tuple(gates.shape)} do not fit a model of {geometry} (layers × heads)")
    rows = gates.unbind(-2)
    scalings = [_Scaling(row[..., : site.heads], site.width) for row, site in zip(rows, sites, strict=True)]
    return changed_inputs({site.projection: scaling for site, scaling in zip(sites, scalings, strict=True)})
