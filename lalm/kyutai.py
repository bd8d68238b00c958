"""Kyutai's speech to text: no prompt; text runs beside the audio, a token a frame, some frames late."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, PreTrainedModel, ProcessorMixin

from ..errors import ModelError
from .base import LALM
from .batching import AudioFeatures, PromptTemplate, pad_rows
from .constrained_decoding import is_constrained
from .gating import find_sites


class KyutaiSpeechToText(LALM):
    """`KyutaiSpeechToTextForConditionalGeneration`.

    Masks run, greedily; they cannot be trained here, since a target would need a time for each token.
    """

    def __init__(self, name: str, model: PreTrainedModel, processor: ProcessorMixin) -> None:
        super().__init__(name, model, processor.tokenizer, PromptTemplate("", ""), find_sites(model.model))
        self.processor = processor
        self.rate = int(processor.feature_extractor.sampling_rate)

    def _encode(self, waves: Sequence[Float32[np.ndarray, " _"]]) -> AudioFeatures:
        """Embeddings of the codec's tokens: at each step those of the frame before, at the first the start token's."""
        rows = []
        for wave in waves:
            values = self.processor(audio=[wave], return_tensors="pt")["input_values"].to(
                self.device, self.model.codec_model.dtype
            )
            codes = self.model.codec_model.encode(values).audio_codes[0].T
            steps = values.shape[-1] // self.model.config.codec_config.frame_size
            start = torch.full_like(codes[:1], self.model.config.audio_bos_token_id)
            rows.append(self._embed_codes(torch.cat([start, codes])[:steps]))
        embeds, mask = pad_rows(rows, "right")
        return AudioFeatures(embeds, mask.sum(1).cpu())

    def _embed_codes(self, codes: Int[Tensor, "step codebook"]) -> Float[Tensor, "step width"]:
        embedding = self.model.model.embed_tokens
        return embedding.embed_tokens(codes + embedding.audio_tokens_offsets[1:]).sum(1)

    can_score = False

    def _answer_logits(
        self, features: AudioFeatures, answers: Sequence[Tensor], prompts: Sequence[str]
    ) -> Float[Tensor, "token vocabulary"]:
        raise ModelError(f"{self.name} writes a token for each frame of audio; targets without times cannot train a mask for it")

    def _continue(self, features: AudioFeatures, prompts: Sequence[str], settings: GenerationConfig) -> Int[Tensor, "row token"]:
        """One token a frame, whatever `max_new_tokens` says."""
        if any(prompts):
            raise ModelError(f"{self.name} takes no prompt; give it a mask")
        if is_constrained():
            raise ModelError(f"{self.name} writes while it listens, so its answers cannot be constrained; use --unconstrained")
        if settings.num_beams > 1:
            raise ModelError(f"{self.name} writes a token for each frame, greedily, without beams; leave out --beams")
        cache, words = DynamicCache(config=self.model.config), self.model.model.embed_tokens.embed_tokens
        ids = [features.lengths.new_full((len(features),), self.model.config.bos_token_id).to(self.device)]
        for step in range(int(features.lengths.max())):
            embeds = (words(ids[-1]) + features.embeds[:, step])[:, None]
            ids.append(self.model(inputs_embeds=embeds, past_key_values=cache, use_cache=True).logits[:, -1].argmax(-1))
        found = torch.stack(ids[1:], 1)
        over = torch.arange(found.shape[1])[None] >= features.lengths[:, None]
        return found.masked_fill(over.to(found.device), self.pad_token)

    def _truncated(self, ids: Int[Tensor, "row token"], max_new_tokens: int) -> list[bool]:
        """An answer ends with its audio."""
        return [False] * len(ids)
