"""Granite Speech: a LoRA adapter that is part of its audio path."""

from typing import Any, cast

from jaxtyping import Int
from torch import Tensor
from transformers import GenerationMixin, PreTrainedModel, ProcessorMixin
from transformers.utils import is_peft_available

from ..errors import ModelError
from .generic import TransformersLALM


class GraniteSpeech(TransformersLALM):
    """`GraniteSpeechForConditionalGeneration`."""

    def __init__(self, name: str, model: PreTrainedModel, processor: ProcessorMixin) -> None:
        if model.config.has_lora_adapter and not is_peft_available():
            raise ModelError(f"{name} needs a LoRA adapter for audio; pip install peft")
        super().__init__(name, model, processor)

    def _generate(self, model: Any, **inputs: Any) -> Int[Tensor, "row token"]:  # noqa: ANN401
        # Its own `generate` would switch the adapter off, since it is given no audio.
        return cast(Tensor, GenerationMixin.generate(model, **inputs))
