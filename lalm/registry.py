"""From a model's name to a `LALM`."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import transformers
from transformers import AutoConfig, AutoProcessor, PreTrainedModel, ProcessorMixin, Qwen2AudioForConditionalGeneration

from ..errors import ModelError
from .base import LALM
from .devices import AUTO, Placement, choose_placement
from .gemma import Gemma3n, Gemma4
from .generic import TransformersLALM
from .granite_speech import GraniteSpeech
from .kyutai import KyutaiSpeechToText
from .loading import read_model, read_pretrained
from .phi4_multimodal import Phi4Multimodal
from .qwen2_audio import Qwen2Audio, from_files
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


def load_model(name: str = POCKET, device: str = AUTO, dtype: str | None = None) -> LALM:
    """Load a model by name.

    Args:
        name: `pocket`; a local folder or a Hub id of an audio-text model of transformers; or a folder of SALMONN's files.
        device: `auto`, `cpu`, `cuda`, `npu`, one with a number such as `cuda:1`, or `map` to spread it over all cards.
        dtype: `float32`, `bfloat16` or `float16`; by default float32 on the CPU and the checkpoint's own elsewhere.

    Raises:
        ModelError: the model is not found, takes no audio, or is damaged; or the device is not there.

    Example:
        >>> amask.load_model("pocket").geometry.total
        512
    """
    placement = choose_placement(device, dtype)
    if name == POCKET:
        return load_pocket(placement)
    if is_salmonn(Path(name)):
        return load_salmonn(name, placement)
    config = read_pretrained(AutoConfig, name)
    family = (config.architectures or ["?"])[0]
    family = PARTS.get(family, family)
    kind = getattr(transformers, family, None)
    if kind is None or not hasattr(kind, "generate"):
        raise ModelError(f"model {name!r} is a {family}, which transformers {transformers.__version__} cannot generate with")
    missing = [package for package in NEEDS.get(family, ()) if not find_spec(package)]
    if missing:
        raise ModelError(f"{family} needs {' and '.join(missing)} in transformers; pip install {' '.join(missing)}")
    processor = read_pretrained(AutoProcessor, name)
    if not hasattr(processor, "tokenizer"):
        raise ModelError(f"model {name!r} is a {family}, which takes no audio; see docs/models.md for those that do")
    model = placement.settle(read_model(kind, name, **placement.arguments()))
    if kind is Qwen2AudioForConditionalGeneration:
        return from_files(name, model, processor)
    return adapt(name, model, processor)


def adapt(name: str, model: PreTrainedModel, processor: ProcessorMixin) -> LALM:
    """A loaded model in the adapter of its family, or in the generic one."""
    return FAMILIES.get(type(model).__name__, TransformersLALM)(name, model, processor)


def load_pocket(placement: Placement) -> Qwen2Audio:
    """The pocket model from the package; its weights are kept in half precision and used in single precision."""
    if not (POCKET_WEIGHTS / "model.safetensors").exists():
        raise ModelError("the pocket model's weights are missing from this installation; reinstall amask")
    how = placement.arguments(usual="float32")
    model = placement.settle(Qwen2AudioForConditionalGeneration.from_pretrained(POCKET_WEIGHTS, **how))
    return from_files(POCKET, model, AutoProcessor.from_pretrained(POCKET_WEIGHTS), str(POCKET_WEIGHTS))
