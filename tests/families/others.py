"""Tiny random stand-ins for three families that are like no other: VibeVoice ASR, MOSS Transcribe Diarize and Kyutai's.

The first two are called as `processor(text=..., audio=..., return_tensors="pt", padding=True)`, with the placeholder once in
each text. In all three positions count from 0, attention is causal over audio, too, logits are not capped, and a layer's
number of heads is its attention's `config.num_attention_heads`.
"""

from collections.abc import Callable

import torch
from transformers import (
    KyutaiSpeechToTextConfig,
    KyutaiSpeechToTextFeatureExtractor,
    KyutaiSpeechToTextForConditionalGeneration,
    KyutaiSpeechToTextProcessor,
    MimiConfig,
    MossTranscribeDiarizeAudioConfig,
    MossTranscribeDiarizeConfig,
    MossTranscribeDiarizeFeatureExtractor,
    MossTranscribeDiarizeForConditionalGeneration,
    MossTranscribeDiarizeProcessor,
    PreTrainedModel,
    ProcessorMixin,
    Qwen2Config,
    Qwen3Config,
    VibeVoiceAcousticTokenizerEncoderConfig,
    VibeVoiceAcousticTokenizerFeatureExtractor,
    VibeVoiceAsrConfig,
    VibeVoiceAsrForConditionalGeneration,
    VibeVoiceAsrProcessor,
)

from .parts import small_decoder
from .tokenizer import tiny_tokenizer
from .weights import ready

MELS = 16
TURNS = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'user' %}USER{% else %}{{ message.content if message.content is string else message.content[0].text }}"
    "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_vibevoice_asr() -> tuple[PreTrainedModel, ProcessorMixin]:
    """VibeVoice ASR: `<|box_start|>`, id in `config.audio_token_id`; the chat template writes the marks around it.

    The decoder is `model.model.language_model`, called with `inputs_embeds=`. `forward` takes `input_values` and
    `padding_mask`, at 24 kHz, and **adds random noise to what it hears** unless it is told `sample=False`. The words
    behind the audio depend on it: the processor writes its seconds in the place of `<|AUDIO_DURATION|>` (once a clip, and
    only where audio is given), and an instruction is only a remark within a fixed sentence. Released templates leave the
    model's turns out; this one writes them.
    """
    torch.manual_seed(17)
    marks = ["<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"]
    tokenizer = tiny_tokenizer("<|im_start|>", "<|im_end|>", *marks, pad="<|endoftext|>", eos="<|im_end|>", padding_side="left")
    said = "{% for part in message.content if part.type == 'text' and part.text %} with extra info: {{ part.text }}\n{% endfor %}"
    clip = "<|object_ref_start|><|box_start|><|object_ref_end|>\nThis is a <|AUDIO_DURATION|> seconds audio,"
    template = TURNS.replace("USER", clip + said + "please transcribe")
    encoder = {"kernel_size": 3, "num_filters": 4, "downsampling_ratios": [8, 8, 50], "depths": [1, 1, 1, 1]}
    kind = VibeVoiceAcousticTokenizerEncoderConfig
    processor = VibeVoiceAsrProcessor(VibeVoiceAcousticTokenizerFeatureExtractor(), tokenizer, chat_template=template)
    config = VibeVoiceAsrConfig(
        text_config=Qwen2Config(**small_decoder(tokenizer)),
        acoustic_tokenizer_encoder_config=kind(hidden_size=8, layer_scale_init_value=1.0, **encoder),
        semantic_tokenizer_encoder_config=kind(hidden_size=12, layer_scale_init_value=1.0, **encoder),
        audio_token_id=processor.audio_token_id,
        audio_bos_token_id=processor.audio_bos_token_id,
        audio_eos_token_id=processor.audio_eos_token_id,
        acoustic_tokenizer_chunk_size=9600,  # so that even a second comes in three pieces
    )
    return ready(VibeVoiceAsrForConditionalGeneration(config), tokenizer), processor


