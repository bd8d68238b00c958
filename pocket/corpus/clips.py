"""Make the pocket corpus: clips of six kinds with every label they carry, seeded, resumable, in parallel.

Each clip is drawn from a generator of its own, seeded by (seed, kind, split, number): any clip can be made alone, a
stopped run goes on where it was, and the result does not depend on the number of processes.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float32

from ...data.manifest import Clip, Split, write_manifest
from ...errors import DataError
from .effects import transmit
from .grammar import Sentence, draw_sentence
from .real import RealSpeech, read_speechocean
from .sounds import EVENTS, draw_event
from .synthesis import RATE, STYLES, WINDOW, Sound, speak
from .voices import Voice, check_voices, draw_voice

SPLITS = ("train", "dev", "test")
PERSON = {"female": "a woman", "male": "a man"}


@dataclass(frozen=True)
class Utterance:
    """One synthetic sentence, spoken."""

    wave: Float32[np.ndarray, " time"]
    sentence: Sentence
    voice: Voice
    style: str


def _utter(rng: np.random.Generator, split: str, voice: Voice | None = None, short: bool = False) -> Utterance:
    voice = voice or draw_voice(rng, split)
    style = "neutral" if voice.engine == "flite" else str(rng.choice(list(STYLES)))
    sentence = draw_sentence(rng, split, short)
    return Utterance(speak(sentence.english, voice, style, rng), sentence, voice, style)


def _speech_labels(said: Utterance) -> dict[str, str]:
    labels = {"asr": said.sentence.english, "gr": said.voice.gender, "s2tt": said.sentence.german}
    # flite speaks in one manner only, so its clips would give the style away by the synthesiser.
    return labels if said.voice.engine == "flite" else labels | {"ser": said.style}


def _pad(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    before, after = (np.zeros(int(rng.uniform(0.02, 0.25) * RATE), np.float32) for _ in range(2))
    return np.concatenate([before, wave, after])


def make_speech(rng: np.random.Generator, split: str) -> Sound:
    """One sentence by one voice."""
    said = _utter(rng, split)
    labels = _speech_labels(said) | {"aac": f"{PERSON[said.voice.gender]} speaks"}
    row = {"labels": labels, "source": said.voice.engine, "speaker": said.voice.speaker, "text": said.sentence.english}
    return Sound(_pad(said.wave, rng), row)


def _mix(base: np.ndarray, other: np.ndarray, at: int, gain: float) -> np.ndarray:
    mixed = np.zeros(max(len(base), at + len(other)), np.float32)
    mixed[: len(base)] += base
    mixed[at : at + len(other)] += gain * other
    return mixed


def make_scene(rng: np.random.Generator, split: str) -> Sound:
    """One or two sound events, one after the other or at once, or someone speaking while an event goes on."""
    shape = str(rng.choice(["speech", "one", "then", "while"], p=[0.4, 0.2, 0.2, 0.2]))
    if shape == "speech":
        said = _utter(rng, split)
        speech = _pad(said.wave, rng)
        event, sound = draw_event(rng, len(speech) / RATE)
        wave = _mix(speech, sound, 0, 10 ** (rng.uniform(-14, -4) / 20))
        caption = f"{PERSON[said.voice.gender]} speaks while {EVENTS[event][1]}"
        row = {"source": said.voice.engine, "speaker": said.voice.speaker, "text": said.sentence.english}
        return Sound(wave, row | {"labels": _speech_labels(said) | {"aac": caption}})
    seconds = rng.uniform(1.2, 2.2)
    first, wave = draw_event(rng, seconds)
    caption = EVENTS[first][1]
    if shape != "one":
        second, other = draw_event(rng, seconds, avoid=first)
        at = 0 if shape == "while" else len(wave) + int(0.1 * RATE)
        wave = _mix(wave, other, at, 10 ** (rng.uniform(-4, 4) / 20))
        if shape == "while":  # both at once: alphabetical, so that the caption is a function of the sound
            first, second = sorted((first, second))
        caption = f"{EVENTS[first][1]} {shape} {EVENTS[second][1]}"
    return Sound(wave, {"labels": {"aac": caption, "asr": ""}, "source": "procedural"})


def make_pair(rng: np.random.Generator, split: str) -> Sound:
    """Two utterances with a pause between them, by one speaker or by two of the same gender or not."""
    same = rng.random() < 0.5
    first = _utter(rng, split, short=True)
    voice = first.voice if same else None
    while voice is None or (not same and voice.name == first.voice.name):
        # Half of the impostors share the gender: pitch alone must not do.
        voice = draw_voice(rng, split, first.voice.gender if rng.random() < 0.5 else None)
    second = _utter(rng, split, voice, short=True)
    pause = np.zeros(int(rng.uniform(0.25, 0.5) * RATE), np.float32)
    wave = np.concatenate([first.wave, pause, second.wave])
    people = [PERSON[said.voice.gender] for said in (first, second)]
    other = people[1] if people[0] != people[1] else "another"
    labels = {
        "asv": "yes" if same else "no",
        "asr": f"{first.sentence.english} {second.sentence.english}",
        "aac": f"{people[0]} speaks twice" if same else f"{people[0]} speaks then {other} speaks",
    }
    row = {"source": first.voice.engine, "speaker": f"{first.voice.speaker}+{second.voice.speaker}", "text": labels["asr"]}
    return Sound(_pad(wave, rng), row | {"labels": labels})


def make_overlap(rng: np.random.Generator, split: str) -> Sound:
    """Two speakers at once, the second 0.3 to 0.7 s after the first; `osr` writes both, in that order."""
    first = _utter(rng, split, short=True)
    voice = draw_voice(rng, split)
    while voice.name == first.voice.name:
        voice = draw_voice(rng, split)
    second = _utter(rng, split, voice, short=True)
    at = int(rng.uniform(0.3, 0.7) * RATE)
    wave = _mix(first.wave, second.wave, at, 10 ** (rng.uniform(-3, 3) / 20))
    both = f"{first.sentence.english} ; {second.sentence.english}"
    # "asr" of an overlap is who speaks first: a transcriber that is not told of the second follows the first.
    labels = {"osr": both, "asr": first.sentence.english, "aac": "two people speak at once"}
    row = {"source": first.voice.engine, "speaker": f"{first.voice.speaker}+{second.voice.speaker}", "text": both}
    return Sound(_pad(wave, rng), row | {"labels": labels})


SYNTHETIC: dict[str, Callable[[np.random.Generator, str], Sound]] = {
    "speech": make_speech,
    "scene": make_scene,
    "pair": make_pair,
    "overlap": make_overlap,
}
REAL = ("real", "digits")
KIND_NUMBERS = {kind: number for number, kind in enumerate((*SYNTHETIC, *REAL))}


@dataclass(frozen=True)
class Job:
    """One clip to be made."""

    folder: Path
    seed: int
    kind: str
    split: Split
    number: int
    real: RealSpeech | None = None

    @property
    def path(self) -> str:
        """Where the clip lies below the corpus folder."""
        return f"{self.split}/{self.kind}/{self.number:06d}.flac"


def make_clip(job: Job) -> Clip:
    """Make one clip and write it, unless it is there already; returns its manifest row."""
    rng = np.random.default_rng([job.seed, KIND_NUMBERS[job.kind], SPLITS.index(job.split), job.number])
    if job.real:
        draw = job.real.draw if job.kind == "real" else job.real.draw_digits
        sound = draw(rng, job.split, job.number)
    else:
        sound = SYNTHETIC[job.kind](rng, job.split)
    wave, effects = transmit(sound.wave, rng)
    wave = wave[: int(WINDOW * RATE)]
    path = job.folder / job.path
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        half_written = path.with_suffix(".part")
        soundfile.write(half_written, np.clip(wave, -1, 1), RATE, format="FLAC")
        half_written.replace(path)
    return Clip(
        path=job.path, split=job.split, kind=job.kind, effects=tuple(effects), duration=round(len(wave) / RATE, 3), **sound.clip
    )


def make_corpus(
    folder: Path, sizes: dict[Split, dict[str, int]], seed: int = 0, speechocean: Path | None = None, processes: int = 2
) -> Iterator[Clip]:
    """Make the corpus and its manifest.jsonl; yields each clip as it is made.

    Args:
        folder: where to; made if absent, and completed if an earlier run was stopped.
        sizes: split → kind → number of clips; the kinds are those of `SYNTHETIC` and `REAL`.
        seed: the same seed gives the same corpus (with the same synthesisers).
        speechocean: folder of speechocean762, for the kinds of `REAL`.
        processes: how many at once.

    Raises:
        DataError: a synthesiser or one of its voices is missing, or one of `REAL` is asked for without a folder.
    """
    check_voices()
    real = read_speechocean(speechocean) if speechocean else None
    jobs = [
        Job(folder, seed, kind, split, number, real if kind in REAL else None)
        for split, kinds in sizes.items()
        for kind, count in kinds.items()
        for number in range(count)
    ]
    if real is None and any(job.kind in REAL for job in jobs):
        raise DataError("the corpus is to have real recordings, but no folder of speechocean762 was given")
    folder.mkdir(parents=True, exist_ok=True)
    clips = []
    with ProcessPoolExecutor(processes) as pool:
        for clip in pool.map(make_clip, jobs, chunksize=32):
            clips.append(clip)
            yield clip
    write_manifest(clips, folder / "manifest.jsonl")
