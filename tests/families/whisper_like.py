"""Tiny random stand-ins for the families with a Whisper-like encoder over whole windows of log-mels.

All are called as `processor(text=..., audio=..., return_tensors="pt", text_kwargs={"padding": True})`, with the audio
token once in each text. A plain `padding=True` would reach the audio as well, which but for Qwen2-Audio is then shorter
than a window, and the encoder refuses it. In all of them the decoder is `model.model.language_model`, is called with
`inputs_embeds=`, without `position_ids`, and so counts positions from 0; there is neither softcapping nor anything else
a layer needs.
"""

from collections.abc import Callable

import torch
from transformers import (
    AudioFlamingo3Config,
    AudioFlamingo3EncoderConfig,
    AudioFlamingo3ForConditionalGeneration,
    AudioFlamingo3Processor,
    GlmAsrConfig,
    GlmAsrEncoderConfig,
    GlmAsrForConditionalGeneration,
    GlmAsrProcessor,
    LlamaConfig,
    MusicFlamingoConfig,
    MusicFlamingoForConditionalGeneration,
    MusicFlamingoProcessor,
    NemotronConfig,
    PreTrainedModel,
    ProcessorMixin,
    Qwen2AudioConfig,
    Qwen2AudioEncoderConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    Qwen2Config,
    WhisperFeatureExtractor,
)

from .parts import small_decoder
from .tokenizer import chat_template, tiny_tokenizer
from .weights import ready

MELS = 16
SECONDS = 2  # of a window: 30 in the released models
POSITIONS = SECONDS * 50  # of the encoder, after the strided convolution


def _features() -> WhisperFeatureExtractor:
    return WhisperFeatureExtractor(feature_size=MELS, chunk_length=SECONDS)


def build_qwen2_audio() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Qwen2-Audio: `<|audio_bos|><|AUDIO|><|audio_eos|>`, id in `config.audio_token_index` (also `audio_token_id`).

    Takes `input_features` and `feature_attention_mask`. The model has no `get_audio_features`: one calls
    `model.model.audio_tower` and `model.model.multi_modal_projector`. Its `forward` knows no `logits_to_keep`. Cuts what
    is longer than a window.
    """
    torch.manual_seed(1)
    tokens = ["<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"]
    tokenizer = tiny_tokenizer(*tokens, pad="<|endoftext|>", eos="<|im_end|>", padding_side="left")
    processor = Qwen2AudioProcessor(_features(), tokenizer)  # brings its chat template along
    config = Qwen2AudioConfig(
        text_config=Qwen2Config(**small_decoder(tokenizer)),
        audio_config=Qwen2AudioEncoderConfig(
            num_mel_bins=MELS,
            encoder_layers=2,
            encoder_attention_heads=2,
            encoder_ffn_dim=64,
            d_model=32,
            max_source_positions=POSITIONS,
        ),
        audio_token_index=processor.audio_token_id,
    )
    return ready(Qwen2AudioForConditionalGeneration(config), tokenizer), processor


def build_nemotron() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Qwen2-Audio around a Nemotron decoder: layer norms, half of each head turned by its position, an MLP without gate."""
    model, processor = build_qwen2_audio()
    config = Qwen2AudioConfig(
        text_config=NemotronConfig(**small_decoder(processor.tokenizer), partial_rotary_factor=0.5, hidden_act="gelu"),
        audio_config=model.config.audio_config,
        audio_token_index=processor.audio_token_id,
    )
    torch.manual_seed(5)
    return ready(Qwen2AudioForConditionalGeneration(config), processor.tokenizer), processor


def _flamingo_encoder() -> AudioFlamingo3EncoderConfig:
    return AudioFlamingo3EncoderConfig(
        num_mel_bins=MELS,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        hidden_size=32,
        max_source_positions=POSITIONS,
    )


