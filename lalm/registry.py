"""From a model's name to a `LALM`."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import transformers
from torch import nn
from transformers import (
    AutoConfig,
    AutoProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
    Qwen2AudioForConditionalGeneration,
)

from ..errors import ModelError
from .base import LALM
from .devices import AUTO, Placement, choose_placement
from .gemma import Gemma3n, Gemma4
from .generic import TransformersLALM
from .granite_speech import GraniteSpeech
from .kyutai import KyutaiSpeechToText
from .loading import read_model, read_pretrained
from .phi4_multimodal import Phi4Multimodal
from .qwen2_audio import Qwen2Audio, TiedQwen2Audio, from_files
from .salmonn.files import is_salmonn
from .salmonn.model import load_salmonn
from .vibevoice_asr import VibeVoiceAsr
from .voxtral import Voxtral

FAMILIES: dict[str, Callable[[str, PreTrainedModel, ProcessorMixin], LALM]] = {
    "Gemma3nForConditionalGeneration": Gemma3n,
    "Gemma4ForConditionalGeneration": Gemma4,
    "GraniteSpeechForConditionalGeneration": GraniteSpeech,
    "KyutaiSpeechToTextForConditionalGeneration": KyutaiSpeechToText,
    "Phi4MultimodalForCausalLM": Phi4Multimodal,
    "VibeVoiceAsrForConditionalGeneration": VibeVoiceAsr,
    "VoxtralForConditionalGeneration": Voxtral,
}
"""Classes of transformers that need more than the generic adapter."""
PARTS = {
    "Qwen2_5OmniModel": "Qwen2_5OmniThinkerForConditionalGeneration",
    "Qwen2_5OmniForConditionalGeneration": "Qwen2_5OmniThinkerForConditionalGeneration",
    "Qwen3OmniMoeForConditionalGeneration": "Qwen3OmniMoeThinkerForConditionalGeneration",
}
"""Models that also speak: the part of them from audio to text."""

NEEDS = {
    "Gemma3nForConditionalGeneration": ("torchvision", "timm"),
    "Gemma4ForConditionalGeneration": ("torchvision",),
    "GraniteSpeechForConditionalGeneration": ("torchaudio",),
    "NemotronH_Omni_Reasoning_V3": ("torchvision",),
    "Phi4MultimodalForCausalLM": ("torchvision",),
    "Qwen2_5OmniThinkerForConditionalGeneration": ("torchvision",),
    "Qwen3OmniMoeThinkerForConditionalGeneration": ("torchvision",),
}
"""Packages that transformers itself wants for a class, if only for its images, and does not name when they are absent."""

POCKET = "pocket"
POCKET_WEIGHTS = Path(__file__).parents[1] / "pocket" / "weights"


def load_model(
    model: str | Path | nn.Module = POCKET,
    device: str = AUTO,
    dtype: str | None = None,
    *,
    processor: ProcessorMixin | None = None,
    name: str = "",
    fingerprint: str | None = None,
    device_map: str | Mapping[str, Any] | None = None,
    quantization_config: Any = None,  # noqa: ANN401 - one of transformers' many classes
    attn_implementation: str | None = None,
    trust_remote_code: bool = False,
) -> LALM:
    """Load a model by name, or take one that was loaded before.

    Args:
        model: `pocket`; a local folder or a Hub id of an audio-text model of transformers; a folder of SALMONN's files; or a
            model of transformers as it is in memory, quantised or with a PEFT adapter too, beside its `processor`.
        device: `auto`, `cpu`, `cuda`, `npu`, one with a number such as `cuda:1`, or `map` to spread it over all cards.
        dtype: `float32`, `bfloat16` or `float16`; by default float32 on the CPU and the checkpoint's own elsewhere.
        processor: of a model in memory.
        name: how messages call a model in memory; by default as its configuration does.
        fingerprint: of the model that this one is another form of, such as the one that was quantised, whose masks it is to
            take; by default its own.
        device_map: as transformers' `from_pretrained` takes it, instead of `device`.
        quantization_config: likewise.
        attn_implementation: likewise; `sdpa` by default.
        trust_remote_code: run the code that lies beside the weights. It never runs otherwise.

    Raises:
        ModelError: the model is not found, takes no audio, or is damaged; or the device is not there.

    Example:
        >>> amask.load_model("pocket").geometry.total
        144
    """
    options = {"quantization_config": quantization_config, "attn_implementation": attn_implementation, "device_map": device_map}
    given = {key: value for key, value in options.items() if value is not None}
    if isinstance(model, nn.Module):
        loaded = _in_memory(model, processor, name)
    else:
        loaded = _by_name(_checked_name(str(model)), choose_placement(device, dtype), given, trust_remote_code)
    if fingerprint is not None:
        loaded.__dict__["fingerprint"] = fingerprint
    return loaded


def _in_memory(model: nn.Module, processor: ProcessorMixin | None, name: str) -> LALM:
    """A loaded model in its adapter; a PEFT model is its base model, in which the adapter's layers are."""
    base_of: Any = getattr(model, "get_base_model", None)
    base = base_of() if base_of else model
    if not isinstance(base, PreTrainedModel):
        raise ModelError(f"cannot use a {type(model).__name__}; expected a model of transformers, or a name")
    if processor is None:
        raise ModelError(f"a {type(base).__name__} in memory needs its processor: load_model(model, processor=processor)")
    name = name or Path(str(getattr(base.config, "_name_or_path", ""))).name or type(base).__name__
    if isinstance(base, Qwen2AudioForConditionalGeneration):
        return from_files(name, base, cast(Any, processor), str(getattr(base.config, "_name_or_path", "")) or name)
    return adapt(name, base, processor)


