"""SALMONN as a `LALM`: its audio encoder, and a Vicuna with LoRA merged in."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, WhisperFeatureExtractor

from ...data.audio import Channels
from ...errors import ModelError
from ..base import LALM
from ..batching import AudioFeatures, PromptTemplate
from ..devices import Placement
from ..gating import find_sites
from ..loading import read_model, read_pretrained
from .beats import read_beats
from .encoder import AudioEncoder, SpeechEncoder
from .files import find_files, read_tensors
from .lora import TARGETS, is_lora, merge_lora
from .qformer import QFormerSettings, read_qformer
from .tokenizer import read_tokenizer

SHORTEST = 1.0  # seconds; shorter clips are padded with silence, which counts as audio


class Salmonn(LALM):
    """SALMONN (Tang et al. 2024), any size.

    Attributes:
        encoder: from waveforms to audio embeddings.
        lora: the tensors that were merged into the language model; they are part of what the model is.
        lora_alpha: their weight times their rank.
    """

    channels: Channels = "first"

    def __init__(
        self,
        name: str,
        model: LlamaForCausalLM,
        tokenizer: PreTrainedTokenizerBase,
        template: PromptTemplate,
        encoder: AudioEncoder,
        lora: Mapping[str, Tensor],
        lora_alpha: float,
    ) -> None:
        super().__init__(name, model, tokenizer, template, find_sites(model.get_decoder()))
        self.encoder, self.lora = encoder.eval().requires_grad_(False), dict(lora)
        self.lora_alpha = lora_alpha
        self.longest = float(encoder.extractor.chunk_length)

    def _encode(self, waves: Sequence[Float32[np.ndarray, " _"]]) -> AudioFeatures:
        """Both encoders and the Q-Former: 88 embeddings for each clip, however long it is."""
        return self._encode_batch(waves, batch_like_authors=False)

    @torch.no_grad()
    def encode_like_authors(self, waves: Sequence[Float32[np.ndarray, " _"]]) -> AudioFeatures:
        """As `encode`, but a clip's embeddings depend on its batch as in the released code; see `AudioEncoder.forward`."""
        return self._encode_batch(waves, batch_like_authors=True)

    def _encode_batch(self, waves: Sequence[Float32[np.ndarray, " _"]], batch_like_authors: bool) -> AudioFeatures:
        padded = [self._pad_to_minimum(wave) for wave in waves]
        embeds = self.encoder(padded, batch_like_authors).to(self.device, self.model.dtype)
        return AudioFeatures(embeds, torch.full((len(embeds),), embeds.shape[1]))

    def _pad_to_minimum(self, wave: Float32[np.ndarray, " time"]) -> Float32[np.ndarray, " longertime"]:
        return np.pad(wave, (0, max(0, round(SHORTEST * self.rate) - len(wave))))

    def _prompt_embeds(self, features: AudioFeatures, prompts: Sequence[str]) -> list[Tensor]:
        return super()._prompt_embeds(features, [text.strip() for text in prompts])

    def _facts(self) -> dict[str, Any]:
        qformer = self.encoder.qformer
        windows = [qformer.window, qformer.stride, qformer.qformer.config.num_attention_heads]
        return super()._facts() | {"type": "salmonn", "lora_alpha": self.lora_alpha, "windows": windows}

    def _weights(self) -> Iterator[Tensor]:
        """LoRA apart from the weights that it was merged into, which the precision of loading changes."""
        for name, parameter in self.model.named_parameters():
            if not any(f".{target}." in name for target in TARGETS):
                yield parameter
        yield from self.encoder.parameters()
        yield from self.lora.values()


def prompt_template(prompt: str, start: str) -> PromptTemplate:
    """SALMONN's prompt around the audio; `start` is the token that all begins with.

    Without a prompt a space stays in front of what follows, as in training.
    """
    before, _, after = prompt.partition("{}")
    return PromptTemplate(f"{start}{before}<Speech>", "</Speech> {}" + after)


def load_salmonn(name: str, placement: Placement) -> Salmonn:
    """SALMONN from a folder of its official files.

    Args:
        name: the folder; see `files.find_files`.
        placement: where the model goes, and the language model's precision. The encoders and the Q-Former always compute
            in float32.

    Raises:
        ModelError: a file is missing, damaged, or does not belong to the others.
    """
    if placement.spread:
        raise ModelError(f"{name}: SALMONN cannot be spread over cards; give one, such as --device cuda, or --dtype bfloat16")
    files = find_files(Path(name))
    tensors = read_tensors(files.checkpoint)["model"]
    # What is small or quick to check comes before the language model.
    tokenizer, beats = read_tokenizer(files.llm), read_beats(files.beats)
    extractor = read_pretrained(WhisperFeatureExtractor, files.whisper, local_files_only=True)
    config = read_pretrained(LlamaConfig, files.llm, local_files_only=True)
    how = {"dtype": "float32", "local_files_only": True}
    whisper = read_model(SpeechEncoder, files.whisper, key_mapping={r"^(model\.)?encoder\.": ""}, **how)
    per_second = whisper.config.max_source_positions / extractor.chunk_length
    frames = round(per_second * files.seconds_per_window), round(per_second * files.seconds_per_stride)
    widths = whisper.config.d_model, beats.settings.encoder_embed_dim, config.hidden_size
    qformer = read_qformer(tensors, QFormerSettings.read(files.qformer), widths, frames, files.checkpoint)
    encoder = AudioEncoder(extractor, whisper, beats, qformer).to(placement.device)
    llm = placement.settle(read_model(LlamaForCausalLM, files.llm, local_files_only=True, **placement.arguments()))
    merge_lora(llm, tensors, files.lora_alpha, files.checkpoint)
    lora = {name: tensor for name, tensor in tensors.items() if is_lora(name)}
    return Salmonn(name, llm, tokenizer, prompt_template(files.prompt, tokenizer.bos_token), encoder, lora, files.lora_alpha)