def build_audioflamingo3() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Audio Flamingo 3: `<sound>`, without marks around it, id in `config.audio_token_id`.

    Takes `input_features` and `input_features_mask`, one row a *window*: a long clip has several, whose embeddings follow
    each other. `model.get_audio_features(input_features, input_features_mask).pooler_output` holds all real positions of
    all windows, flat. The processor pads text on the left and wants one audio a text.
    """
    torch.manual_seed(2)
    tokenizer = tiny_tokenizer("<|im_start|>", "<|im_end|>", "<sound>", pad="<|endoftext|>", eos="<|im_end|>")
    template = chat_template("<sound>", "You are a helpful assistant.")
    processor = AudioFlamingo3Processor(_features(), tokenizer, chat_template=template)
    config = AudioFlamingo3Config(
        text_config=Qwen2Config(**small_decoder(tokenizer)),
        audio_config=_flamingo_encoder(),
        audio_token_id=processor.audio_token_id,
    )
    return ready(AudioFlamingo3ForConditionalGeneration(config), tokenizer), processor


def build_musicflamingo() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Music Flamingo: as Audio Flamingo 3, but the processor itself puts `<|sound_bos|>` and `<|sound_eos|>` around `<sound>`.

    `model.get_audio_features` needs `input_ids` as well: runs of the audio token in it tell which windows make up a clip,
    and the embeddings are turned by their time in it.
    """
    torch.manual_seed(3)
    tokens = ["<|im_start|>", "<|im_end|>", "<sound>", "<|sound_bos|>", "<|sound_eos|>"]
    tokenizer = tiny_tokenizer(*tokens, pad="<|endoftext|>", eos="<|im_end|>")
    template = chat_template("<sound>", "You are a helpful assistant for music.")
    processor = MusicFlamingoProcessor(_features(), tokenizer, chat_template=template)
    config = MusicFlamingoConfig(
        text_config=Qwen2Config(**small_decoder(tokenizer)),
        audio_config=_flamingo_encoder(),
        audio_token_id=processor.audio_token_id,
        audio_bos_token_id=processor.audio_bos_token_id,
        audio_eos_token_id=processor.audio_eos_token_id,
        rope_parameters={"rope_type": "default", "rope_theta": 1200},
    )
    return ready(MusicFlamingoForConditionalGeneration(config), tokenizer), processor


# Audio first, then a second user turn with the text.
GLM_TEMPLATE = """
{%- for message in messages -%}
<|{{ message.role }}|>
{% if message.content is string %}{{ message.content }}{% else %}
{%- for part in message.content if part.type == 'audio' %}<|begin_of_audio|><|pad|><|end_of_audio|><|user|>
{% endfor %}
{%- for part in message.content if part.type == 'text' %}{{ part.text }}{% endfor %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|assistant|>
{% endif %}"""


def build_glmasr() -> tuple[PreTrainedModel, ProcessorMixin]:
    """GLM-ASR: `<|begin_of_audio|><|pad|><|end_of_audio|>`: the audio token is called "pad" but fills nothing up.

    Its id is in `config.audio_token_id`. Takes `input_features` and `input_features_mask` by windows, as Audio Flamingo 3;
    four encoder positions make one embedding. Decoder and head share a matrix. An answer ends at `<|user|>` (among
    others). The encoder, too, has projections called `o_proj`, at `model.model.audio_tower.layers.*.self_attn`.
    """
    torch.manual_seed(4)
    tokens = ["<|system|>", "<|user|>", "<|assistant|>", "<|begin_of_audio|>", "<|pad|>", "<|end_of_audio|>"]
    tokenizer = tiny_tokenizer(*tokens, pad="<|endoftext|>", eos="<|user|>")
    processor = GlmAsrProcessor(_features(), tokenizer, chat_template=GLM_TEMPLATE)
    config = GlmAsrConfig(
        text_config=LlamaConfig(**small_decoder(tokenizer)),
        audio_config=GlmAsrEncoderConfig(
            hidden_size=32,
            intermediate_size=128,  # four positions' numbers: it is also the projector's input
            num_hidden_layers=2,
            num_attention_heads=2,
            num_mel_bins=MELS,
            max_position_embeddings=POSITIONS,
        ),
        audio_token_id=processor.audio_token_id,
    )
    return ready(GlmAsrForConditionalGeneration(config), tokenizer), processor


FAMILIES: dict[str, Callable[[], tuple[PreTrainedModel, ProcessorMixin]]] = {
    "qwen2_audio": build_qwen2_audio,
    "qwen2_audio_nemotron": build_nemotron,
    "audioflamingo3": build_audioflamingo3,
    "musicflamingo": build_musicflamingo,
    "glmasr": build_glmasr,
}
