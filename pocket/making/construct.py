"""The pocket model before any training: Whisper's encoder, projector and causal decoder in Qwen2-Audio's classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Qwen2AudioForConditionalGeneration,
    WhisperForConditionalGeneration,
)
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder

from ...data.manifest import Clip
from ..architecture import KEPT_SPECIAL, NO_TIMES, START, build_model, kept_tokens, prune_tokenizer
from .encoder import last_layer, load_whisper, start_encoder
from .store import FrameStore
from .whisper_decoder import DecoderBuilder, DecoderShape
from .whisper_moments import Moments, measure_moments

MEASURED = 120  # clips that the decoder's moments are measured on


@dataclass(frozen=True)
class Constructed:
    """The model with its tokenizer, and the builder, which knows what stands where."""

    model: Qwen2AudioForConditionalGeneration
    tokenizer: PreTrainedTokenizerFast
    builder: DecoderBuilder


def clip_moments(
    whisper: WhisperForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    tower: Qwen2AudioEncoder,
    store: FrameStore,
    clips: Sequence[Clip],
) -> Moments:
    """The moments of Whisper's decoder on the first people's sentences of the corpus, with their transcripts."""
    spoken = [at for at, clip in enumerate(clips) if clip.kind == "person" and clip.split == "train" and clip.labels.get("asr")]
    start = cast(list[int], tokenizer.convert_tokens_to_ids([START, NO_TIMES]))
    states, tokens = [], []
    for at in spoken[:MEASURED]:
        rows, lengths = store.batch([at])
        with torch.no_grad():
            output, _ = last_layer(tower, rows, lengths)
        states.append(output[0])
        tokens.append(torch.tensor([*start, *tokenizer.encode(" " + clips[at].labels["asr"], add_special_tokens=False)]))
    return measure_moments(whisper, states, tokens)


def construct(name: str, shape: DecoderShape, store: FrameStore, clips: Sequence[Clip]) -> Constructed:
    """Build the pocket model from a Whisper model.

    Args:
        name: Hub id or folder of an English-only Whisper.
        shape: sizes of the language model.
        store: states before the encoder's last layer.
        clips: all clips, in the store's order.

    Raises:
        ModelError: Whisper cannot be loaded, or is not an English-only one.
    """
    whisper, own = load_whisper(name), AutoTokenizer.from_pretrained(name)
    assert isinstance(own, PreTrainedTokenizerFast)
    kept = kept_tokens(own, shape.vocabulary)
    tokenizer, tower = prune_tokenizer(own, kept), start_encoder(whisper)
    kept += cast(list[int], own.convert_tokens_to_ids(list(KEPT_SPECIAL)))
    builder = DecoderBuilder(whisper, shape, clip_moments(whisper, own, tower, store, clips), kept, extra=1)
    model = build_model(whisper.config, builder.model.config.to_dict(), tokenizer)
    with torch.no_grad():
        model.model.audio_tower.load_state_dict(tower.state_dict())
        model.model.language_model.load_state_dict(builder.model.model.state_dict())
        weight, bias = builder.projector()
        model.model.multi_modal_projector.linear.weight.copy_(weight)
        model.model.multi_modal_projector.linear.bias.copy_(bias)
    model.tie_weights()
    return Constructed(model, tokenizer, builder)
