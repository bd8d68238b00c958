"""A tiny random stand-in for Voxtral, whose processor is unlike all others."""

import base64
import io
from collections.abc import Callable
from typing import Any

import soundfile as sf
import torch
from transformers import (
    BatchEncoding,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    VoxtralConfig,
    VoxtralEncoderConfig,
    VoxtralForConditionalGeneration,
    VoxtralProcessor,
    WhisperFeatureExtractor,
)

from .parts import small_decoder
from .tokenizer import tiny_tokenizer
from .weights import ready

MELS = 16
SECONDS = 2  # of a window: 30 in the released models
# Ids count from 0 in this order; the processor takes it for granted that 24 is the audio token.
TOKENS = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", *(f"<SPECIAL_{i}>" for i in range(5, 11)), "<pad>"]
TOKENS += [*(f"<SPECIAL_{i}>" for i in range(12, 24)), "[AUDIO]", "[BEGIN_AUDIO]", "[TRANSCRIBE]"]


class MistralCommonLike(PreTrainedTokenizerFast):
    """What transformers' wrapper around mistral-common does beyond an ordinary tokenizer, which it replaces if installed.

    Text never becomes special tokens, and there is no chat template: chats become tokens directly, with as many audio
    tokens as the sound takes, and their sound comes back as waveforms.
    """

    def apply_chat_template(self, conversations: list[list[dict[str, Any]]], **kwargs: Any) -> BatchEncoding:
        """Tokens of chats of one user's turn each, and the sound in them."""
        rows, waves = [], []
        for (turn,) in conversations:
            text = "".join(part.get("text", "") for part in turn["content"])
            files = [io.BytesIO(base64.b64decode(part["base64"])) for part in turn["content"] if part["type"] == "audio"]
            row = ["<s>", "[INST]"]
            for wave in (sf.read(file, dtype="float32")[0] for file in files):
                waves.append(wave)
                row += ["[BEGIN_AUDIO]", *["[AUDIO]"] * audio_tokens(len(wave))]
            ids = self.convert_tokens_to_ids(row) + self(text, add_special_tokens=False)["input_ids"]
            rows.append([*ids, self.convert_tokens_to_ids("[/INST]")])
        return BatchEncoding({**self.pad({"input_ids": rows}, padding_side="left"), "audio": waves})


def audio_tokens(samples: int) -> int:
    """How many audio tokens so much sound takes: the windows that it begins, each whole, at 12.5 tokens a second."""
    windows = -(-samples // (SECONDS * 16_000))
    return windows * SECONDS * 25 // 2


def build_voxtral(mistral_common: bool = False) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Voxtral: `<s>[INST][BEGIN_AUDIO][AUDIO]…`, text, `[/INST]`; the audio token's id is 24, in `config.audio_token_id`.

    The processor cannot be called with audio: `processor(text)` refuses `[AUDIO]` and makes no placeholders. With
    mistral-common, `processor.apply_chat_template(chats)` does it all, from files and base64, never from arrays. Without
    it the tokenizer is an ordinary one and has no chat template, and that method raises. So one builds the row of tokens
    by hand; `processor._retrieve_input_features(waves, **kwargs)`, with the values of
    `processor.audio_kwargs`, gives the log-mels, one row a *window*. Takes `input_features` and no mask: silence that
    fills up a window is heard, too, and each window is the same number of embeddings. `model.get_audio_features(
    input_features).pooler_output` holds them flat. Otherwise as the other Whisper-like families: the decoder is
    `model.model.language_model`, called with `inputs_embeds=`, and positions count from 0.

    Args:
        mistral_common: with the tokenizer that one gets where mistral-common is installed, or rather a likeness of it.
    """
    torch.manual_seed(8)
    cls = MistralCommonLike if mistral_common else PreTrainedTokenizerFast
    named = {"bos_token": "<s>", "unk_token": "<unk>", "padding_side": "left", "split_special_tokens": mistral_common}
    tokenizer = tiny_tokenizer(*TOKENS, pad="<pad>", eos="</s>", cls=cls, first=True, **named)
    processor = VoxtralProcessor(WhisperFeatureExtractor(feature_size=MELS, chunk_length=SECONDS), tokenizer)
    window = {"pad_to_multiple_of": SECONDS * 16_000, "max_source_positions": SECONDS * 100}
    processor.audio_kwargs = VoxtralProcessor.audio_kwargs | window
    config = VoxtralConfig(
        text_config=LlamaConfig(**small_decoder(tokenizer, bos_token_id=tokenizer.bos_token_id)),
        audio_config=VoxtralEncoderConfig(
            num_mel_bins=MELS,
            hidden_size=32,
            intermediate_size=128,  # four positions' numbers: it is also the projector's input
            num_hidden_layers=2,
            num_attention_heads=2,
            max_source_positions=SECONDS * 50,
        ),
        audio_token_id=processor.audio_token_id,
    )
    return ready(VoxtralForConditionalGeneration(config), tokenizer), processor


FAMILIES: dict[str, Callable[[], tuple[PreTrainedModel, ProcessorMixin]]] = {"voxtral": build_voxtral}
