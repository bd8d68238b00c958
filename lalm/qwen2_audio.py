"""Qwen2-Audio, and with it the pocket model: Whisper-style encoder, linear projector, Qwen2 decoder."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pydantic
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor, nn
from transformers import GenerationConfig, Qwen2AudioForConditionalGeneration, Qwen2AudioProcessor
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder

from ..data.silence import cut_silence
from ..errors import ModelError
from .base import LALM
from .batching import AudioFeatures, PromptTemplate, pad_rows
from .fixed_audio import audio_cache, causal, text_states
from .gating import find_sites

# Base: plain continuation, no chat. Instruct: the chat format of its model card with neither a system prompt nor
# "Audio 1:", which the processor's own chat template would put in.
BASE_TEMPLATE = PromptTemplate("<|audio_bos|>", "<|audio_eos|>{}")
INSTRUCT_TEMPLATE = PromptTemplate(
    "<|im_start|>user\n<|audio_bos|>", "<|audio_eos|>\n{}<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>"
)

SETUP_FILE = "amask.json"
BEHIND = 4  # mel frames that are kept behind the longest clip; the convolutions hear two of them


class AudioOptions(pydantic.BaseModel):
    """What a model needs of its audio beyond the class's own processing.

    Attributes:
        silence: seconds of silence that are kept at most before and behind a clip; None for all there is.
        tail: seconds of silence that are put behind it then, for an encoder that was trained on padded clips.
        longest: seconds of a clip at most; None for all that the window holds.
        fixed_audio: the audio's positions never change on their way through the layers, see `fixed_audio`.
        fixed_layers: layers whose heads no mask may switch, such as one that counts positions.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    silence: pydantic.NonNegativeFloat | None = None
    tail: pydantic.NonNegativeFloat = 0.0
    longest: pydantic.PositiveFloat | None = None
    fixed_audio: bool = False
    fixed_layers: tuple[pydantic.NonNegativeInt, ...] = ()


class Setup(AudioOptions):
    """How a model is spoken to: `amask.json` in its folder, beside transformers' own files."""

    before: str
    after: str
    end: str = ""


