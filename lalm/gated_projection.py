"""Gates that are part of a model's graph, so that `torch.compile` traces them: for training, and for serving one mask.

`gated` keeps gates in a context variable, which breaks a compiled graph at every layer. Here each output projection is
replaced by a module that holds its gate as a buffer. That gate is then the model's, not the call's: one caller at a time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import ModelError
from .call_context import forget
from .gating import GatesLike, Geometry, HeadSite, as_gates


class GatedProjection(nn.Module):
    """An output projection with a gate before it.

    Args:
        site: the projection and its heads.

    Attributes:
        gate: what each input is multiplied by, for all rows or for each; may carry gradients.
    """

    gate: Tensor

    def __init__(self, site: HeadSite) -> None:
        super().__init__()
        self.projection, self.heads, self.width = site.projection, site.heads, site.width
        like: Any = next(site.projection.parameters())
        self.register_buffer("gate", torch.ones(site.heads * site.width, dtype=like.dtype, device=like.device), persistent=False)

    def set(self, gate: Float[Tensor, " head"] | Float[Tensor, "row head"]) -> None:
        """Give it another gate."""
        units = gate[..., : self.heads].to(self.gate).repeat_interleave(self.width, -1)
        self.gate = units if units.dim() == 1 else units[:, None]

    @no_type_check  # a decorator that checks shapes could not be traced
    def forward(self, states: Float[Tensor, "row position unit"]) -> Float[Tensor, "row position width"]:
        """The projection of the gated states."""
        return self.projection(states * self.gate)


class TraceableGates:
    """The gates of a model within `traceable_gates`.

    Args:
        projections: of each layer.
    """

    def __init__(self, projections: list[GatedProjection]) -> None:
        self._projections = projections
        self._geometry = Geometry(tuple(projection.heads for projection in projections))

    def set(self, gates: GatesLike) -> None:
        """Use these from now on, in all passes; None for all heads.

        Raises:
            ModelError: they do not fit the model.
        """
        found = torch.ones(self._geometry.shape) if gates is None else cast(Tensor, as_gates(gates))
        if tuple(found.shape[-2:]) != self._geometry.shape:
            raise ModelError(f"gates of shape {tuple(found.shape)} do not fit a model of {self._geometry} (layers × heads)")
        for projection, row in zip(self._projections, found.unbind(-2), strict=True):
            projection.set(row)


@contextmanager
def traceable_gates(model: nn.Module, sites: tuple[HeadSite, ...]) -> Iterator[TraceableGates]:
    """Within this context a model's output projections are modules with gates; compile the model within.

    Args:
        model: the model that the sites are in.
        sites: where its heads are, as `find_sites` gives them.

    Yields:
        What sets the gates; all are 1 at first.
    """
    paths = {id(module): path for path, module in model.named_modules()}
    projections = [GatedProjection(site) for site in sites]
    forget(site.projection for site in sites)
    for site, projection in zip(sites, projections, strict=True):
        model.set_submodule(paths[id(site.projection)], projection)
    try:
        yield TraceableGates(projections)
    finally:
        for site in sites:
            model.set_submodule(paths[id(site.projection)], site.projection)
