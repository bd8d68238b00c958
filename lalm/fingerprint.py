"""Which model a mask belongs to, in whatever precision it is loaded and whatever its parts are called.

A model that is stored in float32 may be loaded in float16 or bfloat16, where every number is another one, but a hash must
be the same to the bit. So only what no rounding changes may enter it, and that is a number's sign: rounding never crosses
0, and what becomes 0 keeps its sign, too. Anything finer has edges. Take two neighbouring bfloat16 numbers: the float16
number half-way between them stands for numbers of which some round to the one and some to the other, so nothing that
tells the two apart can be known in both precisions; and as this links each number to the next, all positive numbers are
one class. Signs do tell models apart: half of them differ between two trainings, and a fine-tune carries some of the
many small numbers across 0.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ModelError

SAMPLES = 2**14  # numbers of a parameter that are looked at, up to twice as many


def hash_model(facts: Mapping[str, Any], parameters: Iterable[Tensor]) -> str:
    """16 hex digits of what a model is.

    Args:
        facts: what else makes the model the model it is, such as the text around the audio; of JSON's types.
        parameters: its weights; neither their order nor their names matter, nor whether one that is used twice comes twice.

    Raises:
        ModelError: a parameter is on the meta device.
    """
    signs = sorted({_hash_signs(parameter) for parameter in parameters})
    return hashlib.sha256(json.dumps([facts, signs], sort_keys=True).encode()).hexdigest()[:16]


def _hash_signs(parameter: Tensor) -> str:
    """Of the size and the signs of evenly spaced values: all of them up to `SAMPLES`."""
    if parameter.is_meta:
        raise ModelError("cannot tell which model this is: some of its weights are not in memory; load all of it")
    if hasattr(parameter, "dequantize") and type(parameter) not in (Tensor, torch.nn.Parameter):
        parameter = parameter.dequantize()  # a quantised tensor, which is a class of its own
    # An odd step: an even one may divide a matrix's width and see a few of its columns only.
    step = max(1, parameter.numel() // SAMPLES) | 1
    signs = torch.signbit(parameter.detach().flatten()[::step]).cpu().numpy()
    return hashlib.sha256(f"{parameter.numel()} ".encode() + np.packbits(signs).tobytes()).hexdigest()
