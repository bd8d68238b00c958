"""Tiny random stand-ins for the families that hear by a conformer: Granite Speech, Phi-4 and Nemotron Omni.

All are called as `processor(text=..., audio=..., return_tensors="pt", padding=True)`, with the placeholder once in each text.
In all of them positions count from 0, attention is causal over audio, too, logits are not capped, and a layer's number of
heads is its attention's `config.num_attention_heads`.
"""

from collections.abc import Callable
from typing import Any
from unittest.mock import DEFAULT, patch

import torch
from torch import Tensor, nn
from transformers import (
    Blip2QFormerConfig,
    GraniteConfig,
    GraniteSpeechConfig,
    GraniteSpeechEncoderConfig,
    GraniteSpeechFeatureExtractor,
    GraniteSpeechForConditionalGeneration,
    GraniteSpeechProcessor,
    NemotronH_Omni_Reasoning_V3,
    NemotronH_Omni_Reasoning_V3_Config,
    NemotronH_Omni_Reasoning_V3Processor,
    NemotronHConfig,
    ParakeetEncoderConfig,
    ParakeetFeatureExtractor,
    Phi4MultimodalAudioConfig,
    Phi4MultimodalConfig,
    Phi4MultimodalFeatureExtractor,
    Phi4MultimodalForCausalLM,
    Phi4MultimodalProcessor,
    Phi4MultimodalVisionConfig,
    PreTrainedModel,
    ProcessorMixin,
    RadioConfig,
)
from transformers.audio_utils import mel_filter_bank
from transformers.models.granite_speech import feature_extraction_granite_speech as granite_features

from .parts import sightless, small_decoder, turn_template
from .tokenizer import tiny_tokenizer
from .weights import ready

MELS = 16


