"""What a mask belongs to: one model's heads, weights and text around the audio, under the name that users give it."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from .gating import Geometry


@dataclass(frozen=True)
class Identity:
    """Which model it is; masks of different identities never mix.

    Attributes:
        geometry: heads per masked layer.
        fingerprint: hash of architecture, weights and the text around the audio; see `LALM.fingerprint`.
        name: how users call the model, for messages only: two names of one model are the same model.
    """

    geometry: Geometry
    fingerprint: str
    name: str

    def same(self, other: "Identity") -> bool:
        """Whether both are one model, whatever they are called."""
        return self.fingerprint == other.fingerprint and self.geometry == other.geometry

    def __str__(self) -> str:
        """`pocket (8×64 heads, 0123456789abcdef)`."""
        return f"{self.name} ({self.geometry} heads, {self.fingerprint})"


@runtime_checkable
class Identified(Protocol):
    """What belongs to one model: a loaded `LALM`, a `HeadMask`."""

    @property
    def identity(self) -> Identity:
        """The model's."""


def identity_of(model: Identity | Identified) -> Identity:
    """An identity, given itself or by what has one."""
    return model if isinstance(model, Identity) else model.identity
