"""The shape of the pocket model: Whisper's encoder and, as language model, its decoder made causal, in Qwen2-Audio's classes."""

import json
import re
from collections.abc import Sequence
from itertools import islice
from typing import Any, cast

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2AudioConfig,
    Qwen2AudioEncoderConfig,
    Qwen2AudioProcessor,
    WhisperConfig,
    WhisperFeatureExtractor,
)

from ..errors import ModelError
from ..lalm.batching import PromptTemplate
from ..lalm.qwen2_audio import TiedQwen2Audio

MARGIN = 0.25  # seconds of silence that a clip keeps at most at each end
TAIL = 3.0  # seconds of silence that the model hears behind a clip: Whisper was trained on windows of 30 s
LONGEST = 25.0  # seconds of a clip, so that clip and tail lie within the window

TEXT_TOKENS = 50256  # of Whisper's English tokenizer; the end of text is next
END, START, PREVIOUS, NO_TIMES = "<|endoftext|>", "<|startoftranscript|>", "<|startofprev|>", "<|notimestamps|>"
KEPT_SPECIAL = (END, START, PREVIOUS, NO_TIMES)
NULL, ANCHOR, AUDIO = "<|audio_bos|>", "<|audio_eos|>", "<|AUDIO|>"

# An instruction stands where Whisper has the text before the one to be transcribed.
TEMPLATE = PromptTemplate(before=NULL, after=f"{ANCHOR}{PREVIOUS}{{}}{START}{NO_TIMES}")


SPOKEN = re.compile(r" ?[a-zäöüß']+")  # what answers are made of: words in lower case
MARKS = re.compile(r"""[ {}":,|;.?!'-]{1,4}""")


def kept_tokens(whisper: PreTrainedTokenizerFast, count: int) -> list[int]:
    """Whisper's ids of the pocket's text tokens: all bytes, then the most frequent pieces of lower-case words, and marks.

    Answers are words in lower case, so pieces with capitals or digits would lie idle. A piece is merged of earlier pieces,
    which are of lower case, too, so encoding by the kept merges gives what Whisper's own would give.

    Raises:
        ModelError: the tokenizer is not that of an English-only Whisper.
    """
    end = whisper.convert_tokens_to_ids(END)
    if end != TEXT_TOKENS:
        raise ModelError(f"{END} is {end}; expected {TEXT_TOKENS}, as in English-only Whisper; give a model named .en")
    texts = whisper.batch_decode([[number] for number in range(TEXT_TOKENS)], clean_up_tokenization_spaces=False)
    pieces = (number for number in range(256, TEXT_TOKENS) if _is_spoken(texts[number]))
    return [*range(256), *islice(pieces, count - 256)]


def _is_spoken(piece: str) -> bool:
    return bool(SPOKEN.fullmatch(piece) or MARKS.fullmatch(piece))


def prune_tokenizer(whisper: PreTrainedTokenizerFast, kept: Sequence[int]) -> PreTrainedTokenizerFast:
    """Whisper's byte-level BPE cut to some of its text tokens, with the pocket's special tokens behind them.

    Every byte is a token, so no text is unknown. Text begins with a space, as in Whisper's transcripts; decoding drops it.
    """
    content = json.loads(whisper.backend_tokenizer.to_str())["model"]
    names = {number: token for token, number in content["vocab"].items()}
    vocabulary = {names[number]: at for at, number in enumerate(kept)}
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in content["merges"])
    merges: list[tuple[str, str]] = [(left, right) for left, right in pairs if vocabulary.keys() >= {left, right, left + right}]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (*KEPT_SPECIAL, NULL, ANCHOR, AUDIO)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=END, eos_token=END, padding_side="left")


def build_extractor() -> WhisperFeatureExtractor:
    """Whisper's own features over its window of 30 s."""
    return WhisperFeatureExtractor(feature_size=80, return_attention_mask=True)


def build_processor(tokenizer: PreTrainedTokenizerFast) -> Qwen2AudioProcessor:
    """Qwen2-Audio's own processor with Whisper's features and the pocket's tokenizer."""
    processor = Qwen2AudioProcessor(build_extractor(), tokenizer)
    processor.chat_template = TEMPLATE.before + AUDIO + TEMPLATE.after.format("{{ messages[-1]['content'][-1]['text'] }}")
    return processor


def audio_config(whisper: WhisperConfig) -> Qwen2AudioEncoderConfig:
    """The encoder: Whisper's sizes."""
    return Qwen2AudioEncoderConfig(
        num_mel_bins=whisper.num_mel_bins,
        d_model=whisper.d_model,
        encoder_layers=whisper.encoder_layers,
        encoder_attention_heads=whisper.encoder_attention_heads,
        encoder_ffn_dim=whisper.encoder_ffn_dim,
        max_source_positions=whisper.max_source_positions,
    )


def build_model(whisper: WhisperConfig, text_config: dict, tokenizer: PreTrainedTokenizerFast) -> TiedQwen2Audio:
    """An empty pocket model of these sizes."""
    end = tokenizer.convert_tokens_to_ids(END)
    tied: dict[str, Any] = {"tie_word_embeddings": True}
    config = Qwen2AudioConfig(
        audio_config=audio_config(whisper).to_dict(),
        text_config=text_config | {"pad_token_id": end, "eos_token_id": end},
        audio_token_index=cast(int, tokenizer.convert_tokens_to_ids(AUDIO)),
        **tied,
    )
    model = TiedQwen2Audio(config).eval()
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = end
    silent = (START, PREVIOUS, NO_TIMES, NULL, ANCHOR, AUDIO)
    model.generation_config.suppress_tokens = tokenizer.convert_tokens_to_ids(list(silent))
    return model
