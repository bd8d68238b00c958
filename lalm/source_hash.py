"""What features depend on, as one hash: weights, settings, precision, kind of device, code."""

import hashlib
import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import torch
import transformers
from torch import nn

from .prompting import PromptedModel

SAMPLES = 1024  # values of each weight that tell models apart
JSON_TYPES = (str, int, float, bool, type(None))
NOT_SETTINGS = {"name", "fingerprint", "feature_source"}
"""Attributes that features do not depend on: a name may be a folder, and a fingerprint is there once it was asked for."""
_WORDS = re.compile(r'"""(?:.|\n)*?"""|^\s*#.*$', re.MULTILINE)  # docstrings, and comments in lines of their own


@cache
def _hash_code() -> str:
    """Of the code that turns sound into features, and the versions of the libraries that it leans on most."""
    hashed = hashlib.sha256(f"{torch.__version__} {transformers.__version__} {np.__version__}".encode())
    here = Path(__file__).resolve().parent
    for path in sorted([*here.rglob("*.py"), *(here.parent / "data").glob("*.py")]):
        hashed.update(_WORDS.sub("", path.read_text(encoding="utf-8")).encode())
    return hashed.hexdigest()


def _settings(thing: object) -> dict[str, object]:
    """The plain settings of a model and of its parts, and those of its processor."""
    found: dict[str, object] = {}
    for key, value in vars(thing).items():
        if isinstance(value, JSON_TYPES) and key not in NOT_SETTINGS:
            found[key] = value
        elif callable(getattr(value, "to_json_string", None)):
            found[key] = value.to_json_string()
        elif isinstance(value, nn.Module) and isinstance(thing, PromptedModel):
            found[key] = _settings(value)
    return found


def hash_source(model: PromptedModel) -> str:
    """Hash of all that turns samples into features: weights, settings, precision, kind of device, code.

    Other than the fingerprint, which masks go by, it need not be the same tomorrow, but must never be the same for features
    that differ. A pruned model has that of the whole one, since it encodes as that does.
    """
    if model.feature_source is not None:
        return model.feature_source
    facts = [_hash_code(), model.rate, model.device.type, str(model.template), _settings(model)]
    hashed = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for module in [value for value in vars(model).values() if isinstance(value, nn.Module)]:
        for name, tensor in module.state_dict().items():
            hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            if tensor.numel() and not tensor.is_meta:
                step = max(1, tensor.numel() // SAMPLES) | 1  # odd, so that it does not run along a column
                some = tensor.detach().flatten()[::step].cpu().contiguous()
                hashed.update(some.view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()
