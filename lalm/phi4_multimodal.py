"""Phi-4 Multimodal: audio is merged inside its decoder, which holds the audio encoder, too."""

from torch import nn
from transformers import PreTrainedModel

from .generic import TransformersLALM


class Phi4Multimodal(TransformersLALM):
    """`Phi4MultimodalForCausalLM`. The LoRA adapter for speech of the released model is not loaded."""

    @staticmethod
    def gated_part(model: PreTrainedModel) -> nn.Module:
        """The decoder's own layers: the audio encoder beside them has projections called `o_proj`, too."""
        return model.model.layers

    @property
    def entry(self) -> tuple[nn.Module, str]:
        """The first layer is where audio and text come in together."""
        return self.model.model.layers[0], "hidden_states"