def build_moss_transcribe_diarize() -> tuple[PreTrainedModel, ProcessorMixin]:
    """MOSS Transcribe Diarize: `<|audio_pad|>`, id in `config.audio_token_id`; the template writes the marks around it.

    The decoder is `model.model.language_model`, called with `inputs_embeds=`. The processor writes *seconds as digits
    between* the placeholders (here every 18, every 25 in released models), so a clip is not one run of them; digits come
    *behind the last* one where their number is a multiple of that (here a clip of 1.44 s). A clip longer than a window
    (here 1 s, 30 s released) comes as several rows of `input_features` and `input_features_mask`, whose number so differs
    from the texts'; `padding_mask` has a row a clip and is needed. An instruction is only a remark before a fixed request.
    """
    torch.manual_seed(18)
    marks = ["<|audio_start|>", "<|audio_end|>", "<|audio_pad|>"]
    tokenizer = tiny_tokenizer("<|im_start|>", "<|im_end|>", *marks, pad="<|endoftext|>", eos="<|im_end|>", padding_side="left")
    said = "{% for part in message.content if part.type == 'text' and part.text %}Info: {{ part.text }}\n\n{% endfor %}"
    user = "<|audio_start|><|audio_pad|><|audio_end|>\n" + said + "Transcribe the audio."
    features = MossTranscribeDiarizeFeatureExtractor(feature_size=MELS, chunk_length=1)
    processor = MossTranscribeDiarizeProcessor(
        features,
        tokenizer,
        chat_template=TURNS.replace("USER", user),
        audio_tokens_per_second=18.0,  # 25 really: so that time marks fall into short clips
        audio_merge_size=2,
        time_marker_every_seconds=1,
    )
    config = MossTranscribeDiarizeConfig(
        text_config=Qwen3Config(**small_decoder(tokenizer)),
        audio_config=MossTranscribeDiarizeAudioConfig(
            num_mel_bins=MELS,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            hidden_size=24,
            max_source_positions=50,
        ),
        audio_token_id=processor.audio_token_id,
        audio_merge_size=2,
        audio_chunk_size=features.n_samples,
    )
    return ready(MossTranscribeDiarizeForConditionalGeneration(config), tokenizer), processor


def build_kyutai_speech_to_text() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Kyutai's speech to text: has neither placeholders nor prompt; every step is a frame of audio and a token of text.

    The processor is called as `processor(audio=[...])`, at 24 kHz, gives `input_values` and `padding_mask`, and puts a
    second of silence behind the audio. There is no chat template and nowhere to put an instruction. `input_ids` of
    `forward` are (row, frame, 1 + codebooks): the last token of text and the frame's codes, which are embedded and added
    up; `generate(**inputs)` makes them from the audio step by step, with `model.codec_model` (Mimi), and is never longer
    than the audio's frames. `model(**inputs)` therefore does not run: `input_values` are no argument of `forward`. The
    decoder, `model.model`, is called with `input_ids=`. Its `o_proj` is a wrapper: the linear layer is `o_proj.linear`,
    called with the states first; Mimi's `o_proj`s are outside of the decoder. Text comes `audio_delay_seconds` (of the
    feature extractor) behind the audio, and pad tokens where there is none to come.
    """
    torch.manual_seed(19)
    tokenizer = tiny_tokenizer("<s>", pad="<pad>", eos="</s>", bos_token="<s>")
    codebooks, codes = 4, 8
    codec = MimiConfig(
        hidden_size=16,
        num_filters=2,
        upsampling_ratios=[8, 6, 5, 4],
        codebook_size=codes,
        codebook_dim=8,
        vector_quantization_hidden_dimension=8,
        num_quantizers=codebooks,
        upsample_groups=16,
        num_hidden_layers=1,
        intermediate_size=16,
        num_attention_heads=2,
        num_key_value_heads=2,
        use_streaming=True,
    )
    text = small_decoder(tokenizer, bos_token_id=tokenizer.bos_token_id)
    del text["intermediate_size"]
    config = KyutaiSpeechToTextConfig(
        **text,
        codec_config=codec,
        ffn_dim=64,
        num_codebooks=codebooks,
        codebook_vocab_size=codes + 1,
        audio_bos_token_id=codes,
        audio_pad_token_id=len(tokenizer) + codebooks * (codes + 1),
    )
    model = ready(KyutaiSpeechToTextForConditionalGeneration(config), tokenizer)
    for name, tensor in model.codec_model.state_dict().items():
        if name.endswith("bias"):
            tensor.zero_()  # else they drown what is heard
        elif name.endswith("codebook.embed_sum"):
            tensor.normal_(0, 0.1)  # zero, as made, gives every frame the same code
    return model, KyutaiSpeechToTextProcessor(KyutaiSpeechToTextFeatureExtractor(), tokenizer)


FAMILIES: dict[str, Callable[[], tuple[PreTrainedModel, ProcessorMixin]]] = {
    "vibevoice_asr": build_vibevoice_asr,
    "moss_transcribe_diarize": build_moss_transcribe_diarize,
}

# Not to be told what to do, and not run by `model(**inputs)`.
FRAME_BY_FRAME: dict[str, Callable[[], tuple[PreTrainedModel, ProcessorMixin]]] = {
    "kyutai_speech_to_text": build_kyutai_speech_to_text,
}