def _checked_name(name: str) -> str:
    """A model's name, where it can be one: what is no folder and has no slash is not looked for on the Hub.

    Raises:
        ModelError: it cannot.
    """
    if name == POCKET or Path(name).expanduser().is_dir():
        return name if name == POCKET else str(Path(name).expanduser())
    if name.startswith((".", "/", "~")) or name.count("/") != 1 or "\\" in name:
        near = f"; did you mean {POCKET!r}?" if get_close_matches(name, [POCKET]) else ""
        kind = "folder" if "/" in name or "\\" in name else "model"
        raise ModelError(f"there is no {kind} {name!r}{near}; known are {POCKET!r}, a folder, or a Hub id such as org/name")
    return name


def _by_name(name: str, placement: Placement, options: dict[str, Any], trusted: bool) -> LALM:
    if is_salmonn(Path(name)):
        if options:
            raise ModelError(f"{name}: SALMONN takes no {', '.join(options)}; leave them out")
        return load_salmonn(name, placement)
    if name == POCKET:
        return load_pocket(placement, options)
    config = read_pretrained(AutoConfig, name, trust_remote_code=trusted)
    family = (config.architectures or ["?"])[0]
    family = PARTS.get(family, family)
    kind = getattr(transformers, family, None)
    if kind is None and trusted:
        kind = next((getattr(transformers, auto, None) for auto in getattr(config, "auto_map", {}) if "Model" in auto), None)
    if kind is None or not (hasattr(kind, "generate") or trusted):
        raise ModelError(f"model {name!r} is a {family}, which transformers {transformers.__version__} cannot generate with")
    missing = [package for package in NEEDS.get(family, ()) if not find_spec(package)]
    if missing:
        raise ModelError(f"{family} needs {' and '.join(missing)} in transformers; pip install {' '.join(missing)}")
    processor = read_pretrained(AutoProcessor, name, trust_remote_code=trusted)
    if not hasattr(processor, "tokenizer"):
        raise ModelError(f"model {name!r} is a {family}, which takes no audio; see docs/models.md for those that do")
    remote = {"trust_remote_code": True} if trusted else {}
    how = placement.arguments() | options | remote
    if kind is Qwen2AudioForConditionalGeneration:
        kind = _qwen2_audio_class(config)
    model = read_model(kind, name, **how)
    model = model if {"device_map", "quantization_config"} & set(how) else placement.settle(model)
    if issubclass(kind, Qwen2AudioForConditionalGeneration):
        return from_files(name, model, processor)
    return adapt(name, model, processor)


def adapt(name: str, model: PreTrainedModel, processor: ProcessorMixin) -> LALM:
    """A loaded model in the adapter of its family, or in the generic one."""
    return FAMILIES.get(type(model).__name__, TransformersLALM)(name, model, processor)


def _qwen2_audio_class(config: PreTrainedConfig) -> type[Qwen2AudioForConditionalGeneration]:
    """The tied class only where the files say so: it would overwrite an output head of a model's own."""
    return TiedQwen2Audio if getattr(config, "tie_word_embeddings", False) else Qwen2AudioForConditionalGeneration


def load_pocket(placement: Placement, options: Mapping[str, Any]) -> Qwen2Audio:
    """The pocket model from the package; its weights are kept in half precision and used in single precision."""
    if not (POCKET_WEIGHTS / "model.safetensors").exists():
        raise ModelError("the pocket model's weights are missing from this installation; reinstall amask")
    how = placement.arguments(usual="float32") | dict(options)
    kind = _qwen2_audio_class(read_pretrained(AutoConfig, POCKET_WEIGHTS))
    model = read_pretrained(kind, POCKET_WEIGHTS, **how)
    model = model if {"device_map", "quantization_config"} & set(how) else placement.settle(model)
    return from_files(POCKET, model, AutoProcessor.from_pretrained(POCKET_WEIGHTS), str(POCKET_WEIGHTS))
