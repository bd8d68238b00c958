"""SALMONN's files: which is which in a folder, and reading them without ever running what is in them."""

import json
import pickle
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, PositiveFloat, ValidationError
from torch import Tensor, nn

from ...errors import ModelError

NAMES = "salmonn.toml"


class SalmonnFiles(BaseModel):
    """Where SALMONN's parts lie, and the few settings that no file holds; `salmonn.toml` has the same keys.

    Attributes:
        whisper: folder of Whisper (large-v2 for the released model).
        beats: checkpoint of BEATs (`BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt`).
        llm: folder of the LLaMA that was fine-tuned (Vicuna 13B v1.1).
        checkpoint: SALMONN's own (`salmonn_v1.pth`): layer norms, Q-Former, projection and LoRA.
        qformer: configuration of the Q-Former; without one, BERT's with heads 64 wide.
        lora_alpha: LoRA's weight is this over its rank.
        seconds_per_window: audio that becomes one group of embeddings.
        seconds_per_stride: from one window to the next.
        prompt: text around the audio and the instruction, which stand at `{}`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    whisper: Path
    beats: Path
    llm: Path
    checkpoint: Path
    qformer: Path | None = None
    lora_alpha: PositiveFloat = 32.0
    seconds_per_window: PositiveFloat = 0.333333
    seconds_per_stride: PositiveFloat = 0.333333
    prompt: str = "USER: {}\nASSISTANT:"


def is_salmonn(folder: Path) -> bool:
    """Whether a folder is meant to hold SALMONN: it names the parts or has SALMONN's own checkpoint."""
    return (folder / NAMES).is_file() or bool(_named(folder, "salmonn", ".pth"))


def find_files(folder: Path) -> SalmonnFiles:
    """SALMONN's parts in a folder: those that its `salmonn.toml` names, else those known by their names and contents.

    Raises:
        ModelError: a part is missing or there is more than one, or `salmonn.toml` is wrong.
    """
    if (folder / NAMES).is_file():
        return _read_names(folder)
    found = {
        "whisper": _model_folders(folder, "whisper"),
        "beats": _named(folder, "beats", ".pt"),
        "llm": _model_folders(folder, "llama"),
        "checkpoint": _named(folder, "salmonn", ".pth"),
    }
    for part, paths in found.items():
        if len(paths) != 1:
            seen = ", ".join(path.name for path in paths) or "none"
            raise ModelError(f"{folder}: expected one {EXPECTED[part]}, found {seen}; add it or name it in {folder / NAMES}")
    qformer = folder / "qformer_config.json"
    parts = {part: paths[0] for part, paths in found.items()}
    return SalmonnFiles.model_validate(parts | {"qformer": qformer if qformer.is_file() else None})


EXPECTED = {
    "whisper": "Whisper folder (whisper-large-v2)",
    "beats": "BEATs checkpoint (BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt)",
    "llm": "LLaMA folder (vicuna-13b-v1.1)",
    "checkpoint": "SALMONN checkpoint (salmonn_v1.pth)",
}


def _named(folder: Path, part: str, suffix: str) -> list[Path]:
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in paths if path.suffix == suffix and part in path.name.lower() and path.is_file()]


def _model_folders(folder: Path, kind: str) -> list[Path]:
    return [path.parent for path in sorted(folder.glob("*/config.json")) if read_json(path).get("model_type") == kind]


def read_json(path: Path) -> dict[str, Any]:
    """Settings from a JSON file.

    Raises:
        ModelError: the file is missing, damaged or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}; copy it again") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds a {type(content).__name__}, expected settings by name; copy it again")
    return content


def _read_names(folder: Path) -> SalmonnFiles:
    path = folder / NAMES
    try:
        files = SalmonnFiles.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}; see docs/models.md") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}; see docs/models.md") from None
    parts = {part: folder / value.expanduser() for part, value in files if isinstance(value, Path)}
    for part, named in parts.items():
        if not named.exists():
            raise ModelError(f"{path}: there is no {named} ({part}); name the file that is there")
    if files.prompt.count("{") != 1 or files.prompt.count("}") != 1 or "{}" not in files.prompt:
        raise ModelError(f"{path}: prompt {files.prompt!r} must have braces once, as {{}}, where audio and instruction stand")
    return files.model_copy(update=parts)


def read_tensors(path: Path) -> dict[str, Any]:
    """A checkpoint `{"model": {name: tensor}, …}`, read as data only: whatever else a pickle may do is refused.

    Raises:
        ModelError: the file is missing, damaged or not of this layout.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"there is no {path}; name the file in {NAMES} or download it") from None
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError):
        raise ModelError(f"{path} is damaged, or holds more than tensors and settings; download it again") from None
    tensors = content.get("model") if isinstance(content, dict) else None
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ModelError(f"{path} has no tensors under 'model'; expected the layout of the official files; download it again")
    return content


def fill(module: nn.Module, tensors: Mapping[str, Tensor], path: Path, called: Callable[[str], str] = str) -> None:
    """Give a module its tensors, by name and in its own precision; tensors that it does not have are left out.

    Args:
        module: to be filled, frozen or not.
        tensors: of a checkpoint.
        path: where they come from.
        called: from a module's name of a tensor to the checkpoint's.

    Raises:
        ModelError: a tensor is missing or of another shape.
    """
    own = {called(name): (name, tensor) for name, tensor in module.state_dict().items()}
    missing = [name for name in own if name not in tensors]
    if missing:
        such = f"{len(missing)} tensors, such as {missing[0]}" if len(missing) > 1 else f"the tensor {missing[0]}"
        raise ModelError(f"{path} lacks {such}; expected the official file; download it again")
    for name, (_, tensor) in own.items():
        if tensor.shape != tensors[name].shape:
            shapes = f"{tuple(tensors[name].shape)}, expected {tuple(tensor.shape)}"
            raise ModelError(f"{path}: tensor {name} is {shapes}; the files do not belong together")
    module.load_state_dict({name: tensors[there] for there, (name, _) in own.items()})
