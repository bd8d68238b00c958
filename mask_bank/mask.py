"""`HeadMask`: which attention heads of one model are on for a task, and how that came to be."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import MaskError
from ..lalm.gating import Geometry


@dataclass(frozen=True, eq=False)
class HeadMask:
    """A binary mask over the heads of one model.

    Attributes:
        bits: True where a head is on.
        geometry: heads per masked layer; bits of heads that a layer does not have are False.
        fingerprint: of the model that the mask belongs to; masks of different fingerprints never mix.
        model: that model's name, for messages.
        task: what the mask triggers; empty for what has no task of its own, such as `NOT gr`.
        logits: the numbers before the threshold, where the mask was trained: on is `logits >= 0`.
        lineage: how it came to be: trained with which recipe, data and seed, or composed of which parents.
        scores: metric → value, on dev data.
    """

    bits: Bool[Tensor, "layer head"]
    geometry: Geometry
    fingerprint: str
    model: str
    task: str = ""
    logits: Float[Tensor, "layer head"] | None = None
    lineage: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that shapes, bits and logits agree."""
        for name, tensor in (("bits", self.bits), ("logits", self.logits)):
            if tensor is not None and tuple(tensor.shape) != self.geometry.shape:
                raise MaskError(f"mask {name} have shape {tuple(tensor.shape)}, expected {self.geometry.shape}")
        if self.logits is not None and not bool(torch.isfinite(self.logits[self.geometry.present]).all()):
            raise MaskError("mask logits must be finite")
        if self.logits is not None and not torch.equal(self.bits, threshold(self.logits, self.geometry)):
            raise MaskError("mask bits do not agree with its logits (on is logit >= 0)")
        if bool((self.bits & ~self.geometry.present).any()):
            raise MaskError("mask bits are on for heads that the geometry does not have")
        object.__setattr__(self, "lineage", MappingProxyType(dict(self.lineage)))
        object.__setattr__(self, "scores", MappingProxyType(dict(self.scores)))

    @classmethod
    def from_logits(cls, logits: Float[Tensor, "layer head"], geometry: Geometry, **about: Any) -> "HeadMask":  # noqa: ANN401
        """The mask of some logits: a head is on where its logit is at least 0 (sigmoid at least 0.5)."""
        logits = logits.detach().float().cpu()
        return cls(bits=threshold(logits, geometry), geometry=geometry, logits=logits, **about)

    @property
    def heads_on(self) -> int:
        """Number of heads that are on."""
        return int(self.bits.sum())

    @property
    def heads_total(self) -> int:
        """Number of heads that the model has."""
        return self.geometry.total

    @property
    def gates(self) -> Float[Tensor, "layer head"]:
        """1.0 where a head is on, 0.0 where it is off."""
        return self.bits.float()

    def with_(self, **changes: Any) -> "HeadMask":  # noqa: ANN401
        """A copy with some attributes changed."""
        return replace(self, **changes)

    def require(self, geometry: Geometry, fingerprint: str, model: str, name: str = "") -> None:
        """Refuse another model than the mask's own.

        Raises:
            MaskError: naming both models and their geometries.
        """
        if self.fingerprint != fingerprint or self.geometry != geometry:
            raise MaskError(
                f"mask {name or self.task or 'given'!r} is for {self.model} ({self.geometry} heads, {self.fingerprint}); "
                f"this model is {model} ({geometry} heads, {fingerprint}); see 'amask bank list'"
            )

    def _combine(self, other: "HeadMask", combine: Callable[[Tensor, Tensor], Tensor], operation: str) -> "HeadMask":
        other.require(self.geometry, self.fingerprint, self.model)
        parents = [dict(self.lineage) or {"task": self.task}, dict(other.lineage) or {"task": other.task}]
        lineage = {"operation": operation, "parents": parents}
        return replace(self, bits=combine(self.bits, other.bits), logits=None, task="", lineage=lineage, scores={})

    def __and__(self, other: "HeadMask") -> "HeadMask":
        """Heads that are on in both."""
        return self._combine(other, operator.and_, "and")

    def __or__(self, other: "HeadMask") -> "HeadMask":
        """Heads that are on in one or both."""
        return self._combine(other, operator.or_, "or")

    def __xor__(self, other: "HeadMask") -> "HeadMask":
        """Heads that are on in exactly one."""
        return self._combine(other, operator.xor, "xor")

    def __sub__(self, other: "HeadMask") -> "HeadMask":
        """Heads that are on in this mask but not in the other."""
        return self._combine(other, lambda mine, theirs: mine & ~theirs, "minus")

    def __invert__(self) -> "HeadMask":
        """Heads that are off."""
        lineage = {"operation": "not", "parents": [dict(self.lineage) or {"task": self.task}]}
        return replace(self, bits=~self.bits & self.geometry.present, logits=None, task="", lineage=lineage, scores={})

    def jaccard(self, other: "HeadMask") -> float:
        """|both on| / |either on|; 1.0 for two empty masks."""
        other.require(self.geometry, self.fingerprint, self.model)
        either = int((self.bits | other.bits).sum())
        return int((self.bits & other.bits).sum()) / either if either else 1.0


def threshold(logits: Float[Tensor, "layer head"], geometry: Geometry) -> Bool[Tensor, "layer head"]:
    """On where the logit is at least 0; never for heads that a layer does not have."""
    return (logits >= 0) & geometry.present.to(logits.device)
