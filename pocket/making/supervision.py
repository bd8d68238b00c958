"""First training: the encoder learns from labels, before any language model hears through it.

Whisper's encoder keeps words to its end, but loses the voice on the way. Heads that are thrown away afterwards bring both to
its last layer: CTC on letters at 50 Hz (who speaks first; who speaks second), and gender, emotion, age, speaker and
sounds on mean and deviation over time. Nothing said is an empty target.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import jiwer
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import WhisperFeatureExtractor
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder

from ...data.manifest import Clip, Manifest
from .encoder import encode, log_mels, output_lengths, within
from .loop import Log, train
from .store import batches_by_length, training_clips

LETTERS = " abcdefghijklmnopqrstuvwxyz'"
CLASSES = {"gr": ("female", "male"), "ser": ("neutral", "happy", "sad", "angry"), "age": ("adult", "child")}
MISSING = -100
FEWEST = 5  # letters that a target counts as, at least: an empty one would weigh as much as its frames


def letters(text: str) -> list[int]:
    """A text as numbers for CTC, of which 0 is the blank."""
    return [LETTERS.index(letter) + 1 for letter in text.lower() if letter in LETTERS]


def clauses(caption: str) -> list[str]:
    """What a caption tells of: "a bell rings while rain falls" → two clauses."""
    return re.split(r" then | while ", caption)


@dataclass(frozen=True)
class Targets:
    """What the throw-away heads are to say for some clips; None and MISSING where a clip has no such label."""

    first: list[list[int] | None]
    second: list[list[int] | None]
    classes: dict[str, Int[Tensor, " row"]]
    sounds: Float[Tensor, "row sound"]
    has_sounds: Bool[Tensor, " row"]


class Labeller:
    """Turns clips into targets; knows the speakers and captions of the training clips."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        speakers = sorted({clip.speaker for clip in clips if clip.speaker and "+" not in clip.speaker})
        self.classes = CLASSES | {"speaker": tuple(speakers)}
        self.sounds = sorted({clause for clip in clips for clause in clauses(clip.labels.get("aac", ""))} - {""})

    def __call__(self, clips: Sequence[Clip]) -> Targets:
        """Targets of some clips."""

        def index(task: str) -> Tensor:
            known = {name: at for at, name in enumerate(self.classes[task])}
            names = [clip.speaker if task == "speaker" else clip.labels.get(task, "") for clip in clips]
            return torch.tensor([known.get(name, MISSING) for name in names])

        captions = [clauses(clip.labels["aac"]) if "aac" in clip.labels else [] for clip in clips]
        return Targets(
            first=[letters(clip.labels["asr"]) if "asr" in clip.labels else None for clip in clips],
            second=[letters(clip.labels["osr"].split(" ; ")[1]) if "osr" in clip.labels else None for clip in clips],
            classes={task: index(task) for task in self.classes},
            sounds=torch.tensor([[float(sound in said) for sound in self.sounds] for said in captions]),
            has_sounds=torch.tensor([bool(said) for said in captions]),
        )


class Heads(nn.Module):
    """The throw-away heads and their losses."""

    def __init__(self, width: int, labeller: Labeller) -> None:
        super().__init__()
        self.first = nn.Linear(width, len(LETTERS) + 1)
        self.second = nn.Linear(width, len(LETTERS) + 1)
        self.classes = nn.ModuleDict({task: nn.Linear(2 * width, len(names)) for task, names in labeller.classes.items()})
        self.sounds = nn.Linear(2 * width, len(labeller.sounds))

    def losses(self, hidden: Tensor, pooled: Tensor, frames: Tensor, targets: Targets) -> dict[str, Tensor]:
        """One loss a head; those without a target in the batch are left out.

        Args:
            hidden: (row, position, width) at 50 Hz.
            pooled: (row, position, width) at 25 Hz.
            frames: mel frames of each row.
            targets: what is to be said.
        """
        lengths, shorter = output_lengths(frames)
        losses = {
            "first": _ctc(self.first(hidden), lengths, targets.first),
            "second": _ctc(self.second(hidden), lengths, targets.second),
        }
        over_time = statistics(pooled, shorter)
        for task, target in targets.classes.items():
            if bool((target != MISSING).any()):
                losses[task] = nn.functional.cross_entropy(self.classes[task](over_time), target, ignore_index=MISSING)
        if bool(targets.has_sounds.any()):
            said, wanted = self.sounds(over_time)[targets.has_sounds], targets.sounds[targets.has_sounds]
            losses["sounds"] = nn.functional.binary_cross_entropy_with_logits(said, wanted, reduction="none").sum(1).mean()
        return losses


def statistics(pooled: Float[Tensor, "row position width"], lengths: Int[Tensor, " row"]) -> Float[Tensor, "row both"]:
    """Mean and deviation over time, one behind the other."""
    heard = within(lengths, pooled.shape[1]).unsqueeze(-1)
    count = lengths[:, None].clamp(min=1)
    mean = (pooled * heard).sum(1) / count
    square = ((pooled - mean[:, None]) ** 2 * heard).sum(1) / count
    return torch.cat([mean, (square + 1e-6).sqrt()], 1)


