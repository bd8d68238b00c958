"""Head gates: scale each attention head's output by a number, on any transformers decoder, without touching weights.

For layer i with heads j, `MHA_i(X) = Σ_j m_ij · Y_ij · W_O_ij` (AHAMask, eq. 3). `Y_i` is the input of `o_proj`, so
scaling that input head by head is the same thing, and a pre-hook on `o_proj` is all it takes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..errors import ModelError


@dataclass(frozen=True)
class Geometry:
    """How many heads each masked layer has; layers may differ (hybrid models).

    Tensors over a ragged geometry are as wide as the widest layer; entries that are not `present` mean nothing.
    """

    heads: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(layers, heads of the widest layer)."""
        return len(self.heads), max(self.heads)

    @property
    def total(self) -> int:
        """All heads."""
        return sum(self.heads)

    @property
    def present(self) -> Bool[Tensor, "layer head"]:
        """True where a layer has a head."""
        return torch.arange(max(self.heads))[None] < torch.tensor(self.heads)[:, None]

    def __str__(self) -> str:
        """`40×40`, or `32, 16, 32 heads` where layers differ."""
        if len(set(self.heads)) == 1:
            return f"{len(self.heads)}×{self.heads[0]}"
        return ", ".join(map(str, self.heads)) + " heads"


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


def find_sites(decoder: nn.Module) -> tuple[HeadSite, ...]:
    """The sites of a transformers decoder, first layer first: each descendant called `o_proj`.

    A head's width is `o_proj.in_features` over *that layer's* number of heads; hidden size over heads, or a global
    `head_dim`, is wrong for several models.

    Raises:
        ModelError: there is none, or a layer's number of heads cannot be found.
    """
    modules: dict[str, Any] = dict(decoder.named_modules())
    sites = []
    for path, module in modules.items():
        parent_path, _, name = path.rpartition(".")
        if name != "o_proj":
            continue
        attention = modules[parent_path]
        module = getattr(module, "linear", module)  # some families wrap it
        heads = getattr(attention, "num_heads", None) or getattr(attention, "num_attention_heads", None)
        heads = heads or getattr(getattr(attention, "config", None), "num_attention_heads", None)
        if not heads or module.in_features % heads:
            raise ModelError(f"cannot tell how many heads enter {path} ({module.in_features} wide; found {heads})")
        sites.append(HeadSite(module, heads, module.in_features // heads))
    if not sites:
        raise ModelError(f"{type(decoder).__name__} has no attention output projection called o_proj; heads cannot be masked")
    return tuple(sites)


class _Scaling:
    """A pre-hook that scales the heads in the input of `o_proj`, (row, time, heads · width).

    Decoding calls it for each token, so a gate is fitted to the states once and kept; not where gradients are wanted.
    """

    def __init__(self, gate: Float[Tensor, " head"] | Float[Tensor, "row head"], width: int) -> None:
        self.gate, self.width = gate, width
        self.fitting: tuple[object, ...] | None = None

    def __call__(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        states = inputs[0]
        fitting = (states.dtype, states.device, states.shape[0])
        if fitting != self.fitting or self.gate.requires_grad:
            self.ready, self.fitting = self._fit(states), fitting
        return (states * self.ready, *inputs[1:])

    def _fit(self, states: Tensor) -> Tensor:
        gate = self.gate.to(states).repeat_interleave(self.width, -1)
        if gate.dim() == 1:
            return gate
        rows = states.shape[0]
        if states.dim() != 3 or rows % len(gate):
            raise ModelError(f"gates for {len(gate)} rows do not fit attention over {tuple(states.shape)}")
        return gate.repeat_interleave(rows // len(gate), dim=0)[:, None]  # beams of a row lie side by side


@contextmanager
def gated(
    sites: Sequence[HeadSite], gates: Float[Tensor, "layer head"] | Float[Tensor, "row layer head"] | None
) -> Iterator[None]:
    """Within this context the decoder's heads are scaled by the gates; afterwards, also after an error, they are not.

    Gradients reach the gates. Cached decoding and left padding need no care, since a gate holds for all positions;
    under beam search each row's gates serve all its beams.

    Args:
        sites: the decoder's sites, in the order of the gates' layers.
        gates: one number a head for all rows, or for each row of the batch; None gates nothing.

    Raises:
        ModelError: the gates do not fit the sites.
    """
    if gates is None:
        yield
        return
    widest = max(site.heads for site in sites)
    if gates.dim() not in (2, 3) or tuple(gates.shape[-2:]) != (len(sites), widest):
        geometry = Geometry(tuple(site.heads for site in sites))
        raise ModelError(f"gates of shape {tuple(gates.shape)} do not fit a model of {geometry} (layers × heads)")
    hooks = []
    try:
        for layer, site in enumerate(sites):
            scaling = _Scaling(gates[..., layer, : site.heads], site.width)
            hooks.append(site.projection.register_forward_pre_hook(scaling))
        yield
    finally:
        for handle in hooks:
            handle.remove()
