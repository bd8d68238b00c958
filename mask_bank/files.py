"""One mask in one safetensors file: written whole or not at all, and read only if not a byte of it has changed.

Tensors: `bits` (uint8, layer × head) and, for trained masks, `logits` (float32). Metadata: one entry `amask`, a JSON
object with everything else and a SHA-256 checksum over tensors and that object. (One entry, since safetensors promises
no order for several.) There are no times or machine names in it: the same mask gives the same bytes.
"""

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydantic
import safetensors.numpy
import torch
from safetensors import SafetensorError

from ..data.atomic_write import write_atomic
from ..data.tasks import TaskSpec
from ..errors import FileError, MaskError
from ..lalm.gating import Geometry
from ..lalm.identity import Identity
from .mask import HeadMask

SUFFIX = ".safetensors"
SCHEMA = 2
MAX_BYTES = 16 * 2**20  # a mask of 128 layers × 128 heads takes 80 KiB; what is larger is something else


class NewerFormatError(MaskError):
    """A file is whole, but of a newer amask."""


class _Record(pydantic.BaseModel):
    """The JSON object in the metadata, without the checksum."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[2]  # SCHEMA
    name: str = pydantic.Field(min_length=1)
    version: int = pydantic.Field(ge=1)
    task: TaskSpec | None
    model: str
    fingerprint: str
    heads: list[pydantic.PositiveInt] = pydantic.Field(min_length=1)
    fixed_layers: list[pydantic.NonNegativeInt] = []
    lineage: dict[str, Any]
    scores: dict[str, pydantic.FiniteFloat]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class StoredMask(HeadMask):
    """A mask on disk: a `HeadMask` that has a name.

    Attributes:
        name: what it is called.
        version: 1, 2, 3 … of that name.
        path: its file.
    """

    name: str
    version: int
    path: Path

    @classmethod
    def of(cls, mask: HeadMask, name: str, version: int, path: Path) -> "StoredMask":
        """A mask and the place where it is stored."""
        about = {each.name: getattr(mask, each.name) for each in fields(HeadMask)}
        return cls(**about, name=name, version=version, path=path)

    @property
    def spec(self) -> str:
        """The full name: `asr@2`."""
        return f"{self.name}@{self.version}"

    @property
    def called(self) -> str:
        """What messages call it: the full name."""
        return self.spec

    @property
    def mask(self) -> HeadMask:
        """The mask without its place."""
        return self.with_()

    def reference(self) -> dict[str, Any]:
        """How a lineage names this mask as a parent: its full name, its task, its content."""
        return {"mask": self.spec} | super().reference()


def _canonical(record: dict[str, Any]) -> str:
    return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _checksum(record: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 over the record (without its checksum) and each tensor's name, type, shape and bytes."""
    hashed = hashlib.sha256(_canonical(record).encode())
    for name, array in sorted(arrays.items()):
        hashed.update(f"{name} {array.dtype.str} {array.shape}".encode())
        hashed.update(array.tobytes())
    return hashed.hexdigest()


def to_bytes(mask: HeadMask, name: str, version: int) -> bytes:
    """The file's content, the same for the same arguments.

    Raises:
        MaskError: lineage or scores hold what JSON cannot.
    """
    arrays = {"bits": mask.bits.cpu().numpy().astype("|u1")}
    if mask.logits is not None:
        arrays["logits"] = np.ascontiguousarray(mask.logits.detach().cpu().numpy().astype("<f4"))
    record = {
        "format": SCHEMA,
        "name": name,
        "version": version,
        "task": mask.task.model_dump(mode="json", exclude_defaults=True) if mask.task else None,
        "model": mask.identity.name,
        "fingerprint": mask.identity.fingerprint,
        "heads": list(mask.geometry.heads),
        **({"fixed_layers": list(mask.geometry.fixed_layers)} if mask.geometry.fixed_layers else {}),
        "lineage": dict(mask.lineage),
        "scores": {metric: float(value) for metric, value in mask.scores.items()},
    }
    try:
        text = _canonical(record | {"checksum": _checksum(record, arrays)})
    except (TypeError, ValueError, RecursionError) as error:
        raise MaskError(f"cannot store mask {name!r}: its lineage or scores hold what JSON cannot ({error})") from None
    return safetensors.numpy.save(arrays, metadata={"amask": text})