def _ctc(logits: Tensor, lengths: Tensor, targets: list[list[int] | None]) -> Tensor:
    rows = [row for row, target in enumerate(targets) if target is not None]
    if not rows:
        return logits.new_zeros(())
    log_probs = logits[rows].log_softmax(-1).transpose(0, 1)
    wanted = [targets[row] or [] for row in rows]
    flat = torch.tensor([symbol for target in wanted for symbol in target], dtype=torch.long)
    counts = torch.tensor([len(target) for target in wanted])
    loss = nn.functional.ctc_loss(log_probs, flat, lengths[rows], counts, reduction="none", zero_infinity=True)
    return (loss / counts.clamp(min=FEWEST)).mean()


def spec_augment(mels: Float[Tensor, "row frame mel"], rng: np.random.Generator) -> Float[Tensor, "row frame mel"]:
    """Shift the level, and blank a band of up to 12 mels and up to two stretches of 16 frames (0.16 s)."""
    mels = mels + torch.from_numpy(rng.uniform(-0.25, 0.25, (len(mels), 1, 1)).astype(np.float32))
    for row in range(len(mels)):
        floor = float(mels[row].min())
        low = int(rng.integers(0, mels.shape[2] - 12))
        mels[row, :, low : low + int(rng.integers(0, 13))] = floor
        for _ in range(2):
            at = int(rng.integers(0, mels.shape[1]))
            mels[row, at : at + int(rng.integers(0, 17))] = floor
    return mels


def train_encoder(
    tower: Qwen2AudioEncoder,
    manifest: Manifest,
    extractor: WhisperFeatureExtractor,
    settings: dict,
    seed: int,
    checkpoint: Path,
    log: Log,
) -> None:
    """Train the encoder, which has Whisper's weights, on the training clips; figures on dev go to the log.

    Args:
        tower: the encoder.
        manifest: the corpus.
        extractor: makes the mels.
        settings: "seconds" and "rows" at most in a batch, "steps", "warmup", "repeat" (kind → times), "rates" (of encoder
            and heads), "weights" of the heads' losses.
        seed: of batches and masking.
        checkpoint: a file.
        log: told how it goes.
    """
    clips = list(manifest)
    chosen = training_clips(clips, settings["repeat"])
    labeller = Labeller([clips[at] for at in chosen])
    torch.manual_seed(seed)
    heads = Heads(tower.config.d_model, labeller)
    lengths = [clip.duration or 0.0 for clip in clips]
    batches = list(islice(batches_by_length(lengths, chosen, settings["seconds"], settings["rows"], seed), settings["steps"]))
    weights = settings["weights"]

    def losses(step: int) -> dict[str, Tensor]:
        some = [clips[at] for at in batches[step]]
        mels, frames = log_mels([manifest.path(clip) for clip in some], extractor)
        found = heads.losses(
            *encode(tower, spec_augment(mels, np.random.default_rng([seed, step])), frames), frames, labeller(some)
        )
        return {name: weights.get(name, 1.0) * loss for name, loss in found.items()}

    modules = nn.ModuleDict({"encoder": tower, "heads": heads})
    train(
        modules,
        losses,
        steps=settings["steps"],
        peak=settings["rates"],
        warmup=settings["warmup"],
        checkpoint=checkpoint,
        log=log,
    )
    log(f"dev {encoder_report(tower, heads, manifest.select('dev'), extractor, labeller)}")


@torch.no_grad()
def encoder_report(
    tower: Qwen2AudioEncoder, heads: Heads, manifest: Manifest, extractor: WhisperFeatureExtractor, labeller: Labeller
) -> dict[str, float]:
    """By kind of clip: per cent of right answers of each head of classes, and word error rates of greedy CTC."""
    right: dict[str, list[float]] = {}
    said: dict[str, tuple[list[str], list[str]]] = {}
    clips = sorted(manifest, key=lambda clip: clip.duration or 0)
    for start in range(0, len(clips), 16):
        some = clips[start : start + 16]
        mels, frames = log_mels([manifest.path(clip) for clip in some], extractor)
        hidden, pooled = encode(tower, mels, frames)
        lengths, shorter = output_lengths(frames)
        over_time, targets = statistics(pooled, shorter), labeller(some)
        for task, target in targets.classes.items():
            hits = heads.classes[task](over_time).argmax(-1) == target
            for clip, hit, wanted in zip(some, hits.tolist(), target.tolist(), strict=True):
                if wanted != MISSING:
                    right.setdefault(f"{clip.kind}.{task}", []).append(100.0 * hit)
        best = heads.first(hidden).argmax(-1)
        for clip, row, length in zip(some, best, lengths.tolist(), strict=True):
            if clip.labels.get("asr"):
                found = "".join(LETTERS[symbol - 1] for symbol in torch.unique_consecutive(row[:length]).tolist() if symbol)
                references, answers = said.setdefault(f"{clip.kind}.wer", ([], []))
                references.append(clip.labels["asr"])
                answers.append(found)
    figures = {name: sum(hits) / len(hits) for name, hits in right.items()}
    figures |= {name: 100 * jiwer.wer(references, answers) for name, (references, answers) in said.items()}
    return {name: round(figure, 1) for name, figure in sorted(figures.items())}
