"""First stage: the audio encoder learns from labels, before any language model sees it.

Heads that are thrown away afterwards: CTC on phones at 25 Hz (also on real sentences), CTC on words at 12.5 Hz
(who speaks first; who speaks second), and gender, style, age, speaker and sounds on the mean over time. Trained
through the language model alone, the same encoder sits on a plateau for hundreds of steps.
"""

import subprocess
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder

from ...data.manifest import Clip
from ..corpus.clips import REAL
from ..corpus.grammar import VOCABULARY
from ..corpus.sounds import EVENTS
from ..corpus.synthesis import STYLES

WORDS = ("<blank>", *sorted(VOCABULARY))
GENDERS, AGES = ("female", "male"), ("adult", "child")
MISSING = -100


def output_lengths(frames: Int[Tensor, " row"]) -> tuple[Int[Tensor, " row"], Int[Tensor, " row"]]:
    """Lengths after the second convolution (25 Hz) and after pooling (12.5 Hz)."""
    after_conv = (frames - 1) // 2 + 1
    return after_conv, (after_conv - 2) // 2 + 1


def encode(
    tower: Qwen2AudioEncoder, mels: Float[Tensor, "row frame mel"], lengths: Int[Tensor, " row"]
) -> tuple[Float[Tensor, "row position width"], Float[Tensor, "row pooled width"]]:
    """The encoder's forward over a batch cut to its longest clip, instead of to the whole window.

    The model itself always hears the full window with the rest masked out; both give the same features up to what
    the convolutions see of the first padded frame.

    Returns:
        Hidden states before pooling, and the final features.
    """
    if mels.shape[1] % 4:
        mels = torch.nn.functional.pad(mels, (0, 0, 0, 4 - mels.shape[1] % 4), value=float(mels.min()))
    hidden = nn.functional.gelu(tower.conv1(mels.transpose(1, 2)))
    hidden = nn.functional.gelu(tower.conv2(hidden)).transpose(1, 2)
    hidden = hidden + tower.embed_positions.weight[: hidden.shape[1]]
    heard = torch.arange(hidden.shape[1])[None] < output_lengths(lengths)[0][:, None]
    mask = torch.zeros(heard.shape).masked_fill(~heard, torch.finfo(torch.float32).min)[:, None, None, :]
    mask = mask.expand(-1, 1, hidden.shape[1], -1)
    for layer in tower.layers:
        hidden = layer(hidden, mask)
    pooled = tower.avg_pooler(hidden.transpose(1, 2)).transpose(1, 2)
    return hidden, tower.layer_norm(pooled)


@cache
def phones(word: str) -> tuple[str, ...]:
    """The phones of an English word, as espeak-ng says them."""
    out = subprocess.run(["espeak-ng", "-q", "-x", "--sep=_", "-v", "en-us", word], capture_output=True, text=True, check=True)
    marks = str.maketrans("", "", "',%=:|;")
    spoken = (phone.translate(marks) for phone in out.stdout.strip().replace(" ", "_").split("_"))
    return tuple(phone for phone in spoken if phone)


@dataclass(frozen=True)
class Targets:
    """What the throw-away heads are to say for some clips; MISSING where a clip has no such label."""

    phones: list[list[int] | None]
    first: list[list[int] | None]
    second: list[list[int] | None]
    gender: Int[Tensor, " row"]
    style: Int[Tensor, " row"]
    age: Int[Tensor, " row"]
    speaker: Int[Tensor, " row"]
    sounds: Float[Tensor, "row sound"]
    has_sounds: Bool[Tensor, " row"]


