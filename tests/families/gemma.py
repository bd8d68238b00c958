"""Tiny random stand-ins for Gemma 3n and two layouts of Gemma 4.

All are called as `processor(text=..., audio=..., return_tensors="pt", padding=True)`, and put marks around the audio. Their
tokenizers begin every text with `<bos>`, and so do their chat templates: `apply_chat_template(tokenize=True)` knows, a
processor that is called with the template's text doubles it. The decoder is `model.model.language_model`, called with
`inputs_embeds=`, `per_layer_inputs=` and `position_ids=`; logits are capped by `text_config.final_logit_softcapping`.
Positions count from 0, attention is causal over audio, too, and a layer's number of heads is its attention's
`config.num_attention_heads`.
"""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import (
    AutoModel,
    Gemma3nAudioConfig,
    Gemma3nAudioFeatureExtractor,
    Gemma3nConfig,
    Gemma3nForConditionalGeneration,
    Gemma3nProcessor,
    Gemma3nTextConfig,
    Gemma3nVisionConfig,
    Gemma4AudioConfig,
    Gemma4AudioFeatureExtractor,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    Gemma4Processor,
    Gemma4TextConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)

from .parts import sightless, small_decoder, turn_template
from .tokenizer import tiny_tokenizer
from .weights import ready

MELS = 16
MODEL_OR_ROLE = "'model' if message.role == 'assistant' else message.role"


