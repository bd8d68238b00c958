"""VibeVoice-ASR: hears with random noise unless it is told not to."""

from .generic import TransformersLALM


class VibeVoiceAsr(TransformersLALM):
    """`VibeVoiceAsrForConditionalGeneration`."""

    deterministic = {"sample": False}