class _Mels(nn.Module):
    """What torchaudio's `MelSpectrogram` does with the settings of Granite's feature extractor."""

    def __init__(self, sample_rate: int, n_fft: int, win_length: int, hop_length: int, n_mels: int) -> None:
        super().__init__()
        self.settings = {"n_fft": n_fft, "hop_length": hop_length, "win_length": win_length}
        bank = mel_filter_bank(n_fft // 2 + 1, n_mels, 0.0, sample_rate / 2, sample_rate, norm=None, mel_scale="htk")
        self.bank = nn.Buffer(torch.from_numpy(bank).float())

    def forward(self, waves: Tensor) -> Tensor:
        window = torch.hann_window(self.settings["win_length"])
        return self.bank.T @ torch.stft(waves, **self.settings, window=window, return_complex=True).abs().square()


class _GraniteFeatures(GraniteSpeechFeatureExtractor):
    """The real one, where torchaudio may be absent."""

    def __init__(self, **settings: Any) -> None:
        with patch.multiple(granite_features, requires_backends=DEFAULT, torchaudio=DEFAULT, create=True) as absent:
            absent["torchaudio"].transforms.MelSpectrogram = _Mels
            super().__init__(**settings)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with patch.object(granite_features, "requires_backends"):
            return super().__call__(*args, **kwargs)


def build_granite_speech() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Granite Speech: `<|audio|>`, id in `config.audio_token_index` (also `audio_token_id`); nothing is put around it.

    The decoder is `model.model.language_model`, called with `inputs_embeds=`; it multiplies them by its
    `embedding_multiplier` itself, audio and text alike. `forward` takes `input_features` and `input_features_mask` (which
    of the *projected* frames are real). The encoder knows no padding, so what is heard depends on the batch's longest
    clip. The processor's feature extractor is `processor.audio_processor`; there is no `feature_extractor`. Released
    models bring a LoRA adapter that `generate` switches on where it is given `input_features` and off where it is not;
    without peft, as here, there is none. Released chat templates are the tokenizer's and take texts with `<|audio|>` in
    them, not parts; this one takes both.
    """
    torch.manual_seed(11)
    start, end = "<|start_of_role|>", "<|end_of_role|>"
    tokenizer = tiny_tokenizer(
        "<|end_of_text|>", start, end, "<|audio|>", pad="<|pad|>", eos="<|end_of_text|>", padding_side="left"
    )
    template = turn_template(f"{start}ROLE{end}", "<|end_of_text|>\n", "<|audio|>", f"{start}assistant{end}")
    features = _GraniteFeatures(n_mels=MELS, projector_window_size=6, projector_downsample_rate=2)
    processor = GraniteSpeechProcessor(features, tokenizer, chat_template=template)
    config = GraniteSpeechConfig(
        text_config=GraniteConfig(
            **small_decoder(tokenizer, embedding_multiplier=3.0, residual_multiplier=0.5, attention_multiplier=0.2)
        ),
        encoder_config=GraniteSpeechEncoderConfig(
            input_dim=2 * MELS,  # two frames at a time
            num_layers=2,
            hidden_dim=24,
            feedforward_mult=2,
            num_heads=2,
            output_dim=10,
            context_size=20,
            max_pos_emb=32,
            conv_kernel_size=5,
        ),
        projector_config=Blip2QFormerConfig(
            hidden_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            encoder_hidden_size=24,
            cross_attention_frequency=1,
        ),
        audio_token_index=tokenizer.convert_tokens_to_ids("<|audio|>"),
        has_lora_adapter=False,
        downsample_rate=2,
        window_size=6,
    )
    return ready(GraniteSpeechForConditionalGeneration(config), tokenizer), processor


def build_phi4_multimodal() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Phi-4 Multimodal: `<|audio|>`, id in `config.audio_config.audio_token_id`; `config` itself has none.

    Audio is merged *inside* what `get_decoder()` gives, `model.model`, which is called with `input_ids=` and
    `inputs_embeds=None`: `model.model.embed_tokens_extend` does it. So what was heard is seen first where
    `model.model.layers[0]` is called, as its first positional argument. The audio encoder is inside it, too, and its layers
    have an `o_proj` as well: only those under `model.model.layers` are the decoder's. `forward` takes
    `audio_input_features`, `audio_embed_sizes` (tokens a clip) and, for several clips only, `audio_attention_mask`, which
    is added to attention's scores as ones, and so hardly hides padding: what is heard depends on the batch. Heads are width
    over heads wide; q, k and v are one `qkv_proj`. The feature extractor is `processor.audio_processor`. Released models
    hear with a LoRA adapter that peft loads (`load_adapter(..., "speech")`); here is none.
    """
    torch.manual_seed(12)
    tokens = ["<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|audio|>", "<|image|>"]
    named = {"audio_token": "<|audio|>", "image_token": "<|image|>"}
    tokenizer = tiny_tokenizer(*tokens, pad="<|endoftext|>", eos="<|end|>", padding_side="left", **named)
    template = turn_template("<|ROLE|>", "<|end|>", "<|audio|>", "<|assistant|>")
    features = Phi4MultimodalFeatureExtractor(feature_size=MELS)
    processor = sightless(Phi4MultimodalProcessor, audio_processor=features, tokenizer=tokenizer, chat_template=template)
    decoder = small_decoder(tokenizer, hidden_size=40)
    del decoder["head_dim"]  # the configuration knows none
    config = Phi4MultimodalConfig(
        **decoder,
        audio_config=Phi4MultimodalAudioConfig(
            hidden_size=24,
            intermediate_size=32,
            num_blocks=2,
            num_attention_heads=2,
            ext_pw_out_channel=24,
            depthwise_separable_out_channel=24,
            input_size=MELS,
            bias_max_distance=20,
            nemo_conv_channels=8,
            audio_token_id=tokenizer.audio_token_id,
        ),
        vision_config=Phi4MultimodalVisionConfig(
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=16,
            patch_size=4,
            crop_size=16,
            image_token_id=tokenizer.image_token_id,
        ),
    )
    return ready(Phi4MultimodalForCausalLM(config), tokenizer), processor


def build_nemotron_h_omni() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Nemotron 3 Omni: `<so_embedding>`, id in `config.audio_token_id`; `<so_start>` and `<so_end>` are put around it.

    `get_decoder()` gives `model.language_model`, a causal language model with its head, called with `inputs_embeds=`.
    Hybrid: of its layers only some attend (`model.layers.N.mixer.o_proj`), the others are Mamba, a perceptron or experts,
    without `o_proj`. `config.text_config.num_hidden_layers` counts them all. Attention has no position embedding. Mamba
    runs in plain torch where mamba-ssm is absent; padding is kept out of its state by the attention mask, which must be
    there. `forward` takes `input_features` and `input_features_mask`, and hands `logits_to_keep` on to the decoder. The
    chat template opens a `<think>` before an answer, unless it is told `enable_thinking=False`.
    """
    torch.manual_seed(13)
    tokens = ["<unk>", "<|im_start|>", "<|im_end|>", "<image>", "<img>", "</img>", "<so_embedding>", "<so_start>", "<so_end>"]
    tokenizer = tiny_tokenizer(*tokens, pad="<unk>", eos="<|im_end|>", padding_side="left")
    thinking = "{% if enable_thinking is defined and not enable_thinking %}</think>{% else %}{{ '\\n' }}{% endif %}"
    reply = "<|im_start|>assistant\n<think>" + thinking
    features = ParakeetFeatureExtractor(feature_size=MELS)
    processor = sightless(
        NemotronH_Omni_Reasoning_V3Processor,
        tokenizer=tokenizer,
        feature_extractor=features,
        chat_template=turn_template("<|im_start|>ROLE\n", "<|im_end|>\n", "<so_embedding>", reply),
    )
    decoder = small_decoder(tokenizer)
    del decoder["num_hidden_layers"]
    config = NemotronH_Omni_Reasoning_V3_Config(
        text_config=NemotronHConfig(
            **decoder,
            layers_block_type=["linear_attention", "full_attention", "moe", "linear_attention", "mlp", "full_attention"],
            ssm_state_size=8,
            mamba_num_heads=4,
            mamba_head_dim=8,
            n_groups=2,
            chunk_size=16,
            n_routed_experts=4,
            moe_intermediate_size=16,
            moe_shared_expert_intermediate_size=16,
        ),
        audio_config=ParakeetEncoderConfig(
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            subsampling_conv_channels=8,
            num_mel_bins=MELS,
            attention_bias=False,
            scale_input=False,
            projection_hidden_size=24,
            projection_bias=False,
        ),
        vision_config=RadioConfig(
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            patch_size=4,
            image_size=16,
            max_img_size=16,
            video_temporal_patch_size=2,
        ),
        vision_hidden_size=8,
        projector_hidden_size=8,
        image_token_id=processor.image_token_id,
        audio_token_id=processor.audio_token_id,
    )
    return ready(NemotronH_Omni_Reasoning_V3(config), tokenizer), processor


FAMILIES: dict[str, Callable[[], tuple[PreTrainedModel, ProcessorMixin]]] = {
    "granite_speech": build_granite_speech,
    "phi4_multimodal": build_phi4_multimodal,
    "nemotron_h_omni": build_nemotron_h_omni,
}