class Labeller:
    """Turns clips into targets; knows the phones and speakers of the training clips."""

    def __init__(self, clips: list[Clip]) -> None:
        words = {word for clip in clips for word in clip.text.replace(" ; ", " ").split()}
        self.phone_ids = {phone: i for i, phone in enumerate(sorted({p for w in words for p in phones(w)}), 1)}
        self.speakers = {name: i for i, name in enumerate(sorted({self._voice(clip) for clip in clips if clip.speaker}))}
        self.word_ids = {word: i for i, word in enumerate(WORDS)}
        self.events = list(EVENTS)

    @staticmethod
    def _voice(clip: Clip) -> str:
        return "-".join(clip.speaker.split("-")[:2]) if "+" not in clip.speaker else ""

    def _words(self, text: str) -> list[int] | None:
        words = text.split()
        return [self.word_ids[word] for word in words] if all(word in self.word_ids for word in words) else None

    def __call__(self, clips: list[Clip]) -> Targets:
        """Targets of some clips."""

        def index(names: tuple[str, ...], task: str) -> Tensor:
            return torch.tensor([names.index(c.labels[task]) if task in c.labels else MISSING for c in clips])

        seconds = [clip.labels["osr"].split(" ; ")[1] if "osr" in clip.labels else "" for clip in clips]
        one_voice = [clip.kind != "overlap" for clip in clips]
        captions = [clip.labels.get("aac", "") for clip in clips]
        return Targets(
            phones=[
                [self.phone_ids[p] for w in clip.text.split() for p in phones(w) if p in self.phone_ids] if alone else None
                for clip, alone in zip(clips, one_voice, strict=True)
            ],
            first=[self._words(clip.labels["asr"]) if "asr" in clip.labels else None for clip in clips],
            second=[self._words(text) if clip.kind not in REAL else None for clip, text in zip(clips, seconds, strict=True)],
            gender=index(GENDERS, "gr"),
            style=index(tuple(STYLES), "ser"),
            age=index(AGES, "age"),
            speaker=torch.tensor([self.speakers.get(self._voice(clip), MISSING) for clip in clips]),
            sounds=torch.tensor([[float(EVENTS[event][1] in caption) for event in self.events] for caption in captions]),
            has_sounds=torch.tensor([bool(caption) for caption in captions]),
        )


class Heads(nn.Module):
    """The throw-away heads and their joint loss."""

    def __init__(self, width: int, labeller: Labeller) -> None:
        super().__init__()
        self.phones = nn.Linear(width, len(labeller.phone_ids) + 1)
        self.first = nn.Linear(width, len(WORDS))
        self.second = nn.Linear(width, len(WORDS))
        self.gender = nn.Linear(width, len(GENDERS))
        self.style = nn.Linear(width, len(STYLES))
        self.age = nn.Linear(width, len(AGES))
        self.speaker = nn.Linear(width, max(labeller.speakers.values()) + 1)
        self.sounds = nn.Linear(width, len(EVENTS))

    def losses(self, hidden: Tensor, pooled: Tensor, lengths: Tensor, targets: Targets) -> dict[str, Tensor]:
        """One loss a head; those without a target in the batch are left out."""
        slow, slower = output_lengths(lengths)
        heard = (torch.arange(pooled.shape[1])[None] < slower[:, None]).unsqueeze(-1)
        mean = (pooled * heard).sum(1) / heard.sum(1)
        losses = {
            "phones": _ctc(self.phones(hidden), slow, targets.phones),
            "first": _ctc(self.first(pooled), slower, targets.first),
            "second": _ctc(self.second(pooled), slower, targets.second),
        }
        for name in ("gender", "style", "age", "speaker"):
            target = getattr(targets, name)
            if bool((target != MISSING).any()):
                losses[name] = nn.functional.cross_entropy(getattr(self, name)(mean), target, ignore_index=MISSING)
        if bool(targets.has_sounds.any()):
            said = self.sounds(mean)[targets.has_sounds]
            losses["sounds"] = nn.functional.binary_cross_entropy_with_logits(said, targets.sounds[targets.has_sounds])
        return losses


def _ctc(logits: Tensor, lengths: Tensor, targets: list[list[int] | None]) -> Tensor:
    rows = [row for row, target in enumerate(targets) if target is not None]
    if not rows:
        return logits.new_zeros(())
    log_probs = logits[rows].log_softmax(-1).transpose(0, 1)
    wanted = [targets[row] or [] for row in rows]
    flat = torch.tensor([symbol for target in wanted for symbol in target], dtype=torch.long)
    counts = torch.tensor([len(target) for target in wanted])
    loss = nn.functional.ctc_loss(log_probs, flat, lengths[rows], counts, reduction="none", zero_infinity=True)
    return (loss / counts.clamp(min=1)).mean()
