"""Tiny random models that unit tests share; torch is imported by the tests that need it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    import torch
    from transformers import (
        PreTrainedModel,
        PreTrainedTokenizerFast,
        Qwen2AudioForConditionalGeneration,
        Qwen2AudioProcessor,
    )

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"]
WINDOW = 2  # seconds of audio
MELS, HOP = 16, 160


def tiny_tokenizer() -> "PreTrainedTokenizerFast":
    """One token a byte, for ASCII only, so that every sequence of tokens is a text of its own."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = SPECIAL + [chr(byte) for byte in range(33, 127)] + ["Ġ", "Ċ"]  # byte-level names of space and line break
    tokenizer = Tokenizer(models.BPE({piece: at for at, piece in enumerate(pieces)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("."), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|endoftext|>", eos_token="<|im_end|>", padding_side="left"
    )
    fast.add_special_tokens({"additional_special_tokens": SPECIAL})
    return fast


def randomize(model: "PreTrainedModel", seed: int, scale: float = 0.3) -> "PreTrainedModel":
    """Weights large enough that attention, heads and padding all show in the results."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, scale, generator=generator)
    return model.eval().requires_grad_(False)


def build_tiny_qwen2_audio(seed: int = 0) -> "tuple[Qwen2AudioForConditionalGeneration, Qwen2AudioProcessor]":
    """A random Qwen2-Audio of 2 layers × 4 heads over a window of two seconds, and its processor."""
    from transformers import (
        Qwen2AudioConfig,
        Qwen2AudioForConditionalGeneration,
        Qwen2AudioProcessor,
        WhisperFeatureExtractor,
    )

    tokenizer = tiny_tokenizer()
    config = Qwen2AudioConfig(
        audio_config={
            "model_type": "qwen2_audio_encoder",
            "num_mel_bins": MELS,
            "encoder_layers": 2,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "d_model": 16,
            "max_source_positions": WINDOW * 16_000 // HOP // 2,
        },
        text_config={
            "model_type": "qwen2",
            "vocab_size": len(tokenizer),
            "hidden_size": 24,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 4,
            "max_position_embeddings": 256,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": None,
        },
        audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>"),
    )
    extractor = WhisperFeatureExtractor(
        feature_size=MELS, hop_length=HOP, n_fft=400, chunk_length=WINDOW, return_attention_mask=True
    )
    model = randomize(Qwen2AudioForConditionalGeneration(config), seed)
    return model, Qwen2AudioProcessor(extractor, tokenizer)


@pytest.fixture(scope="session")
def tiny_qwen2_audio() -> "Callable[..., tuple[Qwen2AudioForConditionalGeneration, Qwen2AudioProcessor]]":
    """Builds a random Qwen2-Audio and its processor from a seed."""
    return build_tiny_qwen2_audio


@pytest.fixture(scope="session")
def randomized() -> "Callable[[PreTrainedModel, int], PreTrainedModel]":
    """Gives a model random weights in which everything shows, from a seed, and freezes it."""
    return randomize


@pytest.fixture(scope="session")
def swelling() -> Callable[[tuple[float, ...]], list[np.ndarray]]:
    """Makes noise that swells, of some lengths in seconds."""

    def make(lengths: tuple[float, ...]) -> list[np.ndarray]:
        rng = np.random.default_rng(0)
        times = [np.arange(int(16_000 * seconds)) / 16_000 for seconds in lengths]
        return [(rng.normal(0, 0.1, len(time)) * np.sin(5 * time + at)).astype(np.float32) for at, time in enumerate(times)]

    return make


@pytest.fixture(scope="session")
def three_masks() -> "Callable[[tuple[int, int]], torch.Tensor]":
    """Makes gates of a model's shape, another mask for each of three rows."""
    import torch

    return lambda shape: (torch.rand(3, *shape, generator=torch.Generator().manual_seed(3)) > 0.4).float()
