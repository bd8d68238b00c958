"""What cutting heads out saves: pruned, gated and prompted, by mask on the pocket model and by share of heads on a 7B shape.

    python benchmarks/pruning.py pocket [--masks gr,asr,gr-asr-json] [--batches 1,8,32] [--tries 7] [--steps 24]
    python benchmarks/pruning.py big [--layers 2] [--shares 0.2,0.5,0.8] [--tries 7] [--steps 4]

For each: milliseconds of the prefill and of a decoding step, by turns in one process (CPU time of this thread on a CPU, so
that other jobs do not count), as medians; bytes of the decoder layers' weights and of the cache; and beside the ratio of
pruned to gated what arithmetic allows: of the multiplications in the layers that are left.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, Qwen2Config, Qwen2ForCausalLM

from amask.lalm.base import LALM
from amask.lalm.gating import Geometry, find_sites, gated
from amask.lalm.pruning import prune_decoder
from amask.lalm.registry import load_model
from amask.mask_bank.bank import MaskBank

CLIP = Path(__file__).parents[1] / "docs" / "clips" / "woman.opus"
BIG = {"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32, "num_key_value_heads": 32}  # Qwen-7B's


class Measured:
    """One model under gates or none, that prefills and decodes."""

    def __init__(self, model: Any, gates: Tensor | None, sites: Any) -> None:  # noqa: ANN401
        self.model, self.gates, self.sites = model, gates, sites

    @torch.no_grad()
    def run(self, embeds: Tensor, steps: int) -> tuple[float, float, Tensor, int]:
        """Seconds of the prefill and of all steps; the tokens; bytes of the cache."""
        cache = DynamicCache(config=self.model.config.get_text_config(decoder=True))
        with gated(self.sites, self.gates):
            start = _now()
            token = self._step(cache, inputs_embeds=embeds)
            prefill, tokens = _now() - start, [token]
            start = _now()
            for _ in range(steps):
                token = self._step(cache, input_ids=token)
                tokens.append(token)
            decoding = _now() - start
        held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers if layer.keys is not None)
        return prefill, decoding, torch.cat(tokens, 1), held

    def _step(self, cache: DynamicCache, **inputs: Tensor) -> Tensor:
        hidden = self.model.get_decoder()(past_key_values=cache, use_cache=True, **inputs).last_hidden_state
        return self.model.get_output_embeddings()(hidden[:, -1:]).argmax(-1)


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.thread_time()


def multiplications(model: Any, positions: int, before: int) -> float:  # noqa: ANN401
    """Of a pass over some positions behind others: all weights of the layers, and scores and mixing in attention."""
    layers = model.get_decoder().layers
    weights = sum(parameter.numel() for parameter in layers.parameters() if parameter.dim() > 1)
    units = sum(linear.in_features for name, linear in layers.named_modules() if name.endswith("o_proj"))
    head = model.get_output_embeddings().weight.numel()
    return positions * (weights + 2 * units * (before + positions / 2)) + head


def layer_bytes(model: Any) -> int:  # noqa: ANN401
    """Bytes of the decoder layers' weights."""
    return sum(parameter.nbytes for parameter in model.get_decoder().layers.parameters())


