"""Models from files: whole or not at all, and with one line for what is wrong."""

import pickle
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import PreTrainedModel

from ..errors import ModelError

_BROKEN = (OSError, EOFError, ValueError, RuntimeError, ImportError, KeyError, SafetensorError, pickle.UnpicklingError)


def read_pretrained(kind: type[Any], source: str | Path, **how: Any) -> Any:  # noqa: ANN401
    """What a class of transformers makes of a folder or Hub id; code that lies there is never run.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        return kind.from_pretrained(source, **how)
    except _BROKEN as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        advice = "; download it again" if Path(source).is_dir() else ""
        raise ModelError(f"cannot load model {str(source)!r}: {reason[0]}{advice}") from None


def read_model(kind: type[PreTrainedModel], source: str | Path, **how: Any) -> Any:  # noqa: ANN401
    """A model, whole: transformers would fill what is missing or does not fit with random numbers.

    Raises:
        ModelError: it cannot be read, or a tensor is missing or of another shape.
    """
    model, report = read_pretrained(kind, source, output_loading_info=True, ignore_mismatched_sizes=True, **how)
    wrong = sorted(report["missing_keys"]) + sorted(name for name, *_ in report["mismatched_keys"])
    if wrong:
        raise ModelError(f"{source}: tensor {wrong[0]} is missing or of another shape; download it again")
    return model
