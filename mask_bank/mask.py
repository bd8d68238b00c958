"""`HeadMask`: which attention heads of one model are on for a task, and how that came to be."""

import hashlib
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..data.tasks import TaskSpec
from ..errors import MaskError
from ..lalm.gating import Geometry
from ..lalm.identity import Identified, Identity, identity_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..lalm.base import LALM
    from .files import StoredMask

RECORD = "composite"  # where a lineage keeps how a composite's mask was found


@dataclass(frozen=True, eq=False, repr=False)
class HeadMask:
    """A binary mask over the heads of one model.

    Attributes:
        bits: True where a head is on; False for heads that a layer of the model does not have, True in its fixed layers.
        identity: the model that the mask belongs to; masks of different models never mix.
        task: what the mask triggers, with its definition; None for what has no task of its own, such as `NOT gr`.
        logits: the numbers before the threshold, where the mask was trained: on is `logits >= 0`.
        lineage: how it came to be: trained with which recipe, data and seed, or composed of which parents. "dev_data" is
            the hash of the dev clips and their labels that the scores were taken on.
        scores: on dev data. "dev" is a figure of merit that ranks masks of one task on the same dev clips: the task's headline
            metric in percent, negative where lower values are better.

    Example:
        >>> bank, model = amask.MaskBank.default(), amask.load_model("pocket")
        >>> gr, asr = bank.get("gr", model), bank.get("asr", model)
        >>> (gr & asr).heads_on + (gr - asr).heads_on == gr.heads_on
        True
        >>> (~gr).heads_on + gr.heads_on
        144
    """

    bits: Bool[Tensor, "layer head"]
    identity: Identity
    task: TaskSpec | None = None
    logits: Float[Tensor, "layer head"] | None = None
    lineage: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that shapes, bits and logits agree."""
        if self.bits.dtype != torch.bool:
            raise MaskError(f"mask bits are {self.bits.dtype}, expected torch.bool: a head is on or off; give bits >= 0.5")
        for name, tensor in (("bits", self.bits), ("logits", self.logits)):
            if tensor is not None and tuple(tensor.shape) != self.geometry.shape:
                raise MaskError(f"mask {name} have shape {tuple(tensor.shape)}, expected {self.geometry.shape}")
        if self.logits is not None and not bool(torch.isfinite(self.logits[self.geometry.present]).all()):
            raise MaskError("mask logits must be finite")
        if self.logits is not None and not torch.equal(self.bits, threshold(self.logits, self.geometry)):
            raise MaskError("mask bits do not agree with its logits (on is logit >= 0)")
        if bool((self.bits & ~self.geometry.present).any()):
            raise MaskError("mask bits are on for heads that the geometry does not have")
        if bool((~self.bits & self.geometry.fixed).any()):
            fixed = ", ".join(map(str, self.geometry.fixed_layers))
            raise MaskError(f"mask bits are off in layer {fixed}, which this model keeps on; give geometry.allowed(bits)")
        object.__setattr__(self, "lineage", MappingProxyType(dict(self.lineage)))
        object.__setattr__(self, "scores", MappingProxyType(dict(self.scores)))

    @classmethod
    def from_logits(cls, logits: Float[Tensor, "layer head"], identity: Identity, **about: Any) -> "HeadMask":  # noqa: ANN401
        """The mask of some logits: a head is on where its logit is at least 0 (sigmoid at least 0.5)."""
        logits = logits.detach().float().cpu()
        return cls(bits=threshold(logits, identity.geometry), identity=identity, logits=logits, **about)

    def __repr__(self) -> str:
        """`HeadMask('gr', 8×64, 113 of 512 heads on, pocket)`."""
        on = f"{self.heads_on} of {self.heads_total} heads on"
        return f"{type(self).__name__}({self.called!r}, {self.geometry}, {on}, {self.identity.name})"

    def __eq__(self, other: object) -> bool:
        """Whether both have the same content: bits, logits, model and task; not where they are kept or how they came to be."""
        return self.digest == other.digest if isinstance(other, HeadMask) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def __getstate__(self) -> dict[str, Any]:
        """What pickles and copies hold: the fields, with plain dicts."""
        state = {each.name: getattr(self, each.name) for each in fields(self)}
        return state | {"lineage": dict(self.lineage), "scores": dict(self.scores)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the fields back."""
        for name, value in state.items():
            object.__setattr__(self, name, MappingProxyType(value) if name in ("lineage", "scores") else value)

    @property
    def called(self) -> str:
        """What messages call it: its task; a mask of a bank has a name of its own."""
        return self.task_name

    @property
    def geometry(self) -> Geometry:
        """Heads per masked layer."""
        return self.identity.geometry

    @property
    def task_name(self) -> str:
        """The task's canonical name; empty where there is none."""
        return self.task.name if self.task else ""

    @cached_property
    def digest(self) -> str:
        """16 hex digits that name this mask by its content: bits, logits, the model's fingerprint and the task."""
        task = self.task.model_dump_json() if self.task else ""
        hashed = hashlib.sha256(f"{self.identity.fingerprint} {self.geometry.heads} {task}".encode())
        for tensor in (self.bits, *([self.logits] if self.logits is not None else [])):
            hashed.update(tensor.cpu().numpy().tobytes())
        return hashed.hexdigest()[:16]

    @property
    def heads_on(self) -> int:
        """Number of heads that are on, without those of fixed layers."""
        return int((self.bits & self.geometry.switchable).sum())

    @property
    def heads_total(self) -> int:
        """Number of heads that a mask of this model may switch."""
        return self.geometry.total

    @property
    def reached_target(self) -> bool | None:
        """Whether a composite's mask reached its target when it was composed; None where nobody measured it."""
        record = self.lineage.get(RECORD)
        return bool(record["reached"]) if isinstance(record, Mapping) else None

    @property
    def gates(self) -> Float[Tensor, "layer head"]:
        """1.0 where a head is on, 0.0 where it is off."""
        return self.bits.float()

    def with_(self, **changes: Any) -> "HeadMask":  # noqa: ANN401
        """A copy with some attributes changed; of a bank's mask a copy without its place there."""
        return HeadMask(**{each.name: getattr(self, each.name) for each in fields(HeadMask)} | changes)

    def save(self, path: Path | str, name: str = "") -> "StoredMask":
        """Write the mask to a file, whole or not at all; a file that is there is replaced.

        Args:
            path: ends in `.safetensors`.
            name: what the mask is called; by default its task.

        Raises:
            FileError: the ending is another, or the file cannot be written.
            MaskError: lineage or scores hold what JSON cannot.
        """
        from .files import save_mask  # noqa: PLC0415 (it needs this module)

        return save_mask(self, name or self.task_name or Path(path).stem, 1, Path(path))

    @staticmethod
    def load(path: Path | str) -> "StoredMask":
        """Read a mask's file.

        Raises:
            MaskError: it is missing, damaged, or not a mask; the message names it.
        """
        from .files import load_mask  # noqa: PLC0415 (it needs this module)

        return load_mask(Path(path))

    @staticmethod
    def from_pretrained(source: Path | str, *, revision: str | None = None) -> "HeadMask":
        """The mask of a repository of the Hub, `OWNER/NAME`, or of a folder of an export.

        Args:
            source: the repository or folder.
            revision: a branch, tag or commit of the repository.

        Raises:
            BankError: there is no one mask, or the hub cannot be reached.
            MaskError: it is damaged or no mask.
        """
        from .hub import from_pretrained  # noqa: PLC0415 (it needs this module)

        return from_pretrained(source, revision=revision)

    def push_to_hub(self, repo: str, name: str = "", *, model: "LALM | None" = None, private: bool = False) -> str:
        """Put the mask into a repository of the Hub, which is made where it is missing.

        Args:
            repo: OWNER/NAME.
            name: what the mask is called; by default its task.
            model: the mask's model, to add the files of PEFT.
            private: make a new repository private.

        Returns:
            The commit's address.

        Raises:
            BankError: the hub refuses, or cannot be reached.
            MaskError: the mask is of another model.
        """
        from .files import StoredMask  # noqa: PLC0415 (it needs this module)
        from .hub import push  # noqa: PLC0415 (it needs this module)

        stored = StoredMask.of(self, name or self.task_name or "mask", 1, Path())
        return push([stored], repo, model=model, private=private)

    def plot(self, path: Path | str | None = None, title: str = "") -> "Figure":
        """Draw the mask: layers × heads, and how many heads each layer has on.

        Args:
            path: a file to draw it into, `.png` or `.svg`; None for none.
            title: by default what the mask is called.

        Returns:
            The figure, which a notebook shows.

        Raises:
            FileError: the ending is another, or the file cannot be written.
        """
        from .plots import draw_mask, save_mask_plot  # noqa: PLC0415 (it needs this module)

        if path is not None:
            save_mask_plot(self, Path(path), title or self.called)
        return draw_mask(self, title or self.called)

    def require(self, model: Identity | Identified, name: str = "") -> None:
        """Refuse another model than the mask's own.

        Args:
            model: what the mask is to be used with.
            name: the mask's, for the message.

        Raises:
            MaskError: naming both models and their geometries.
        """
        other = identity_of(model)
        if not self.identity.same(other):
            called = name or self.called or "given"
            raise MaskError(f"mask {called!r} is for {self.identity}; this model is {other}; see 'amask bank list'")

    def reference(self) -> dict[str, Any]:
        """How a lineage names this mask as a parent: its task and its content, and in a bank also its name."""
        return {"task": self.task_name, "digest": self.digest}

    def _combine(self, other: "HeadMask", combine: Callable[[Tensor, Tensor], Tensor], operation: str) -> "HeadMask":
        other.require(self)
        lineage = {"operation": operation, "parents": [self.reference(), other.reference()]}
        bits = self.geometry.allowed(combine(self.bits, other.bits))
        return HeadMask(bits, self.identity, lineage=lineage)

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
        lineage = {"operation": "not", "parents": [self.reference()]}
        return HeadMask(self.geometry.allowed(~self.bits), self.identity, lineage=lineage)

    def jaccard(self, other: "HeadMask") -> float:
        """|both on| / |either on|; 1.0 for two empty masks."""
        other.require(self)
        counted = self.geometry.switchable
        either = int(((self.bits | other.bits) & counted).sum())
        return int((self.bits & other.bits & counted).sum()) / either if either else 1.0


def threshold(logits: Float[Tensor, "layer head"], geometry: Geometry) -> Bool[Tensor, "layer head"]:
    """On where the logit is at least 0 and in fixed layers; never for heads that a layer does not have."""
    return geometry.allowed(logits >= 0)
