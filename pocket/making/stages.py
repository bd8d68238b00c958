"""The stages of the making: mels, encoder, features, language model. Each goes on where an earlier run stopped."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import nn
from transformers import WhisperFeatureExtractor
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder

from ...data.manifest import Clip, Manifest
from ...data.silence import cut_silence
from ..architecture import MARGIN
from ..corpus.synthesis import RATE
from .encoder import MISSING, Heads, Labeller, encode
from .loop import train
from .store import FrameStore, batches_by_length, build_store, training_clips

EASY_FRAMES = 110  # 2.2 s
Log = Callable[[str], None]


def mel_store(path: Path, manifest: Manifest, extractor: WhisperFeatureExtractor) -> FrameStore:
    """Log-mel frames of every clip as the model hears it: silence cut, by the processor, cut to the clip's length."""

    def compute(paths: list[Path]) -> list[np.ndarray]:
        waves = [cut_silence(soundfile.read(path, dtype="float32")[0], RATE, MARGIN) for path in paths]
        out = extractor(waves, sampling_rate=RATE, return_tensors="np", return_attention_mask=True)
        lengths = out["attention_mask"].sum(-1)
        return [mel.T[:length] for mel, length in zip(out["input_features"], lengths, strict=True)]

    return build_store(path, manifest, compute)


