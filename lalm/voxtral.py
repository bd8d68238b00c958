"""Voxtral: its processor takes audio only from files, and its tokenizer never reads special tokens from text."""

import re
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float32
from transformers import BatchFeature

from .chat_format import MARK
from .generic import TransformersLALM

SPECIAL = re.compile(r"(</?s>|\[/?INST\]|\[BEGIN_AUDIO\]|\[AUDIO\])")


class Voxtral(TransformersLALM):
    """`VoxtralForConditionalGeneration`. Audio is filled up with silence to whole windows (of 30 s), which counts as audio."""

    processor: Any  # what makes windows of audio is its own

    def render(self, reply: str | None = None) -> str:
        """The format of mistral-common for a turn with audio."""
        return f"<s>[INST][BEGIN_AUDIO][AUDIO]{MARK}[/INST]" + ("" if reply is None else f"{reply}</s>")

    def _tokenize(self, text: str) -> list[int]:
        ids: list[int] = []
        for piece in SPECIAL.split(text):
            if SPECIAL.fullmatch(piece):
                ids.append(cast(int, self.tokenizer.convert_tokens_to_ids(piece)))
            elif piece:
                ids += self.tokenizer(piece, add_special_tokens=False)["input_ids"]
        return ids

    def prepare(self, text: str, wave: Float32[np.ndarray, " time"]) -> BatchFeature:
        """Log-mels by windows, and as many placeholders as the model makes embeddings of them."""
        settings = dict(self.processor.audio_kwargs)
        frames = settings.pop("max_source_positions")
        mels = self.processor._retrieve_input_features([wave], frames, **settings)
        config = self.model.config.audio_config
        count = len(mels) * (frames // 2 * config.hidden_size // config.intermediate_size)
        before, after = map(self._ids, text.split("[AUDIO]"))
        ids = torch.cat([before, before.new_full((count,), self.placeholder), after])[None]
        return BatchFeature({"input_ids": ids, "attention_mask": torch.ones_like(ids), "input_features": mels})
