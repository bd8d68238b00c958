"""From a model's name to a `LALM`."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoProcessor, PreTrainedModel, ProcessorMixin, Qwen2AudioForConditionalGeneration

from ..errors import ModelError
from .base import LALM
from .gemma import Gemma3n, Gemma4
from .generic import TransformersLALM
from .granite_speech import GraniteSpeech
from .phi4_multimodal import Phi4Multimodal
from .pocket.architecture import TEMPLATE
from .qwen2_audio import BASE_TEMPLATE, INSTRUCT_TEMPLATE, Qwen2Audio
from .salmonn.files import is_salmonn
from .salmonn.model import load_salmonn
from .vibevoice_asr import VibeVoiceAsr
from .voxtral import Voxtral

FAMILIES: dict[str, type[TransformersLALM]] = {
    "Gemma3nForConditionalGeneration": Gemma3n,
    "Gemma4ForConditionalGeneration": Gemma4,
    "GraniteSpeechForConditionalGeneration": GraniteSpeech,
    "Phi4MultimodalForCausalLM": Phi4Multimodal,
    "VibeVoiceAsrForConditionalGeneration": VibeVoiceAsr,
    "VoxtralForConditionalGeneration": Voxtral,
}
"""Classes of transformers that need more than the generic adapter."""

POCKET = "pocket"
POCKET_WEIGHTS = Path(__file__).parent / "pocket" / "weights"


def choose_device(name: str = "auto") -> torch.device:
    """`auto` takes a CUDA card, else an Ascend NPU, else the CPU.

    Raises:
        ModelError: the named device is not there.
    """
    npu = getattr(torch, "npu", None)
    present = {"cuda": torch.cuda.is_available(), "npu": bool(npu and npu.is_available()), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in present.items() if there))
    kind = name.partition(":")[0]
    if not present.get(kind):
        raise ModelError(f"device {name!r} is not available; there is {', '.join(k for k, there in present.items() if there)}")
    return torch.device(name)


def load_model(name: str = POCKET, device: str = "auto", dtype: str | None = None) -> LALM:
    """Load a model by name: `pocket`, a local folder or a Hub id of a Qwen2-Audio model, or a folder of SALMONN's files.

    Args:
        name: which model.
        device: `auto`, `cpu`, `cuda`, `npu`, or one with a number such as `cuda:1`.
        dtype: `float32`, `bfloat16` or `float16`; by default float32 on the CPU and the checkpoint's own elsewhere.

    Raises:
        ModelError: the model is not found, not of a supported family, or damaged.
    """
    place = choose_device(device)
    if name == POCKET:
        return load_pocket(place)
    if is_salmonn(Path(name)):
        return load_salmonn(name, place, dtype)
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot load model {name!r}: {str(error).splitlines()[0]}") from None
    family = (config.architectures or ["?"])[0]
    if family != Qwen2AudioForConditionalGeneration.__name__:
        raise ModelError(f"model {name!r} is a {family}; supported is {Qwen2AudioForConditionalGeneration.__name__}")
    wanted = dtype or ("float32" if place.type == "cpu" else "auto")
    try:
        model = Qwen2AudioForConditionalGeneration.from_pretrained(name, dtype=wanted).to(place)
        processor = AutoProcessor.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot load model {name!r}: {str(error).splitlines()[0]}") from None
    template = INSTRUCT_TEMPLATE if "instruct" in name.lower() else BASE_TEMPLATE
    return Qwen2Audio(name, model, processor, template)


def adapt(name: str, model: PreTrainedModel, processor: ProcessorMixin) -> TransformersLALM:
    """A loaded model in the adapter of its family, or in the generic one."""
    return FAMILIES.get(type(model).__name__, TransformersLALM)(name, model, processor)


def load_pocket(device: torch.device) -> Qwen2Audio:
    """The pocket model from the package; its weights are kept in half precision and used in single precision."""
    if not (POCKET_WEIGHTS / "model.safetensors").exists():
        raise ModelError("the pocket model's weights are missing from this installation; reinstall amask")
    model = Qwen2AudioForConditionalGeneration.from_pretrained(POCKET_WEIGHTS, dtype=torch.float32).to(device)
    processor = AutoProcessor.from_pretrained(POCKET_WEIGHTS)
    return Qwen2Audio(POCKET, model, processor, TEMPLATE)