def read_setup(name: str, ends: Collection[str]) -> tuple[PromptTemplate, AudioOptions]:
    """The text around the audio, and what the model needs of the audio.

    Without a setup file the text is that of Instruct where answers end as turns of a chat do, by the model's own files, or
    where a Hub id says "instruct"; else that of Base. What a folder is called says nothing.

    Args:
        name: a folder or Hub id.
        ends: the tokens at which answers end by the model's own files.

    Raises:
        ModelError: `amask.json` is damaged.
    """
    file = Path(name) / SETUP_FILE
    if file.is_file():
        try:
            found = Setup.model_validate_json(file.read_bytes())
        except (OSError, pydantic.ValidationError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ModelError(f"cannot read {file}: {reason}; expected {', '.join(Setup.model_fields)}") from None
        options = AudioOptions.model_validate(found.model_dump(exclude={"before", "after", "end"}))
        return PromptTemplate(found.before, found.after, found.end), options
    chats = INSTRUCT_TEMPLATE.end in ends or (not Path(name).is_dir() and "instruct" in Path(name).name.lower())
    return INSTRUCT_TEMPLATE if chats else BASE_TEMPLATE, AudioOptions()


def hidden_states(
    tower: Qwen2AudioEncoder, mels: Float[Tensor, "row mel frame"], frames: Int[Tensor, " row"]
) -> Float[Tensor, "row position width"]:
    """The states of the encoder's last layer, with the padding masked out and none computed far behind the longest clip.

    A clip of 3 s costs a tenth of a window of 30 s. All that a real position hears of the padding are the two mel frames behind
    the clip that the convolutions see, and these are kept.

    Args:
        tower: the encoder.
        mels: log-mels, padded as its feature extractor does.
        frames: mel frames of each clip.
    """
    mels = mels[..., : -(-(int(frames.max()) + BEHIND) // 4) * 4]
    hidden = nn.functional.gelu(tower.conv2(nn.functional.gelu(tower.conv1(mels)))).mT
    positions = torch.arange(hidden.shape[1], device=hidden.device)
    hidden = hidden + tower.embed_positions(positions)
    lengths = tower._get_feat_extract_output_lengths(cast(torch.LongTensor, frames))[0]
    real = (positions < lengths[:, None]).long()
    mask = create_bidirectional_mask(config=tower.config, inputs_embeds=hidden, attention_mask=real)
    for layer in tower.layers:
        hidden = layer(hidden, mask)
    return hidden


def add_tail(wave: Float32[np.ndarray, " time"], rate: int, seconds: float) -> Float32[np.ndarray, " longer"]:
    """A clip with silence behind it, in seconds."""
    return np.concatenate([wave, np.zeros(round(seconds * rate), np.float32)])


def pool(tower: Qwen2AudioEncoder, hidden: Float[Tensor, "row position width"]) -> Float[Tensor, "row half width"]:
    """The encoder's output, of two states each."""
    return tower.layer_norm(tower.avg_pooler(hidden.mT).mT)


class TiedQwen2Audio(Qwen2AudioForConditionalGeneration):
    """Qwen2-Audio whose output head is its embedding table, which transformers' own class does not offer."""

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}


class Qwen2Audio(LALM):
    """Any `Qwen2AudioForConditionalGeneration` with its processor."""

    def __init__(
        self,
        name: str,
        model: Qwen2AudioForConditionalGeneration,
        processor: Qwen2AudioProcessor,
        template: PromptTemplate,
        audio: AudioOptions | None = None,
    ) -> None:
        self.audio = audio or AudioOptions()
        super().__init__(name, model, processor.tokenizer, template, find_sites(model.get_decoder()), self.audio.fixed_layers)
        self.processor = processor
        window = float(processor.feature_extractor.chunk_length)
        self.longest = min(window, self.audio.longest or window)

    def _encode(self, waves: Sequence[Float32[np.ndarray, " _"]]) -> AudioFeatures:
        """Log-mels over the whole window, audio encoder over as much of it as the longest clip takes, projector."""
        if self.audio.silence is not None:
            waves = [cut_silence(wave, self.rate, self.audio.silence) for wave in waves]
        inputs = self.processor.feature_extractor(
            [add_tail(wave, self.rate, self.audio.tail) for wave in waves],
            sampling_rate=self.rate,
            return_attention_mask=True,
            padding="max_length",
            return_tensors="pt",
        )
        tower = self.model.model.audio_tower
        frames = inputs["attention_mask"].sum(-1).to(self.device)
        hidden = hidden_states(tower, inputs["input_features"].to(self.device, tower.dtype), frames)
        pooled = tower._get_feat_extract_output_lengths(frames)[1].cpu()
        embeds = self.model.model.multi_modal_projector(pool(tower, hidden))
        return AudioFeatures(embeds[:, : int(pooled.max())].to(self.device), pooled)

    def _contexts(self, features: AudioFeatures, prompts: Sequence[str]) -> list[Tensor]:
        """As for every model; where the audio's positions never change, only the text."""
        if not self.audio.fixed_audio:
            return super()._contexts(features, prompts)
        embed = self.model.get_input_embeddings()
        before = self._ids(self.template.before)
        return [embed(torch.cat([before, self._ids(self.template.after.format(text))])) for text in prompts]

    def _states(
        self,
        features: AudioFeatures,
        embeds: Float[Tensor, "row position width"],
        positions: Int[Tensor, "row position"] | None = None,
        seen: Bool[Tensor, "row query key"] | None = None,
    ) -> Float[Tensor, "row position width"]:
        """As for every model; where the audio's positions never change, only text runs through the layers."""
        if not self.audio.fixed_audio:
            return super()._states(features, embeds, positions, seen)
        sees = causal(embeds.shape[1], embeds.device).expand(len(embeds), -1, -1) if seen is None else seen
        return text_states(self.decoder, features.embeds, self._heard(features), embeds, sees)

    def _continue(self, features: AudioFeatures, prompts: Sequence[str], settings: GenerationConfig) -> Int[Tensor, "row token"]:
        """As for every model; where the audio's positions never change, from a cache that holds them already."""
        if not self.audio.fixed_audio:
            return super()._continue(features, prompts, settings)
        rows = self._contexts(features, prompts)
        null = torch.stack([row[:1] for row in rows])
        text, real = pad_rows([row[1:] for row in rows], "left")
        cache = audio_cache(self.decoder, features.embeds, null)
        if settings.num_beams and settings.num_beams > 1:
            cache.batch_repeat_interleave(settings.num_beams)
        mask = torch.cat([real.new_ones(len(rows), 1), self._heard(features).to(real.dtype), real], 1)
        embeds = torch.cat([null, features.embeds, text], 1)  # of which `generate` takes what the cache does not hold
        return self._search(settings, inputs_embeds=embeds, attention_mask=mask, past_key_values=cache)

    def _heard(self, features: AudioFeatures) -> Bool[Tensor, "row audio"]:
        """Which of the audio's positions are real."""
        at = torch.arange(features.embeds.shape[1], device=self.device)
        return at[None] < features.lengths.to(self.device)[:, None]


def from_files(
    name: str, model: Qwen2AudioForConditionalGeneration, processor: Qwen2AudioProcessor, folder: str = ""
) -> Qwen2Audio:
    """A loaded model with the text around the audio that its files ask for.

    Args:
        name: how users call it.
        model: as loaded.
        processor: its own.
        folder: where it lies; by default `name`.

    Raises:
        ModelError: `amask.json` is damaged.
    """
    own = model.generation_config.eos_token_id
    ids = {*(own if isinstance(own, list) else [own]), processor.tokenizer.eos_token_id} - {None}
    ends = processor.tokenizer.convert_ids_to_tokens(sorted(ids))
    return Qwen2Audio(name, model, processor, *read_setup(folder or name, ends))
