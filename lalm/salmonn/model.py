"""SALMONN as a `LALM`: its ears, and a Vicuna with LoRA merged in."""

import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from safetensors import SafetensorError
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase, WhisperFeatureExtractor

from ...data.audio import Channels
from ...errors import AudioError, ModelError
from ..assembly import AudioFeatures, PromptTemplate
from ..base import LALM
from ..gating import find_sites
from .beats import read_beats
from .ears import Ears, SpeechEncoder
from .files import find_files, read_tensors
from .lora import TARGETS, is_lora, merge_lora
from .qformer import QFormerSettings, read_qformer
from .tokenizer import read_tokenizer

SHORTEST = 1.0  # seconds; shorter clips are padded with silence, which counts as audio


class Salmonn(LALM):
    """SALMONN (Tang et al. 2024), any size.

    Attributes:
        ears: from waveforms to audio embeddings.
        lora: the tensors that were merged into the language model; they are part of what the model is.
    """

    channels: Channels = "first"

    def __init__(
        self,
        name: str,
        model: LlamaForCausalLM,
        tokenizer: PreTrainedTokenizerBase,
        template: PromptTemplate,
        ears: Ears,
        lora: Mapping[str, Tensor],
    ) -> None:
        super().__init__(name, model, tokenizer, template, find_sites(model.get_decoder()))
        self.ears, self.lora = ears.eval().requires_grad_(False), dict(lora)
        self.longest = float(ears.extractor.chunk_length)

    @torch.no_grad()
    def encode(self, waves: Sequence[Float32[np.ndarray, " _"]], *, batch_like_authors: bool = False) -> AudioFeatures:
        """Both encoders and the Q-Former: 88 embeddings for each clip, however long it is.

        Args:
            waves: clips, mono, at `rate`.
            batch_like_authors: let a clip's embeddings depend on its batch as in the released code; see `Ears.forward`.

        Raises:
            AudioError: a clip is longer than the model hears.
        """
        embeds = self.ears([self._fitting(wave) for wave in waves], batch_like_authors).to(self.device, self.model.dtype)
        return AudioFeatures(embeds, torch.full((len(embeds),), embeds.shape[1]))

    def _fitting(self, wave: Float32[np.ndarray, " time"]) -> Float32[np.ndarray, " longertime"]:
        if len(wave) > self.longest * self.rate:
            seconds = round(len(wave) / self.rate, 2)
            raise AudioError(f"a clip is {seconds} s long, {self.name} hears at most {self.longest} s; cut it")
        return np.pad(wave, (0, max(0, round(SHORTEST * self.rate) - len(wave))))

    def _prompt_rows(self, features: AudioFeatures, instructions: Sequence[str] | None) -> list[Tensor]:
        said = None if instructions is None else [text.strip() for text in instructions]
        return super()._prompt_rows(features, said)

    def _identity(self) -> Iterator[tuple[str, Tensor]]:
        """What the fingerprint is made of: LoRA apart from the weights that it was merged into, whose rounding varies."""
        for name, parameter in self.model.named_parameters():
            if not any(f".{target}." in name for target in TARGETS):
                yield name, parameter
        yield from self.ears.named_parameters(prefix="ears")
        yield from self.lora.items()


def prompt_template(prompt: str, start: str) -> PromptTemplate:
    """SALMONN's prompt around the audio; `start` is the token that all begins with.

    Without an instruction a space stays in front of what follows, as in training.
    """
    before, _, after = prompt.partition("{}")
    return PromptTemplate(f"{start}{before}<Speech>", "</Speech> {}" + after)


def load_salmonn(name: str, device: torch.device, dtype: str | None = None) -> Salmonn:
    """SALMONN from a folder of its official files.

    Args:
        name: the folder; see `files.find_files`.
        device: where the model goes.
        dtype: of the language model; by default float32 on the CPU and its files' own elsewhere. The encoders and the
            Q-Former always compute in float32.

    Raises:
        ModelError: a file is missing, damaged, or does not belong to the others.
    """
    files = find_files(Path(name))
    tensors = read_tensors(files.checkpoint)["model"]
    # What is small or quick to check comes before the language model.
    tokenizer, beats = read_tokenizer(files.llm), read_beats(files.beats)
    extractor, config = _pretrained(WhisperFeatureExtractor, files.whisper), _pretrained(LlamaConfig, files.llm)
    whisper = _weights(SpeechEncoder, files.whisper, "float32", key_mapping={r"^(model\.)?encoder\.": ""})
    per_second = whisper.config.max_source_positions / extractor.chunk_length
    frames = round(per_second * files.seconds_per_window), round(per_second * files.seconds_per_stride)
    widths = whisper.config.d_model, beats.settings.encoder_embed_dim, config.hidden_size
    qformer = read_qformer(tensors, QFormerSettings.read(files.qformer), widths, frames, files.checkpoint)
    ears = Ears(extractor, whisper, beats, qformer).to(device)
    llm = _weights(LlamaForCausalLM, files.llm, dtype or ("float32" if device.type == "cpu" else "auto")).to(device)
    merge_lora(llm, tensors, files.lora_alpha, files.checkpoint)
    lora = {name: tensor for name, tensor in tensors.items() if is_lora(name)}
    return Salmonn(name, llm, tokenizer, prompt_template(files.prompt, tokenizer.bos_token), ears, lora)


def _pretrained(kind: type[Any], folder: Path, **how: Any) -> Any:  # noqa: ANN401
    """What transformers makes of a folder; its weights are never unpickled."""
    try:
        return kind.from_pretrained(folder, local_files_only=True, **how)
    except (OSError, EOFError, ValueError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"cannot load {folder}: {reason[0]}; download it again") from None


def _weights(kind: type[PreTrainedModel], folder: Path, dtype: str, **how: Any) -> Any:  # noqa: ANN401
    """A model, whole: transformers would fill what is missing or does not fit with random numbers."""
    how |= {"dtype": dtype, "output_loading_info": True, "ignore_mismatched_sizes": True}
    model, report = _pretrained(kind, folder, **how)
    wrong = sorted(report["missing_keys"]) + sorted(name for name, *_ in report["mismatched_keys"])
    if wrong:
        raise ModelError(f"{folder}: tensor {wrong[0]} is missing or of another shape; download it again")
    return model