def compare(title: str, ways: dict[str, Measured], embeds: dict[str, Tensor], steps: int, tries: int) -> None:
    """Print one row: each way by turns, and the ratios of pruned to gated."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    said, held = {}, {}
    for turn in range(tries + 1):  # the first warms up
        for name, way in ways.items():
            prefill, decoding, said[name], held[name] = way.run(embeds[name], steps)
            if turn:
                seconds[name].append((prefill, decoding))
    assert torch.equal(said["gated"], said["pruned"]), "pruned answers differ"
    print(f"{title}:", end=" ")
    for part, pick, positions, before in _parts(embeds["gated"].shape[1], steps):
        medians = {name: 1e3 * statistics.median(map(pick, rows)) for name, rows in seconds.items()}
        pairs = zip(seconds["pruned"], seconds["gated"], strict=True)
        ratio = statistics.median(pick(one) / pick(other) for one, other in pairs)
        models = ways["pruned"].model, ways["gated"].model
        allowed = multiplications(models[0], positions, before) / multiplications(models[1], positions, before)
        times = ", ".join(f"{name} {value:.2f}" for name, value in medians.items())
        print(f"{part} ms {times}; pruned/gated {ratio:.3f} (arithmetic {allowed:.3f})", end="; ")
    bytes_ = layer_bytes(ways["pruned"].model), layer_bytes(ways["gated"].model)
    print(f"layers {bytes_[0] / 1e6:.1f} of {bytes_[1] / 1e6:.1f} MB; cache {held['pruned'] / held['gated']:.2f}", flush=True)


def _parts(prompt: int, steps: int) -> Iterator[tuple[str, Callable[[tuple[float, float]], float], int, int]]:
    yield "prefill", lambda pair: pair[0], prompt, 0
    yield "step", lambda pair: pair[1] / steps, 1, prompt + steps // 2


def pocket(masks: list[str], batches: list[int], steps: int, tries: int) -> None:
    """The pocket model by its bank's masks, on a clip of the repository."""
    model: LALM = load_model("pocket")
    bank = MaskBank.default()
    features = model.encode([model._read(str(CLIP))])
    silent, told = (model._prompt_embeds(features, [text])[0][None] for text in ("", "transcribe the speech"))
    for name in masks:
        mask = bank.get(name, model)
        pruned = model.pruned(mask)
        ways = {
            "gated": Measured(model.model, mask.gates, model.sites),
            "pruned": Measured(pruned.model, None, ()),
            "prompted": Measured(model.model, None, model.sites),
        }
        for batch in batches:
            rows = {way: (told if way == "prompted" else silent).expand(batch, -1, -1) for way in ways}
            compare(f"{name}, {mask.heads_on} of {mask.heads_total} heads, batch {batch}", ways, rows, steps, tries)


def big(layers: int, shares: list[float], batches: list[int], prompt: int, steps: int, tries: int) -> None:
    """A stack as wide as a 7B model, with some of its layers."""
    config = Qwen2Config(**BIG, num_hidden_layers=layers, vocab_size=1000)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    stack = (
        Qwen2ForCausalLM(config).to(device, torch.bfloat16 if device == "cuda" else torch.float32).eval().requires_grad_(False)
    )
    sites = find_sites(stack)
    geometry = Geometry(tuple(site.heads for site in sites))
    for share in shares:
        bits = torch.rand(geometry.shape, generator=torch.Generator().manual_seed(0)).argsort(1) < round(
            share * geometry.heads[0]
        )
        ways = {
            "gated": Measured(stack, bits.float().to(device), sites),
            "pruned": Measured(prune_decoder(stack, sites, bits), None, ()),
        }
        for batch in batches:
            embeds = torch.randn(batch, prompt, config.hidden_size, device=device, dtype=stack.dtype)
            title = f"7B widths, {layers} layers, {share:.0%} of heads, batch {batch}, prompt {prompt}"
            compare(title, ways, dict.fromkeys(ways, embeds), steps, tries)


def main() -> None:
    numbers = lambda kind: lambda text: [kind(value) for value in text.split(",")]  # noqa: E731
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["pocket", "big"])
    parser.add_argument("--masks", type=numbers(str), default=["gr", "asr", "gr-asr-json"])
    parser.add_argument("--batches", type=numbers(int), default=None)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--shares", type=numbers(float), default=[0.2, 0.5, 0.8])
    parser.add_argument("--prompt", type=int, default=100)
    parser.add_argument("--tries", type=int, default=7, help="turns that the medians are of")
    parser.add_argument("--steps", type=int, default=None, help="decoding steps of a turn")
    how = parser.parse_args()
    if how.what == "pocket":
        pocket(how.masks, how.batches or [1, 8, 32], how.steps or 24, how.tries)
    else:
        big(how.layers, how.shares, how.batches or [1, 8], how.prompt, how.steps or 4, how.tries)


if __name__ == "__main__":
    main()
