"""Tiny random stand-ins for Qwen's families whose encoder takes sound of any length in small chunks.

All are called as `processor(text=..., audio=..., return_tensors="pt", padding=True)`, with the audio token once in each
text. In all of them the decoder is `model.model.language_model`, is called with `inputs_embeds=`, and there is neither
softcapping nor anything else a layer needs.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
    Qwen2_5OmniProcessor,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen3ASRConfig,
    Qwen3ASRFeatureExtractor,
    Qwen3ASRForConditionalGeneration,
    Qwen3ASRProcessor,
    Qwen3OmniMoeProcessor,
    Qwen3OmniMoeThinkerConfig,
    Qwen3OmniMoeThinkerForConditionalGeneration,
    WhisperFeatureExtractor,
)

from .parts import small_decoder
from .tokenizer import chat_template, tiny_tokenizer
from .weights import ready

MELS = 16


def without_sight(processor: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """An omni processor's class that can be made without processors of images and videos.

    The released ones cannot be: they need torchvision even where only audio is heard.
    """

    def check(self: ProcessorMixin, name: str, argument: Any) -> Any:
        return None if argument is None else super(made, self).check_argument_for_proper_class(name, argument)

    made = type(processor.__name__, (processor,), {"check_argument_for_proper_class": check})
    return made


def _omni_tokenizer(audio: str, start: str, end: str, image: str, video: str) -> PreTrainedTokenizerBase:
    named = {
        "image_token": image,
        "audio_token": audio,
        "video_token": video,
        "vision_bos_token": "<|vision_start|>",
        "vision_eos_token": "<|vision_end|>",
        "audio_bos_token": start,
        "audio_eos_token": end,
    }
    return tiny_tokenizer("<|im_start|>", "<|im_end|>", *named.values(), pad="<|endoftext|>", eos="<|im_end|>", **named)


def _audio(**extra: Any) -> dict[str, Any]:
    """A small encoder's settings."""
    return {
        "num_mel_bins": MELS,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 64,
        "d_model": 32,
        "output_dim": 32,
        **extra,
    }


def build_qwen2_5_omni() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Qwen2.5-Omni's thinker: `<|audio_bos|><|AUDIO|><|audio_eos|>`, id in `config.audio_token_index` (also `audio_token_id`).

    Takes `input_features` and `feature_attention_mask`. `model.get_audio_features(input_features, feature_attention_mask)`
    holds all clips' embeddings, flat, in `last_hidden_state` (and in `pooler_output`). Clips are padded to the window and
    cut there, but the encoder sees only what is real. Positions are (3, row, token), all three alike where there are no
    images, and left padding does not count. `model.model.rope_deltas` remembers the last prompt's.
    """
    torch.manual_seed(5)
    tokenizer = _omni_tokenizer("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>", "<|IMAGE|>", "<|VIDEO|>")
    template = chat_template("<|audio_bos|><|AUDIO|><|audio_eos|>", "You are a helpful assistant.")
    features = WhisperFeatureExtractor(feature_size=MELS, chunk_length=4)
    processor = without_sight(Qwen2_5OmniProcessor)(None, None, features, tokenizer, chat_template=template)
    mrope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2]}
    config = Qwen2_5OmniThinkerConfig(
        text_config=small_decoder(tokenizer, rope_parameters=mrope, tie_word_embeddings=False),
        audio_config=_audio(n_window=50, max_source_positions=200),
        vision_config={"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32},
        audio_token_index=tokenizer.audio_token_id,
        image_token_index=tokenizer.image_token_id,
        video_token_index=tokenizer.video_token_id,
        audio_start_token_id=tokenizer.audio_bos_token_id,
        vision_start_token_id=tokenizer.vision_bos_token_id,
        audio_end_token_id=tokenizer.audio_eos_token_id,
    )
    return ready(Qwen2_5OmniThinkerForConditionalGeneration(config), tokenizer), processor


def build_qwen3_omni() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Qwen3-Omni's thinker: `<|audio_start|><|audio_pad|><|audio_end|>`, id in `config.audio_token_id`; a mixture of experts.

    Takes `input_features` and `feature_attention_mask`; `model.get_audio_features` as in Qwen2.5-Omni. Clips are padded to
    the longest and never cut. 100 frames make 13 embeddings, whatever the settings say. Queries and keys are normalised
    head by head. Positions as in Qwen2.5-Omni.
    """
    torch.manual_seed(6)
    tokenizer = _omni_tokenizer("<|audio_pad|>", "<|audio_start|>", "<|audio_end|>", "<|image_pad|>", "<|video_pad|>")
    template = chat_template("<|audio_start|><|audio_pad|><|audio_end|>")
    features = WhisperFeatureExtractor(feature_size=MELS)
    processor = without_sight(Qwen3OmniMoeProcessor)(None, None, features, tokenizer, chat_template=template)
    mrope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2], "mrope_interleaved": True}
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    config = Qwen3OmniMoeThinkerConfig(
        text_config=small_decoder(tokenizer, rope_parameters=mrope, **experts),
        audio_config=_audio(n_window=50, n_window_infer=200, max_source_positions=200, downsample_hidden_size=8),
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 32,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        audio_token_id=tokenizer.audio_token_id,
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
        audio_start_token_id=tokenizer.audio_bos_token_id,
        vision_start_token_id=tokenizer.vision_bos_token_id,
    )
    return ready(Qwen3OmniMoeThinkerForConditionalGeneration(config), tokenizer), processor


