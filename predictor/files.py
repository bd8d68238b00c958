"""A predictor in one safetensors file, bound to the LALM and the masks that it was trained for; no pickle."""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import pydantic
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from ..data.atomic_write import write_atomic
from ..data.tasks import Task
from ..errors import ModelError
from ..lalm.gating import Geometry
from ..lalm.identity import Identity
from .calibration import Calibration
from .encoder import Encoder
from .network import Network

FORMAT: Literal[1] = 1


class Record(pydantic.BaseModel):
    """What the metadata say.

    Attributes:
        format: of the file.
        encoder: the encoder's name, and a digest of what it says, since another's vectors mean other things.
        tasks: the single tasks that instructions may ask for.
        model, fingerprint, heads, fixed_layers: the LALM whose masks were rebuilt.
        masks: intent → digest of the mask that was rebuilt.
        calibration: how sure it is, and when it refuses.
        lineage: settings and data of the training.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = FORMAT
    encoder: str
    encoder_digest: str
    tasks: tuple[Task, ...] = pydantic.Field(min_length=1)
    model: str
    fingerprint: str
    heads: tuple[pydantic.PositiveInt, ...] = pydantic.Field(min_length=1)
    fixed_layers: tuple[pydantic.NonNegativeInt, ...] = ()
    masks: dict[str, str]
    calibration: Calibration
    lineage: dict[str, Any]

    @property
    def identity(self) -> Identity:
        """The LALM."""
        return Identity(Geometry(self.heads, self.fixed_layers), self.fingerprint, self.model)


def encoder_digest(encoder: Encoder) -> str:
    """16 hex digits of what an encoder makes of a sentence, to few enough digits that they are the same on all machines."""
    vectors, _ = encoder.tokens(["what's the speaker's gender, please?"])
    coarse = (vectors / vectors.abs().max() * 8).round().to(torch.int8)
    return hashlib.sha256(coarse.numpy().tobytes()).hexdigest()[:16]


def save(network: Network, record: Record, path: Path) -> None:
    """Write a predictor, whole or not at all; weights in 16 bits.

    Raises:
        FileError: it cannot be written.
    """
    tensors = {name: tensor.detach().half().contiguous() for name, tensor in network.state_dict().items()}
    metadata = record.model_dump(mode="json", exclude_defaults=True) | {"format": FORMAT}
    text = json.dumps(metadata, sort_keys=True, ensure_ascii=False)
    write_atomic(safetensors.torch.save(tensors, {"amask-predictor": text}), path, parents=True)


def load(path: Path) -> tuple[Record, dict[str, torch.Tensor]]:
    """Read a predictor's record and weights.

    Raises:
        ModelError: the file is missing, damaged, or not a predictor.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118  (it is no mapping)
        return Record.model_validate_json(metadata["amask-predictor"]), tensors
    except FileNotFoundError:
        why = "there is no such file"
    except KeyError:
        why = "it is not a predictor of amask"
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        why = f"its metadata is wrong at {'.'.join(map(str, first['loc']))}: {first['msg']}"
    except (OSError, SafetensorError) as error:
        why = f"it is damaged: {error}"
    raise ModelError(f"cannot read predictor {path}: {why}; make one with 'amask predictor train'")
