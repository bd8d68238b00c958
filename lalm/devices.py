"""Where a model runs and in which precision: from a user's words to transformers' loading arguments."""

import re
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from ..errors import ModelError

CARDS = ("cuda", "npu")
DTYPES = ("float32", "bfloat16", "float16")
AUTO, SPREAD = "auto", "map"
_DEVICE = re.compile(r"(cpu|cuda|npu)(?::(0|[1-9]\d{0,3}))?")

Model = TypeVar("Model", bound=nn.Module)


def count_cards(kind: str) -> int:
    """How many cards of a kind (`cuda`, `npu`) torch can use; torch has `npu` only where torch-npu is installed."""
    module = getattr(torch, kind, None)
    return module.device_count() if module and module.is_available() else 0


def choose_device(name: str = AUTO) -> torch.device:
    """`auto` and `map` take a CUDA card, else an Ascend NPU; `auto` else the CPU.

    Args:
        name: `auto`, `map`, `cpu`, `cuda`, `npu`, or one with a number such as `cuda:1`.

    Raises:
        ModelError: it is none of these, or not there.
    """
    present = {kind: count_cards(kind) for kind in CARDS} | {"cpu": 1}
    there = [kind for kind, count in present.items() if count]
    if name == AUTO:
        return torch.device(there[0])
    if name == SPREAD:
        if there[0] == "cpu":
            raise ModelError(f"device {name!r} spreads a model over cards, and there are none, only the CPU; see 'amask doctor'")
        return torch.device(there[0], 0)
    match = _DEVICE.fullmatch(name)
    if not match:
        raise ModelError(f"unknown device {name!r}; expected auto, cpu, cuda, npu, one with a number such as cuda:1, or map")
    kind, number = match[1], match[2]
    if not present[kind]:
        raise ModelError(f"device {name!r} is not available; there is {', '.join(there)}; see 'amask doctor'")
    if int(number or 0) >= present[kind]:
        raise ModelError(f"device {name!r} is not available; the last of its kind is {kind}:{present[kind] - 1}")
    return torch.device(name)


@dataclass(frozen=True)
class Placement:
    """Where a model goes, and in which precision.

    Attributes:
        device: the one that holds the model or, where it is spread, the first of them.
        dtype: one of `DTYPES`; None where nothing was asked for.
        spread: over all cards, by accelerate.
    """

    device: torch.device
    dtype: str | None = None
    spread: bool = False

    def arguments(self, usual: str = AUTO) -> dict[str, Any]:
        """Keyword arguments of transformers' `from_pretrained`.

        Args:
            usual: the dtype off the CPU where none was asked for; `auto` is the checkpoint's own. On the CPU it is float32.
        """
        dtype = self.dtype or ("float32" if self.device.type == "cpu" else usual)
        return {"dtype": dtype} | ({"device_map": "auto"} if self.spread else {})

    def settle(self, model: Model) -> Model:
        """Put a model just loaded with `arguments` in its place; one that is spread is there already.

        Raises:
            ModelError: not all of a spread model is on the cards. What accelerate keeps elsewhere is not there to be
                hashed, so the model would have no fingerprint and none of its masks would fit.
        """
        if not self.spread:
            return model.to(self.device)
        away = [name for name, parameter in model.named_parameters() if parameter.is_meta]
        if away:
            raise ModelError(
                f"the model does not fit on the cards: {len(away)} of its tensors are left, from {away[0]}; "
                "use more cards, or --dtype bfloat16"
            )
        return model


def choose_placement(device: str = AUTO, dtype: str | None = None) -> Placement:
    """What `--device` and `--dtype` ask for.

    Args:
        device: see `choose_device`; `map` spreads the model over all cards.
        dtype: one of `DTYPES`; `auto` and None ask for nothing.

    Raises:
        ModelError: the device is unknown or not there, or the dtype is unknown.
    """
    if dtype not in (None, AUTO, *DTYPES):
        raise ModelError(f"unknown dtype {dtype!r}; expected {', '.join(DTYPES)} or {AUTO}")
    return Placement(choose_device(device), None if dtype == AUTO else dtype, device == SPREAD)
