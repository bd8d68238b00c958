"""Real people in the pocket corpus: speechocean762, where it is present when the corpus is made.

It gives gender and age group; digit strings also give `asr` and `s2tt`. The split is by speaker.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32

from ...errors import DataError
from .grammar import DIGITS, digit_string
from .synthesis import RATE, WINDOW, Sound, trim

CHILD, ADULT = 12, 18  # years: up to 12 a child, from 18 an adult; those between have no age label
SLOWED = (0.7, 0.95)  # how fast some digit strings are played


def _words(row: dict) -> dict[str, str]:
    """The labels that a recording's words give: none, unless it is a digit string."""
    words = row["text"].split()
    return {"asr": row["text"], "s2tt": digit_string(words).german} if set(words) <= DIGITS.keys() else {}


@dataclass(frozen=True)
class RealSpeech:
    """The recordings of speechocean762, by split; `draw` yields clips of the kind "real"."""

    folder: Path
    rows: dict[str, tuple[dict, ...]]

    def _load(self, row: dict) -> Float32[np.ndarray, " time"]:
        wave, rate = soundfile.read(self.folder / row["path"], dtype="float32")
        if rate != RATE:
            raise DataError(f"{row['path']}: expected {RATE} Hz, got {rate}")
        wave = trim(wave, floor=0.02)
        return (wave * 0.1 / (np.sqrt(np.mean(wave**2)) + 1e-9)).astype(np.float32)

    def draw(self, rng: np.random.Generator, split: str, number: int) -> Sound:
        """The clip with a number: in train each recording comes several times through different channels.

        Outside train each recording comes once, in order. In train one in eight clips is a pair for `asv`.
        """
        rows = self.rows[split]
        row = rows[number % len(rows)]
        if split == "train" and rng.random() < 0.125:
            return self._pair(row, rng, split)
        if split == "train" and rng.random() < 0.4:  # digit strings are few and the only ones with a transcript
            digits = [row for row in rows if _words(row)]
            row = digits[int(rng.integers(len(digits)))]
            if rng.random() < 0.6:
                return self._slowed(row, rng)
        # A young child's gender is hardly heard: learning it means to learn the speakers by heart.
        labels = {"gr": row["gender"]} if row["age"] > CHILD or split == "test" else {}
        if row["age"] <= CHILD or row["age"] >= ADULT:
            labels["age"] = "child" if row["age"] <= CHILD else "adult"
        clip = {"labels": labels | _words(row), "source": "speechocean762", "speaker": row["speaker"], "text": row["text"]}
        return Sound(self._load(row), clip)

    def _slowed(self, row: dict, rng: np.random.Generator) -> Sound:
        """A digit string played slower: nearly all are children's, and so some sound like larger people."""
        wave = soxr.resample(self._load(row), RATE * rng.uniform(*SLOWED), RATE).astype(np.float32)
        clip = {"labels": _words(row), "source": "speechocean762", "speaker": f"{row['speaker']}-slowed", "text": row["text"]}
        return Sound(wave, clip)

    def _pair(self, row: dict, rng: np.random.Generator, split: str) -> Sound:
        same = rng.random() < 0.5
        others = [r for r in self.rows[split] if (r["speaker"] == row["speaker"]) == same and r["path"] != row["path"]]
        other = others[int(rng.integers(len(others)))]
        length = int(rng.uniform(1.5, 2.5) * RATE)
        pause = np.zeros(int(rng.uniform(0.25, 0.5) * RATE), np.float32)
        wave = np.concatenate([self._load(row)[:length], pause, self._load(other)[:length]])
        clip = {"labels": {"asv": "yes" if same else "no"}, "source": "speechocean762"}
        return Sound(wave, clip | {"speaker": f"{row['speaker']}+{other['speaker']}"})


def speaker_split(rank: int) -> str:
    """The split of the speaker at a rank in sorted order: of every nine speakers two are held aside, one is for dev."""
    return {0: "test", 1: "test", 2: "dev"}.get(rank % 9, "train")


def read_speechocean(folder: Path) -> RealSpeech:
    """Read the manifest and divide the speakers into train, dev and test; long recordings are left out."""
    try:
        lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"cannot read speechocean762 at {folder}: {error.strerror}") from None
    rows = [json.loads(line) for line in lines]
    ranks = {speaker: rank for rank, speaker in enumerate(sorted({row["speaker"] for row in rows}))}
    splits: dict[str, list[dict]] = {"train": [], "dev": [], "test": []}
    for row in rows:
        if row["duration"] <= WINDOW:
            splits[speaker_split(ranks[row["speaker"]])].append(row)
    return RealSpeech(folder, {split: tuple(kept) for split, kept in splits.items()})
