"""The shape of the pocket model: Qwen2-Audio's classes and processor with small sizes.

Many small heads (8 layers of 64, each 8 wide) make a small model maskable; about a hundred larger ones do not.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2AudioConfig,
    Qwen2AudioEncoderConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)

from ..data.tasks import TaskSpec, parse_task
from ..lalm.batching import PromptTemplate
from .corpus.synthesis import RATE, WINDOW

MELS, HOP, FFT = 80, 160, 400  # as Whisper has them
MARGIN = 0.25  # seconds of silence that a clip of its corpus has at most at each end, and so all that it is shown

# What the words before the audio call each task.
OFFERED = {
    "asr": "words",
    "gr": "gender",
    "ser": "mood",
    "s2tt": "german",
    "age": "age",
    "aac": "sounds",
    "asv": "same",
    "osr": "both",
}


def offer(task: TaskSpec) -> str:
    """A task in the few words that stand before the audio: "gender", "gender bar words", "json gender words"."""
    words = [OFFERED[name] for name in task.names]
    return f"json {' '.join(words)}" if task.form == "json" else " bar ".join(words)


def opening(tasks: Sequence[TaskSpec]) -> str:
    """The text before the audio: what the model is to choose from."""
    return f"<|im_start|>listen and answer with {' or '.join(map(offer, tasks))}<|audio_bos|>"


# Words before the audio, as the big models have: heads can bring something from them, and a mask chooses which. They
# name all that the model can do, and never what it should.
TEMPLATE = PromptTemplate(
    before=opening([parse_task(name) for name in (*OFFERED, "gr-asr", "asr-gr", "gr-asr-json", "asr-gr-json")]),
    after="<|audio_eos|>{}<|im_end|><|im_start|>",
)

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>")

# Words keep the space before them; marks such as `": "` stay in one piece, so that JSON costs few tokens.
PIECES = Regex(r" ?\p{L}+| ?\p{N}| ?[^\p{L}\p{N}\s]+(?: [^\p{L}\p{N}\s]+)*|\s+")


def train_tokenizer(texts: list[str], size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer (every byte is a token, so no text is unknown)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(PIECES, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|endoftext|>", eos_token="<|im_end|>", padding_side="left"
    )


def build_extractor() -> WhisperFeatureExtractor:
    """Whisper's own features over a 15-second window."""
    return WhisperFeatureExtractor(
        feature_size=MELS, sampling_rate=RATE, hop_length=HOP, n_fft=FFT, chunk_length=int(WINDOW), return_attention_mask=True
    )


def build_processor(tokenizer: PreTrainedTokenizerFast) -> Qwen2AudioProcessor:
    """Qwen2-Audio's own processor with the pocket model's window and tokenizer."""
    return Qwen2AudioProcessor(build_extractor(), tokenizer)


def audio_config(**sizes: int) -> Qwen2AudioEncoderConfig:
    """The encoder: Whisper tiny.en's sizes, of its positions those of the window; `sizes` for another, in tests."""
    whisper = {"encoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536, "d_model": 384}
    window = {"num_mel_bins": MELS, "max_source_positions": int(WINDOW * RATE / HOP / 2)}
    return Qwen2AudioEncoderConfig.from_dict(whisper | window | sizes)


def build_config(
    tokenizer: PreTrainedTokenizerFast, encoder: Mapping[str, int] = MappingProxyType({}), layers: int = 8
) -> Qwen2AudioConfig:
    """About 17 million parameters; 512 attention heads in the language model."""
    return Qwen2AudioConfig(
        audio_config=audio_config(**encoder).to_dict(),
        text_config={
            "model_type": "qwen2",
            "vocab_size": len(tokenizer),
            "hidden_size": 256,
            "intermediate_size": 704,
            "num_hidden_layers": layers,
            "num_attention_heads": 64,
            "num_key_value_heads": 64,
            "head_dim": 8,
            "initializer_range": 0.04,
            "max_position_embeddings": 1024,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": None,
        },
        audio_token_index=tokenizer.get_vocab()["<|AUDIO|>"],
    )


def build_model(
    tokenizer: PreTrainedTokenizerFast, encoder: Mapping[str, int] = MappingProxyType({}), layers: int = 8
) -> Qwen2AudioForConditionalGeneration:
    """The untrained model; the caller has set the seed."""
    return Qwen2AudioForConditionalGeneration(build_config(tokenizer, encoder, layers))
