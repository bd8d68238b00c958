"""Real people in the pocket corpus: speechocean762, where it is present when the corpus is made.

It gives gender and age group; digit strings also give `asr` and `s2tt`, and the kind "digits": what is between their pauses.
The split is by speaker.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
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


def cuts_between(wave: Float32[np.ndarray, " time"], words: int) -> list[int] | None:
    """Where to cut a wave into its words: the quietest sample of each pause; None where pauses do not tell the words apart."""
    power = np.convolve(wave**2, np.ones(int(0.03 * RATE)), "same")
    for floor in np.linspace(0.02, 0.5, 49):
        loud = np.flatnonzero(power > floor**2 * np.percentile(power, 99))
        # Softer for less than 80 ms is within a word (a stop, say); loud for less than 120 ms is none.
        bursts = np.split(loud, np.flatnonzero(np.diff(loud) > 0.08 * RATE) + 1)
        bursts = [burst for burst in bursts if burst[-1] - burst[0] > 0.12 * RATE]
        if len(bursts) == words:
            pauses = [(before[-1], after[0]) for before, after in pairwise(bursts)]
            return [int(end + power[end:start].argmin()) for end, start in pauses]
    return None


@dataclass(frozen=True)
class RealSpeech:
    """The recordings of speechocean762, by split; `draw` yields clips of the kind "real", `draw_digits` of "digits"."""

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
                return self._slow(row, self._load(row), rng)
        return self._sound(row, self._load(row), split)

    def draw_digits(self, rng: np.random.Generator, split: str, number: int) -> Sound:
        """Digits cut out of a string: outside train each digit once, in order; in train one or two, some of them slowed."""
        if split != "train":
            row, wave = self._digits[split][number % len(self._digits[split])]
            return self._sound(row, wave, split)
        digits = self._digits[split]
        at = int(rng.integers(len(digits)))
        row, wave = digits[at]
        if at + 1 < len(digits) and digits[at + 1][0]["path"] == row["path"] and rng.random() < 0.3:
            after = digits[at + 1]
            row, wave = row | {"text": f"{row['text']} {after[0]['text']}"}, np.concatenate([wave, after[1]])
        return self._slow(row, wave, rng) if rng.random() < 0.5 else self._sound(row, wave, split)

    @cached_property
    def _digits(self) -> dict[str, list[tuple[dict, np.ndarray]]]:
        """Each digit of the strings that pauses take apart: its row, with the digit as text, and its wave."""
        found: dict[str, list[tuple[dict, np.ndarray]]] = {}
        for split, rows in self.rows.items():
            found[split] = []
            for row in filter(_words, rows):
                wave, words = self._load(row), row["text"].split()
                cuts = cuts_between(wave, len(words))
                if cuts is not None:
                    pieces = [trim(piece, floor=0.02) for piece in np.split(wave, cuts)]
                    found[split] += [(row | {"text": word}, piece) for word, piece in zip(words, pieces, strict=True)]
        return found

    def _sound(self, row: dict, wave: np.ndarray, split: str) -> Sound:
        # A young child's gender is hardly heard: learning it means to learn the speakers by heart.
        labels = {"gr": row["gender"]} if row["age"] > CHILD or split == "test" else {}
        if row["age"] <= CHILD or row["age"] >= ADULT:
            labels["age"] = "child" if row["age"] <= CHILD else "adult"
        clip = {"labels": labels | _words(row), "source": "speechocean762", "speaker": row["speaker"], "text": row["text"]}
        return Sound(wave, clip)

    def _slow(self, row: dict, wave: np.ndarray, rng: np.random.Generator) -> Sound:
        """Digits played slower: nearly all are children's, and so some sound like larger people."""
        wave = soxr.resample(wave, RATE * rng.uniform(*SLOWED), RATE).astype(np.float32)
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