def sinusoids(length: int, width: int) -> torch.Tensor:
    """Whisper's fixed position embeddings."""
    scale = torch.exp(-torch.log(torch.tensor(10_000.0)) / (width // 2 - 1) * torch.arange(width // 2))
    angles = torch.arange(length)[:, None] * scale[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def start_encoder(tower: Qwen2AudioEncoder) -> None:
    """Initial weights that suit a narrow encoder.

    transformers draws all weights at a deviation of 0.02, meant for wide models: here the positions would drown what
    is heard, and CTC would stay on its plateau for hundreds of steps.
    """
    tower.embed_positions.weight.data.copy_(0.3 * sinusoids(*tower.embed_positions.weight.shape))
    for module in tower.modules():
        if isinstance(module, nn.Linear | nn.Conv1d):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, std=fan_in**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def warp_voice(mels: torch.Tensor, rng: np.random.Generator, most: float) -> torch.Tensor:
    """Stretch the mel axis of each row by a factor of 1 ± `most`, as if the speaker had a longer or shorter throat.

    Args:
        mels: (row, frame, mel).
        rng: draws the factors.
        most: 0 leaves the mels as they are.
    """
    last = mels.shape[2] - 1
    factors = torch.from_numpy(rng.uniform(1 - most, 1 + most, (len(mels), 1, 1)).astype(np.float32))
    source = (torch.arange(last + 1) * factors).clamp(max=last).expand(mels.shape)
    below = source.floor().long().clamp(max=last - 1)
    return torch.lerp(mels.gather(2, below), mels.gather(2, below + 1), source - below)


def spec_augment(mels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Shift the level, and blank a band of up to 10 mels and up to two stretches of 8 frames (0.16 s)."""
    mels = mels + torch.from_numpy(rng.uniform(-0.25, 0.25, (len(mels), 1, 1)).astype(np.float32))
    for row in range(len(mels)):
        floor = float(mels[row].min())
        low = int(rng.integers(0, mels.shape[2] - 10))
        mels[row, :, low : low + int(rng.integers(0, 11))] = floor
        for _ in range(2):
            at = int(rng.integers(0, mels.shape[1]))
            mels[row, at : at + int(rng.integers(0, 9))] = floor
    return mels


def train_encoder(
    tower: Qwen2AudioEncoder, store: FrameStore, clips: list[Clip], settings: dict, seed: int, folder: Path, log: Log
) -> None:
    """Train the encoder on the training clips, in rounds with a learning rate of their own; dev figures go to the log.

    Args:
        tower: the encoder.
        store: log-mels of all clips.
        clips: all clips.
        settings: "batch" and "rounds": each with steps, easy_steps, peak, warmup, the weights of the heads' losses, and,
            if at all, by how much voices are warped and which clips are repeated.
        seed: of batches and masking.
        folder: where the checkpoints are, one a round.
        log: told how it goes.
    """
    start_encoder(tower)
    chosen = training_clips(clips, {})
    labeller = Labeller([clips[i] for i in chosen])
    heads = Heads(tower.config.d_model, labeller)
    modules = nn.ModuleDict({"tower": tower, "heads": heads})
    lengths = [store.length(i) for i in range(len(clips))]
    # CTC leaves its plateau soonest on short clean speech, so that comes first.
    easy = [i for i in chosen if clips[i].kind == "speech" and clips[i].effects == ("level",) and lengths[i] < EASY_FRAMES]
    for number, phase in enumerate(settings["rounds"], 1):
        batches = list(islice(batches_by_length(lengths, easy, settings["batch"], seed), phase["easy_steps"]))
        repeated = training_clips(clips, phase.get("repeat", {}))
        batches += islice(batches_by_length(lengths, repeated, settings["batch"], seed + number), phase["steps"] - len(batches))

        def losses(step: int, batches: list = batches, phase: dict = phase, number: int = number) -> dict[str, torch.Tensor]:
            mels, frames = store.batch(batches[step])
            rng = np.random.default_rng([seed, number, step])
            mels = spec_augment(warp_voice(mels, rng, phase["warp"]) if "warp" in phase else mels, rng)
            found = heads.losses(*encode(tower, mels, frames), frames, labeller([clips[i] for i in batches[step]]))
            return {name: phase["weights"].get(name, 1.0) * loss for name, loss in found.items()}

        kept = {key: phase[key] for key in ("steps", "peak", "warmup")}
        train(modules, losses, checkpoint=folder / f"encoder{number}.pt", log=log, **kept)
        log(f"dev {encoder_report(tower, heads, store, clips, labeller, 'dev')}")


@torch.no_grad()
def encoder_report(
    tower: Qwen2AudioEncoder, heads: Heads, store: FrameStore, clips: list[Clip], labeller: Labeller, split: str
) -> dict[str, float]:
    """Share of right answers of each classifying head, and of sentences whose greedy CTC words are right."""
    right: dict[str, list[float]] = {}
    chosen = [i for i, clip in enumerate(clips) if clip.split == split]
    for start in range(0, len(chosen), 64):
        rows = chosen[start : start + 64]
        mels, frames = store.batch(rows)
        _, pooled = encode(tower, mels, frames)
        targets = labeller([clips[i] for i in rows])
        slower = ((frames - 1) // 2 + 1 - 2) // 2 + 1
        heard = (torch.arange(pooled.shape[1])[None] < slower[:, None]).unsqueeze(-1)
        mean = (pooled * heard).sum(1) / heard.sum(1)
        for row, i in enumerate(rows):
            kind = clips[i].kind
            for name in ("gender", "style", "age"):
                target = int(getattr(targets, name)[row])
                if target != MISSING:
                    right.setdefault(f"{kind}.{name}", []).append(float(getattr(heads, name)(mean[row]).argmax() == target))
            for name in ("first", "second"):
                target = getattr(targets, name)[row]
                if target:
                    best = getattr(heads, name)(pooled[row, : slower[row]]).argmax(-1)
                    said = [int(w) for w in torch.unique_consecutive(best) if w]
                    right.setdefault(f"{kind}.{name}", []).append(float(said == target))
    return {name: round(sum(hits) / len(hits), 3) for name, hits in sorted(right.items())}


@torch.no_grad()
def feature_store(path: Path, tower: Qwen2AudioEncoder, mels: FrameStore, manifest: Manifest) -> FrameStore:
    """The encoder's final features of every clip, at 12.5 Hz."""
    if path.exists():
        return build_store(path, manifest, lambda _: [])
    tower.eval()
    clips = len(mels.offsets) - 1
    order = sorted(range(clips), key=mels.length)
    features: dict[int, np.ndarray] = {}
    for start in range(0, clips, 64):
        rows = order[start : start + 64]
        frames, lengths = mels.batch(rows)
        _, pooled = encode(tower, frames, lengths)
        slower = ((lengths - 1) // 2 + 1 - 2) // 2 + 1
        features |= {row: pooled[at, : slower[at]].numpy() for at, row in enumerate(rows)}
    ordered = iter([features[clip] for clip in range(clips)])
    return build_store(path, manifest, lambda paths: [next(ordered) for _ in paths])
