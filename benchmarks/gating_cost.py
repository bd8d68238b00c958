"""What gating costs on a Qwen2-Audio of the released 7B shape, in memory and in time; no weights are needed.

`python benchmarks/gating_cost.py [--device cpu|cuda|meta] [--layers N] [--dtype bfloat16] [--steps N]`

(a) The whole 7B on the meta device: every tensor that a forward pass (30 s of audio) and a decoding step allocate is
counted in bytes, plain and gated. (b) The decoder with random weights is run for real, with as many layers as asked
for: decoding steps, plain and gated by turns. The output head is left out of (b): gating does not touch it, and over a
few layers it would hide what gating costs. `--device meta` stops after (a).
"""

import argparse
import contextlib
import resource
import statistics
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from transformers import DynamicCache, Qwen2AudioConfig, Qwen2AudioForConditionalGeneration
from transformers.models.qwen2.modeling_qwen2 import Qwen2Model, Qwen2RotaryEmbedding

from amask.lalm.gating import HeadSite, find_sites, gated

# config.json of Qwen/Qwen2-Audio-7B.
RELEASED = {
    "audio_config": {
        "model_type": "qwen2_audio_encoder",
        "num_mel_bins": 128,
        "encoder_layers": 32,
        "encoder_attention_heads": 20,
        "encoder_ffn_dim": 5120,
        "d_model": 1280,
        "max_source_positions": 1500,
    },
    "text_config": {
        "model_type": "qwen2",
        "vocab_size": 156032,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
}
PROMPT = 20  # positions of text beside the audio
CONTEXT = 200  # positions before the decoding step of (b)
WARM_UP = 3
HOOKED = 200  # bare sites by which the hook alone is timed


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are made within it: those alive now, the most since the last lap, all ever."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = self.made = 0
        self._seen: set[int] = set()

    def know(self, *tensors: Tensor) -> None:
        """Leave out tensors that were there before."""
        self._seen |= {tensor.untyped_storage()._cdata for tensor in tensors}

    def lap(self) -> int:
        """The peak since the last call."""
        peak, self.peak = self.peak, self.live
        return peak

    def _free(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live -= size

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            self.live += storage.nbytes()
            self.made += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._free, storage._cdata, storage.nbytes())

    def __torch_dispatch__(self, function: Callable, _types: tuple, args: tuple = (), kwargs: dict | None = None) -> object:
        made = function(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._count, made)
        return made


def build(shape: dict, dtype: torch.dtype) -> Qwen2AudioForConditionalGeneration:
    """The model on the meta device: shapes, no numbers."""
    with torch.device("meta"):
        model = Qwen2AudioForConditionalGeneration(Qwen2AudioConfig(**shape))
    return model.to(dtype).eval().requires_grad_(False)


@torch.no_grad()
def count(model: Qwen2AudioForConditionalGeneration, gates: Tensor | None) -> dict[str, int]:
    """Peak bytes beside the weights: while the audio is encoded, in a forward pass over it and a text, in a step.

    Under "all ever made", the sum of all tensors that were made, which shows also what is gone at the peak.
    """
    audio, text = model.config.audio_config, model.config.text_config
    mels = torch.empty(1, audio.num_mel_bins, 2 * audio.max_source_positions, dtype=model.dtype, device="meta")
    decoder, laps = model.get_decoder(), {}
    bytes_of = LiveBytes()
    bytes_of.know(*model.parameters(), *model.buffers(), mels, *([] if gates is None else [gates]))
    with bytes_of, gated(find_sites(decoder), gates):
        heard = model.model.multi_modal_projector(model.model.audio_tower(mels).last_hidden_state)
        laps["encoding"] = bytes_of.lap()
        words = torch.empty(1, PROMPT, text.hidden_size, dtype=model.dtype, device="meta")
        cache = DynamicCache(config=text)
        for stage, embeds in (("forward pass", torch.cat([heard, words], 1)), ("decoding step", words[:, :1])):
            hidden = decoder(inputs_embeds=embeds, past_key_values=cache, use_cache=True).last_hidden_state
            model.lm_head(hidden[:, -1:])
            laps[stage] = bytes_of.lap()
    return laps | {"all ever made": bytes_of.made}


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and buffers."""
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


def report_count(dtype: torch.dtype) -> None:
    """Part (a)."""
    model = build(RELEASED, dtype)
    text = model.config.text_config
    weights = weight_bytes(model)
    gates = torch.ones(text.num_hidden_layers, text.num_attention_heads, device="meta")
    ways = {"plain": None, "gated": gates, "gated, a mask a row": gates[None]}
    peaks = {way: count(model, given) for way, given in ways.items()}
    print(f"(a) {sum(p.numel() for p in model.parameters()):,} parameters, {weights / 1e9:.3f} GB in {dtype}, on meta")
    for way, laps in peaks.items():
        print(f"    {way}, peak MB beside the weights: " + ", ".join(f"{stage} {peak / 1e6:.3f}" for stage, peak in laps.items()))
        print(f"        with the weights {(weights + highest(laps)) / (weights + highest(peaks['plain'])):.6f} of plain")


def highest(laps: dict[str, int]) -> int:
    """The peak over all stages."""
    return max(peak for stage, peak in laps.items() if stage != "all ever made")


@torch.no_grad()
def random_decoder(layers: int, device: torch.device, dtype: torch.dtype) -> Qwen2Model:
    """A decoder of the 7B shape with random weights, made in place; without embeddings, which are given instead."""
    config = Qwen2AudioConfig(**RELEASED).text_config
    config.num_hidden_layers, config.vocab_size = layers, 1
    with torch.device("meta"):
        decoder = Qwen2Model(config).to(dtype)
    decoder = decoder.to_empty(device=device).eval().requires_grad_(False)
    decoder.rotary_emb = Qwen2RotaryEmbedding(config).to(device)
    for parameter in decoder.parameters():
        parameter.uniform_(-0.02, 0.02) if parameter.dim() > 1 else parameter.fill_(1.0)
    return decoder


class Peak:
    """The most memory in use since `reset`: allocated by torch on CUDA, resident otherwise."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"

    def reset(self) -> None:
        """Forget the peak so far."""
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            with contextlib.suppress(OSError):  # Linux only; elsewhere the peak is that since the start
                Path("/proc/self/clear_refs").write_text("5")

    def read(self) -> int:
        """The peak in bytes."""
        if self.cuda:
            return torch.cuda.max_memory_allocated()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Steps:
    """Decoding steps of one row after a context, always at the same length of the cache."""

    @torch.no_grad()
    def __init__(self, decoder: Qwen2Model) -> None:
        self.decoder, self.sites = decoder, find_sites(decoder)
        weight = decoder.norm.weight
        self.embeds = torch.randn(1, CONTEXT, weight.numel()).to(weight)
        self.cache = DynamicCache(config=decoder.config)
        decoder(inputs_embeds=self.embeds, past_key_values=self.cache, use_cache=True)

    @torch.no_grad()
    def time(self, gates: Tensor | None) -> float:
        """Seconds of one step."""
        with gated(self.sites, gates):
            start = clock()
            self.decoder(inputs_embeds=self.embeds[:, :1], past_key_values=self.cache, use_cache=True)
            took = clock() - start
        self.cache.crop(-1)
        return took


def clock() -> float:
    """Seconds: of the wall where CUDA has work to finish first, else of the processor, which others cannot prolong."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


@torch.no_grad()
def hook_seconds(site: HeadSite, gates: Tensor, like: Tensor) -> tuple[float, float]:
    """Seconds that one site takes more on a decoding step's states, once it was gated and while it is, the least of several.

    The hook stays in place after the first gates; without gates it only looks whether there are any.
    """
    sites = [replace(site, projection=nn.Identity()) for _ in range(HOOKED)]
    states = torch.ones(1, 1, site.heads * site.width).to(like)
    several = gates[:1].expand(HOOKED, -1).contiguous()

    def run(given: Tensor | None) -> float:
        with gated(sites, given):
            start = clock()
            for each in sites:
                each.projection(states)
            return clock() - start

    bare = min(run(None) for _ in range(20))
    run(several)
    return (min(run(None) for _ in range(20)) - bare) / HOOKED, (min(run(several) for _ in range(20)) - bare) / HOOKED


def quartiles(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"median {middle:.4f}, quartiles {low:.4f} to {high:.4f}"


def turns(steps: Steps, gates: Tensor, pairs: int) -> tuple[list[float], list[float]]:
    """Seconds of plain and gated steps, by turns: plain, gated, plain, …, plain."""
    for given in (None, gates) * WARM_UP:
        steps.time(given)
    times = [steps.time(gates if at % 2 else None) for at in range(2 * pairs + 1)]
    return times[::2], times[1::2]


def peaks(steps: Steps, gates: Tensor, device: torch.device) -> Iterator[int]:
    """The peak of a few steps, plain and then gated."""
    peak = Peak(device)
    for given in (None, gates):
        peak.reset()
        for _ in range(WARM_UP):
            steps.time(given)
        yield peak.read()


def report_run(device: torch.device, dtype: torch.dtype, layers: int, pairs: int) -> None:
    """Part (b)."""
    steps = Steps(random_decoder(layers, device, dtype))
    site = steps.sites[0]
    generator = torch.Generator().manual_seed(0)
    gates = (torch.rand(layers, site.heads, generator=generator) < 0.8).float().to(device)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"
    size = weight_bytes(steps.decoder) / 1e9
    print(f"(b) {layers} decoder layers in {dtype}, {size:.2f} GB, on {where}; torch {torch.__version__}")
    plain, masked = turns(steps, gates, pairs)
    neighbours = list(zip(plain[:-1], plain[1:], strict=True))
    ratios = [took / statistics.mean(around) for took, around in zip(masked, neighbours, strict=True)]
    step, (idle, hook) = statistics.median(plain), hook_seconds(site, gates, steps.embeds)
    print(f"    a decoding step after {CONTEXT} positions: {1e3 * step:.3f} ms (median of {len(plain)})")
    print(f"    gated / plain, {pairs} pairs by turns: {quartiles(ratios)}")
    print(f"    plain / plain, for the noise: {quartiles([after / before for before, after in neighbours])}")
    share = 100 * hook * layers / step
    print(f"    the hook alone: {1e6 * hook:.1f} µs a layer, {share:.3f} % of the step; without gates {1e6 * idle:.1f} µs")
    before, after = peaks(steps, gates, device)
    kind = "allocated" if device.type == "cuda" else "resident"
    print(f"    peak {kind}: plain {before / 1e9:.3f} GB, gated {after / 1e9:.3f} GB, ratio {after / before:.4f}")


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, or meta for part (a) alone")
    parser.add_argument("--layers", type=int, help="decoder layers of part (b); 4 on the CPU, all 32 on CUDA")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--steps", type=int, default=30, help="pairs of decoding steps, plain and gated")
    given = parser.parse_args()
    device, dtype = torch.device(given.device), getattr(torch, given.dtype)
    report_count(dtype)
    if device.type != "meta":
        report_run(device, dtype, given.layers or (32 if device.type == "cuda" else 4), given.steps)


if __name__ == "__main__":
    main()
