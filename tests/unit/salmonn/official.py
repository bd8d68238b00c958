"""A tiny random SALMONN in the layout of the official files, which the tests write themselves."""

from pathlib import Path

import torch
from transformers import (
    Blip2QFormerConfig,
    LlamaConfig,
    LlamaForCausalLM,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

CLOSE = {"rtol": 0, "atol": 2e-5}
WINDOW = 2  # seconds that the tiny model hears, instead of 30
FRAMES = 50 * WINDOW  # of Whisper's encoder
POSITIONS = FRAMES // round(FRAMES * 0.333333 / WINDOW)
SECONDS = (2.0, 0.6, 1.3)
ANSWERS = ("a man", "the quick brown fox", "x")
ASKED = ("who speaks?", "", "words, please")
WHISPER, BEATS, VICUNA, OWN = "whisper-large-v2", "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt", "vicuna", "salmonn_v1.pth"
WIDTH, RANK, ALPHA = 24, 2, 32  # of the language model; of LoRA

CFG = {
    "encoder_layers": 2,
    "encoder_embed_dim": 16,
    "encoder_ffn_embed_dim": 32,
    "encoder_attention_heads": 2,
    "embed_dim": 12,
    "input_patch_size": 16,
    "conv_pos": 8,
    "conv_pos_groups": 4,
    "conv_bias": False,
    "num_buckets": 32,
    "max_distance": 80,
    "activation_fn": "gelu",
    "layer_norm_first": False,
    "deep_norm": True,
    "gru_rel_pos": True,
    "relative_position_embedding": True,
    "predictor_class": 3,
}


def message(*fields: tuple[int, bytes | int]) -> bytes:
    """Protocol Buffers' encoding of small numbers and short bytes."""

    def number(value: int) -> bytes:
        low = value & 127
        return bytes([low]) if value < 128 else bytes([low | 128]) + number(value >> 7)

    parts = (
        number(key << 3) + number(value) if isinstance(value, int) else number(key << 3 | 2) + number(len(value)) + value
        for key, value in fields
    )
    return b"".join(parts)


def sentencepiece_model() -> bytes:
    """A model of bytes, letters and two pairs, as SentencePiece writes it."""
    special = [("<unk>", 2), ("<s>", 3), ("</s>", 3)] + [(f"<0x{byte:02X}>", 6) for byte in range(256)]
    plain = ["th", "▁th", "▁", *(chr(code) for code in range(33, 127))]
    pieces = [message((1, text.encode()), (3, kind)) for text, kind in special] + [message((1, text.encode())) for text in plain]
    return message(*((1, piece) for piece in pieces), (2, message((3, 2))))


def noise(seed: int):
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape, scale=0.3: torch.randn(*shape, generator=generator) * scale


def beats_checkpoint(seed: int) -> dict:
    from amask.lalm.salmonn.beats import Beats, BeatsSettings

    random = noise(seed)
    tensors = {name: random(*tensor.shape) for name, tensor in Beats(BeatsSettings(**CFG)).state_dict().items()}
    table = "encoder.layers.{}.self_attn.relative_attention_bias.weight"
    tensors |= {table.format(1): tensors[table.format(0)].clone()}  # shared, and listed in each layer
    tensors |= {"predictor.weight": random(3, 16), "predictor.bias": random(3)}
    return {"cfg": CFG, "model": tensors}


def own_checkpoint(seed: int) -> dict:
    from amask.lalm.salmonn.qformer import WindowQFormer

    random = noise(seed)
    config = Blip2QFormerConfig(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=1, intermediate_size=16, encoder_hidden_size=32,
        cross_attention_frequency=1,
    )  # fmt: skip
    tensors = {}
    for name, tensor in WindowQFormer(config, (16, 16, WIDTH), 1, 1, 1).state_dict().items():
        if name.startswith("qformer."):
            bert = name.removeprefix("qformer.").replace(".attention.attention.", ".attention.self.")
            bert = bert.replace("crossattention.attention.", "crossattention.self.").replace("layernorm", "embeddings.LayerNorm")
            name = f"speech_Qformer.bert.{bert}"
        tensors[name] = random(*tensor.shape)
    for layer in range(2):
        for target in ("q_proj", "v_proj"):
            place = f"llama_model.base_model.model.model.layers.{layer}.self_attn.{target}"
            tensors[f"{place}.lora_A.default.weight"] = random(RANK, WIDTH)
            tensors[f"{place}.lora_B.default.weight"] = random(WIDTH, RANK)
    # What the official way of saving leaves in the file.
    tensors["speech_Qformer.bert.embeddings.position_ids"] = torch.arange(16)[None]
    tensors["llama_model.base_model.model.model.layers.0.self_attn.rotary_emb.inv_freq"] = random(2)
    return {"model": tensors, "epoch": 3, "optimizer": {"state": {}}}


def write_salmonn(folder: Path, randomized, seed: int = 0) -> Path:
    whisper = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=8, num_mel_bins=16, d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=32,
            decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=32, max_source_positions=FRAMES, pad_token_id=0,
            bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        )
    )  # fmt: skip
    randomized(whisper, seed).save_pretrained(folder / WHISPER)
    WhisperFeatureExtractor(feature_size=16, chunk_length=WINDOW).save_pretrained(folder / WHISPER)
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=3 + 256 + 3 + 94, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=256, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip
    randomized(llama, seed + 1).save_pretrained(folder / VICUNA)
    (folder / VICUNA / "tokenizer.model").write_bytes(sentencepiece_model())
    torch.save(beats_checkpoint(seed + 2), folder / BEATS)
    torch.save(own_checkpoint(seed + 3), folder / OWN)
    return folder