def _tokenizer(*tokens: str, **named: str) -> PreTrainedTokenizerBase:
    """A tokenizer that begins every text with `<bos>`."""
    tokenizer = tiny_tokenizer(
        "<pad>", "<eos>", "<bos>", *tokens, pad="<pad>", eos="<eos>", bos_token="<bos>", padding_side="left", **named
    )
    begin = [("<bos>", tokenizer.bos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=begin)
    return tokenizer


_from_config = AutoModel.from_config


def _without_eyes(config: Any, **extra: Any) -> nn.Module:
    """What `AutoModel` makes of a configuration, except of that of Gemma 3n's eyes, which take timm."""
    return nn.Identity() if isinstance(config, Gemma3nVisionConfig) else _from_config(config, **extra)


def build_gemma3n() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Gemma 3n: `<audio_soft_token>`, id in `config.audio_token_id`, marks and two newlines on either side of it.

    Every clip takes `processor.audio_seq_length` tokens, what is heard and then filling; a longer clip fails. A token's id
    matters twice: ids from `audio_config.vocab_offset` on (the placeholder's and the end mark's) have embeddings of their
    own in `model.model.embed_audio`, and each layer gets a `per_layer_input` looked up by id (0 for ids outside
    `vocab_size_per_layer_input`, as the placeholder's). So a stand-in for audio must be the placeholder itself, and
    `inputs_embeds` alone lose the lookup. The last layers reuse keys and values of the last layer of their kind before them
    and have no `k_proj`. AltUp keeps four streams, of which attention reads and writes one. `forward` takes
    `input_features` and `input_features_mask`; `token_type_ids` are ignored. Frames at a clip's end count as heard where
    they reach into padding, so what is heard last depends on the batch.
    """
    torch.manual_seed(14)
    text = ["<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<start_of_audio>"]
    image, audio = ["<end_of_image>", "<image_soft_token>"], ["<end_of_audio>", "<audio_soft_token>", "<unused>"]
    tokenizer = _tokenizer(
        *(text + image + audio),
        image_token="<image_soft_token>",
        boi_token="<start_of_image>",
        eoi_token="<end_of_image>",
        audio_token="<audio_soft_token>",
        boa_token="<start_of_audio>",
        eoa_token="<end_of_audio>",
    )
    processor = sightless(
        Gemma3nProcessor,
        feature_extractor=Gemma3nAudioFeatureExtractor(feature_size=MELS),
        tokenizer=tokenizer,
        chat_template=turn_template(
            "<start_of_turn>ROLE\n",
            "<end_of_turn>\n",
            "<audio_soft_token>",
            "<start_of_turn>model\n",
            names=MODEL_OR_ROLE,
            before="<bos>",
        ),
        audio_seq_length=32,  # 2.5 s; 188 in released models, for 30 s
    )
    seen, heard = tokenizer.eoi_token_id, tokenizer.eoa_token_id
    config = Gemma3nConfig(
        text_config=Gemma3nTextConfig(
            **small_decoder(
                tokenizer,
                num_hidden_layers=4,
                layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
                num_kv_shared_layers=2,
                sliding_window=12,
                vocab_size_per_layer_input=seen,
                hidden_size_per_layer_input=6,
                laurel_rank=4,
                activation_sparsity_pattern=[0.5, 0.0, 0.0, 0.0],
                final_logit_softcapping=3.0,
            )
        ),
        audio_config=Gemma3nAudioConfig(
            vocab_size=len(audio),
            vocab_offset=heard,
            input_feat_size=MELS,
            hidden_size=24,
            conf_num_attention_heads=2,
            conf_num_hidden_layers=2,
            conf_reduction_factor=2,
            sscp_conv_channel_size=(8, 4),
        ),
        vision_config=Gemma3nVisionConfig(vocab_size=len(image), vocab_offset=seen, hidden_size=8),
        audio_soft_tokens_per_image=processor.audio_seq_length,
        audio_token_id=tokenizer.audio_token_id,
        boa_token_id=tokenizer.boa_token_id,
        eoa_token_id=heard,
        image_token_id=tokenizer.image_token_id,
        boi_token_id=tokenizer.boi_token_id,
        eoi_token_id=seen,
    )
    with patch.object(AutoModel, "from_config", _without_eyes):
        model = ready(Gemma3nForConditionalGeneration(config), tokenizer)
    for layer in model.model.language_model.layers:
        layer.altup.correct_output_scale.data.fill_(1.0)  # zero, as made, would silence the per-layer inputs
    return model, processor


def _gemma4(**text: Any) -> tuple[PreTrainedModel, ProcessorMixin]:
    """A Gemma 4 of these settings of its decoder."""
    tokens = ["<|turn>", "<turn|>", "<|image>", "<image|>", "<|image|>", "<|audio>", "<audio|>", "<|audio|>", "<|video|>"]
    tokenizer = _tokenizer(
        *tokens,
        image_token="<|image|>",
        boi_token="<|image>",
        eoi_token="<image|>",
        audio_token="<|audio|>",
        boa_token="<|audio>",
        eoa_token="<audio|>",
    )
    processor = sightless(
        Gemma4Processor,
        feature_extractor=Gemma4AudioFeatureExtractor(feature_size=MELS),
        tokenizer=tokenizer,
        chat_template=turn_template(
            "<|turn>ROLE\n", "<turn|>\n", "<|audio|>", "<|turn>model\n", names=MODEL_OR_ROLE, before="<bos>"
        ),
    )
    config = Gemma4Config(
        text_config=Gemma4TextConfig(
            **small_decoder(
                tokenizer,
                sliding_window=12,
                vocab_size_per_layer_input=len(tokenizer),
                global_head_dim=20,
                final_logit_softcapping=3.0,
                **text,
            )
        ),
        audio_config=Gemma4AudioConfig(
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            subsampling_conv_channels=(MELS, 4),  # the first must be the number of mels
            output_proj_dims=24,
        ),
        vision_config=None,
        audio_token_id=tokenizer.audio_token_id,
        boa_token_id=tokenizer.boa_token_id,
        eoa_token_index=tokenizer.eoa_token_id,
        image_token_id=tokenizer.image_token_id,
        boi_token_id=tokenizer.boi_token_id,
        eoi_token_id=tokenizer.eoi_token_id,
        video_token_id=tokenizer.convert_tokens_to_ids("<|video|>"),
    )
    return ready(Gemma4ForConditionalGeneration(config), tokenizer), processor


def build_gemma4() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Gemma 4 as its small models are: `<|audio|>`, id in `config.audio_token_id`, `<|audio>` and `<audio|>` around it.

    Every layer has as many heads (`config.text_config.num_attention_heads`), but those of full attention are wider than
    those with a sliding window: `o_proj.in_features` differs from layer to layer, and `text_config.head_dim` is true of
    some layers only. Each layer gets a `per_layer_input` looked up by token id; the ids of audio count as `pad_token_id`
    there, so a stand-in for audio may be the pad token or the placeholder. `inputs_embeds` alone are searched for in the
    embedding matrix, and fail. The last layers reuse keys and values, have no `k_proj` and a wider perceptron, and see only
    the `logits_to_keep` last positions where that is above 0. `forward` takes `input_features` and `input_features_mask`;
    `mm_token_type_ids` matter to pictures only. The decoder gets its `attention_mask` as a dictionary, by kind of layer.
    """
    torch.manual_seed(15)
    return _gemma4(
        num_hidden_layers=4,
        layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        num_kv_shared_layers=2,
        hidden_size_per_layer_input=6,
        use_double_wide_mlp=True,
    )


def build_gemma4_large() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Gemma 4 in the layout of its large models, here with ears: with experts, without per-layer inputs or reused keys.

    Full attention has one head of keys, which are its values, too (no `v_proj`), where the sliding window has two. A layer
    has experts beside its perceptron. Sliding layers look both ways within a picture, never within audio.
    """
    torch.manual_seed(16)
    return _gemma4(
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        hidden_size_per_layer_input=0,
        attention_k_eq_v=True,
        num_global_key_value_heads=1,
        use_bidirectional_attention="vision",
        enable_moe_block=True,
        num_experts=4,
        top_k_experts=2,
        moe_intermediate_size=16,
    )


FAMILIES: dict[str, Callable[[], tuple[PreTrainedModel, ProcessorMixin]]] = {
    "gemma3n": build_gemma3n,
    "gemma4": build_gemma4,
    "gemma4_large": build_gemma4_large,
}
