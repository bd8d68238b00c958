"""VibeVoice-ASR: adds random noise to audio unless it is given `sample=False`."""

from .generic import TransformersLALM


class VibeVoiceAsr(TransformersLALM):
    """`VibeVoiceAsrForConditionalGeneration`."""

    deterministic = {"sample": False}