def _record_of(data: bytes) -> dict[str, Any]:
    """The JSON object in the metadata of a file that safetensors has accepted."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    try:
        record = json.loads(header["__metadata__"]["amask"])
    except KeyError:
        raise MaskError("it is a safetensors file, but not a mask of amask: its metadata has no entry 'amask'") from None
    if not isinstance(record, dict):
        raise MaskError("its metadata is not a JSON object")
    return record


def _parse(data: bytes) -> tuple[HeadMask, str, int]:
    arrays = safetensors.numpy.load(data)
    record = _record_of(data)
    number = record.get("format")
    if isinstance(number, int) and number > SCHEMA:
        raise NewerFormatError(f"it has format {number} and this amask reads {SCHEMA}; update amask to use it")
    if number != SCHEMA:
        raise MaskError(f"it has format {number!r} and this amask reads {SCHEMA}")
    if record.pop("checksum", None) != _checksum(record, arrays):
        raise MaskError("its checksum does not match its content")
    about = _Record.model_validate(record)
    geometry = Geometry(tuple(about.heads), tuple(about.fixed_layers))
    kinds = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
    expected = {"bits": ("|u1", geometry.shape), "logits": ("<f4", geometry.shape)}
    if "bits" not in kinds or any(expected.get(name) != kind for name, kind in kinds.items()):
        raise MaskError(f"its tensors are not bits (uint8) and logits (float32) of shape {geometry.shape}")
    if arrays["bits"].max() > 1:
        raise MaskError("its bits are not all 0 or 1")
    mask = HeadMask(
        bits=torch.from_numpy(arrays["bits"].astype(bool)),
        identity=Identity(geometry, about.fingerprint, about.model),
        task=about.task,
        logits=torch.from_numpy(arrays["logits"].astype("=f4")) if "logits" in arrays else None,
        lineage=about.lineage,
        scores=about.scores,
    )
    return mask, about.name, about.version


def from_bytes(data: bytes, path: Path) -> StoredMask:
    """The mask of a file's content.

    Args:
        data: the content.
        path: where it came from, for messages.

    Raises:
        MaskError: it is damaged, not a mask, or of a newer amask (`NewerFormatError`).
    """
    try:
        mask, name, version = _parse(data)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        why = f"its metadata is wrong at {'.'.join(map(str, first['loc']))}: {first['msg']}"
    except NewerFormatError as error:
        raise NewerFormatError(f"cannot read mask file {path}: {error}") from None
    except MaskError as error:
        why = str(error)
    except SafetensorError as error:
        why = f"it is not a whole safetensors file: {error}"
    except (ValueError, LookupError, TypeError, RecursionError):
        why = "its content cannot be read"
    else:
        return StoredMask.of(mask, name, version, path)
    raise MaskError(f"mask file {path} is damaged or foreign: {why}; remove it, and train or fetch the mask again")


def read_limited(path: Path) -> bytes:
    """A regular file's bytes, if it is no larger than a mask's file can be.

    Raises:
        MaskError: it is missing, unreadable, not a file or too large.
    """
    try:
        if not path.is_file():
            raise MaskError(f"cannot read mask file {path}: there is no such file")
        if path.stat().st_size > MAX_BYTES:
            raise MaskError(f"cannot read mask file {path}: it is larger than {MAX_BYTES >> 20} MiB, so it is not a mask")
        return path.read_bytes()
    except OSError as error:
        raise MaskError(f"cannot read mask file {path}: {error.strerror}") from None


def load_mask(path: Path) -> StoredMask:
    """Read a mask.

    Raises:
        MaskError: the file is missing, damaged in any way, or not a mask; the message names it.
    """
    return from_bytes(read_limited(path), path)


def save_mask(mask: HeadMask, name: str, version: int, path: Path, *, exclusive: bool = False) -> StoredMask:
    """Write a mask, whole or not at all.

    Args:
        mask: the mask.
        name: what it is called.
        version: 1, 2, 3 … of that name.
        path: the file, which ends in `.safetensors`; its folder must exist.
        exclusive: leave a file that is already there as it is.

    Raises:
        FileExistsError: `exclusive`, and the file is there.
        MaskError: lineage or scores hold what JSON cannot.
        FileError: the ending is another, or the file cannot be written.
    """
    if path.suffix != SUFFIX:
        raise FileError(f"cannot write mask {name!r} to {path}: its file must end in {SUFFIX}, or it could not be read again")
    write_atomic(to_bytes(mask, name, version), path, exclusive=exclusive)
    return StoredMask.of(mask, name, version, path)


def describe(stored: StoredMask) -> dict[str, Any]:
    """What `amask bank show --json` says of a mask; `geometry` is the number of heads of each masked layer."""
    return {
        "name": stored.name,
        "version": stored.version,
        "task": stored.task_name,
        "model": stored.identity.name,
        "heads_on": stored.heads_on,
        "heads_total": stored.heads_total,
        "geometry": list(stored.geometry.heads),
        "fixed_layers": list(stored.geometry.fixed_layers),
        "fingerprint": stored.identity.fingerprint,
        "digest": stored.digest,
        "lineage": dict(stored.lineage),
        "scores": dict(stored.scores),
    }