# A user's text is ignored: what the model may know is said by the system.
ASR_TEMPLATE = """
{%- macro said(message) %}
{%- if message.content is string %}{{ message.content }}{% else %}
{%- for part in message.content if part.type == 'text' %}{{ part.text }}{% endfor %}
{%- endif %}
{%- endmacro -%}
<|im_start|>system
{% for message in messages if message.role == 'system' %}{{ said(message) }}{% endfor %}<|im_end|>
<|im_start|>user
{% for message in messages if message.content is not string %}
{%- for part in message.content if part.type == 'audio' %}<|audio_start|><|audio_pad|><|audio_end|>{% endfor %}
{%- endfor %}<|im_end|>
{% for message in messages if message.role == 'assistant' %}<|im_start|>assistant
{{ said(message) }}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def build_qwen3_asr() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Qwen3-ASR: `<|audio_start|><|audio_pad|><|audio_end|>`, id in `config.audio_token_id`.

    Takes `input_features` and `input_features_mask`, padded to whole chunks of 100 frames. `model.get_audio_features(
    input_features, input_features_mask).pooler_output` holds all clips' embeddings, flat. Clips under half a second are
    filled up. Decoder and head share a matrix. Positions count from 0. Its chat template leaves out what the user writes.
    The processor wants audio in every call, one a text.
    """
    torch.manual_seed(7)
    named = {"audio_token": "<|audio_pad|>", "audio_bos_token": "<|audio_start|>", "audio_eos_token": "<|audio_end|>"}
    tokens = ["<|im_start|>", "<|im_end|>", *named.values(), "<asr_text>", "<timestamp>"]
    tokenizer = tiny_tokenizer(*tokens, pad="<|endoftext|>", eos="<|im_end|>", **named)
    processor = Qwen3ASRProcessor(Qwen3ASRFeatureExtractor(feature_size=MELS), tokenizer, chat_template=ASR_TEMPLATE)
    config = Qwen3ASRConfig(
        text_config=small_decoder(tokenizer, model_type="qwen3", tie_word_embeddings=True),
        audio_config=_audio(model_type="qwen3_asr_encoder", n_window_infer=200, downsample_hidden_size=8),
        audio_token_id=tokenizer.audio_token_id,
        timestamp_token_id=tokenizer.convert_tokens_to_ids("<timestamp>"),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return ready(Qwen3ASRForConditionalGeneration(config), tokenizer), processor


FAMILIES: dict[str, Callable[[], tuple[PreTrainedModel, ProcessorMixin]]] = {
    "qwen2_5_omni": build_qwen2_5_omni,
    "qwen3_omni": build_qwen3_omni,
    "qwen3_asr": build_qwen3_asr,
}
