"""Seconds a sample of a mask's training, by amask and by a loop like the AHAMask authors': `python benchmarks/training_speed.py`.

Both train one mask on a Qwen2-Audio of true widths with random weights, as many layers of it as asked for, on the same noise. The
authors' loop, after their released code: audio is encoded anew in each step, each layer's head outputs are multiplied and cloned,
the projector's weights keep their gradients, and all rows go through padded to the longest clip. `--device cuda --layers 32
--audio-layers 32` is the whole model.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Qwen2AudioConfig, Qwen2AudioForConditionalGeneration, WhisperFeatureExtractor

from amask.lalm.batching import AudioFeatures, pad_rows
from amask.lalm.gating import HeadSite, find_sites, gated
from amask.mask_bank.lessons import group_by_length
from amask.mask_bank.sampling import draw_noise, relaxed, straight_through

RATE = 16_000
THEIRS = "authors' loop"
VOCABULARY = 2000  # rows of the embedding: its size takes memory, and no part in the comparison


def build(layers: int, audio_layers: int, device: str, dtype: torch.dtype) -> Qwen2AudioForConditionalGeneration:
    """A Qwen2-Audio of 7B's widths with some of its layers."""
    config = Qwen2AudioConfig(
        audio_config={"encoder_layers": audio_layers, "num_mel_bins": 128},
        text_config={
            "model_type": "qwen2", "vocab_size": VOCABULARY, "hidden_size": 4096, "intermediate_size": 11_008,
            "num_hidden_layers": layers, "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 8192,
        },
        audio_token_index=VOCABULARY - 1,
    )  # fmt: skip
    with torch.device(device):
        model = Qwen2AudioForConditionalGeneration(config).to(dtype)
    return model.eval().requires_grad_(False)


class Bench:
    """One model, some clips, and a step of each loop."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.device, self.batch = args.device, args.batch
        dtype = torch.bfloat16 if args.device != "cpu" else torch.float32
        self.model = build(args.layers, args.audio_layers, args.device, dtype)
        self.extractor = WhisperFeatureExtractor(feature_size=128, return_attention_mask=True)
        rng = np.random.default_rng(0)
        lengths = rng.uniform(args.shortest, args.longest, args.batch)
        self.waves = [rng.normal(0, 0.1, int(RATE * seconds)).astype(np.float32) for seconds in lengths]
        self.answers = [torch.randint(VOCABULARY - 1, (int(8 + 2 * seconds),), device=args.device) for seconds in lengths]
        self.sites = find_sites(self.model.get_decoder())
        self.logits = torch.full((args.layers, 32), 4.0, requires_grad=True)
        self.generator = torch.Generator().manual_seed(0)
        self.kept: AudioFeatures | None = None

    def gates(self) -> Tensor:
        """A draw for each row."""
        noise = draw_noise((self.batch, *self.logits.shape), "gumbel", self.generator)
        return straight_through(relaxed(self.logits, noise, 4.0)).to(self.device)

    def encode(self) -> AudioFeatures:
        """Audio to embeddings."""
        inputs = self.extractor(
            self.waves, sampling_rate=RATE, return_attention_mask=True, padding="max_length", return_tensors="pt"
        )
        tower = self.model.model.audio_tower
        features = inputs["input_features"].to(self.device, next(tower.parameters()).dtype)
        pooled = tower._get_feat_extract_output_lengths(inputs["attention_mask"].sum(-1))[1]
        return AudioFeatures(self.model.model.multi_modal_projector(tower(features).last_hidden_state), pooled)

    def loss(self, features: AudioFeatures, rows: list[int]) -> Tensor:
        """Mean cross-entropy of some rows' answers."""
        embed = self.model.get_input_embeddings()
        answers = [self.answers[row] for row in rows]
        clips = [features.embeds[row, : int(features.lengths[row])] for row in rows]
        embeds, _ = pad_rows(
            [torch.cat([clip, embed(answer[:-1])]) for clip, answer in zip(clips, answers, strict=True)], "right"
        )
        hidden = self.model.get_decoder()(inputs_embeds=embeds, use_cache=False).last_hidden_state
        losses = []
        for at, (clip, answer) in enumerate(zip(clips, answers, strict=True)):
            states = hidden[at, len(clip) - 1 : len(clip) - 1 + len(answer)]
            losses.append(nn.functional.cross_entropy(self.model.get_output_embeddings()(states).float(), answer))
        return torch.stack(losses).sum() / self.batch

    def ours(self) -> None:
        """A step of amask: features kept, rows of like length together, gradients of the gates alone."""
        if self.kept is None:
            with torch.no_grad():
                self.kept = self.encode()
        gates = self.gates()
        gradient = torch.zeros_like(gates)
        lengths = [int(self.kept.lengths[row]) + len(self.answers[row]) for row in range(self.batch)]
        for piece in group_by_length(lengths):
            leaf = gates[piece].detach().requires_grad_()
            with gated(self.sites, leaf):
                self.loss(self.kept, piece).backward()
            gradient[piece] = leaf.grad
        gates.backward(gradient)

    def theirs(self) -> None:
        """A step of a loop like the authors'."""
        projector = self.model.model.multi_modal_projector.requires_grad_(True)
        gates = self.gates()

        def hook(site: HeadSite, layer: int) -> Callable:
            def multiply(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
                heads = args[0].view(*args[0].shape[:-1], site.heads, site.width).clone()
                heads = heads * gates[:, layer].to(heads.dtype)[:, None, :, None]
                return (heads.clone().flatten(-2), *args[1:])

            return multiply

        hooks = [site.projection.register_forward_pre_hook(hook(site, layer)) for layer, site in enumerate(self.sites)]
        try:
            self.loss(self.encode(), list(range(self.batch))).backward()
        finally:
            for each in hooks:
                each.remove()
            projector.requires_grad_(False)


def main() -> None:
    """Time both in alternation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=2, help="of 32 layers of the language model")
    parser.add_argument("--audio-layers", type=int, default=2, help="of 32 layers of the audio encoder")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--shortest", type=float, default=2.0, metavar="SECONDS")
    parser.add_argument("--longest", type=float, default=15.0, metavar="SECONDS")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    bench = Bench(args)
    times: dict[str, list[float]] = {"amask": [], THEIRS: []}
    for _ in range(args.steps + 1):
        for name, step in (("amask", bench.ours), (THEIRS, bench.theirs)):
            began = time.perf_counter()
            step()
            if args.device.startswith("cuda"):
                torch.cuda.synchronize()
            times[name].append((time.perf_counter() - began) / args.batch)
    seconds = {name: float(np.median(found[1:])) for name, found in times.items()}  # the first of each warms up
    print(
        f"| {args.layers} of 32 layers, {args.audio_layers} of 32 in the encoder, {args.device} | seconds a sample |\n|---|---|"
    )
    for name, value in seconds.items():
        print(f"| {name} | {value:.3f} |")
    print(f"| ratio | {seconds[THEIRS] / seconds['amask']:.1f} |")


if __name__ == "__main__":
    main()
