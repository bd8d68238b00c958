"""Gemma 3n and Gemma 4: each layer looks up an embedding of its own by a token's id, the audio placeholder's too."""

from .generic import TransformersLALM


class Gemma4(TransformersLALM):
    """`Gemma4ForConditionalGeneration`."""

    keeps_placeholder = True


class Gemma3n(Gemma4):
    """`Gemma3nForConditionalGeneration`. Every clip takes 188 tokens, which is 30 s and no more."""
