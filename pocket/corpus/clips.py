"""Make the pocket corpus: clips of many kinds with every label they carry, seeded, resumable, in parallel.

Each clip is drawn from a generator of its own, seeded by (seed, kind, split, number): any clip can be made alone, a
stopped run goes on where it was, and the result does not depend on the number of processes.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from ...data.manifest import Clip, Split, write_manifest
from ...data.reading import read_manifest
from . import effects
from .grammar import Sentence
from .people import RECORDED, People
from .recordings import SETS, read_sets
from .sentences import read_tatoeba
from .synthesis import RATE, WINDOW
from .synthetic import SYNTHETIC, make_open
from .voices import check_voices

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
KIND_NUMBERS = {kind: number for number, kind in enumerate((*SYNTHETIC, "open", *RECORDED))}
SAVE_EVERY = 500  # clips
TATOEBA = "tatoeba_en_de"


@dataclass(frozen=True)
class Sources:
    """What the clips are drawn from beside the synthesisers, by split."""

    sentences: dict[Split, tuple[Sentence, ...]]
    people: dict[Split, People]
    absent: tuple[str, ...]


def hash_sources(shared: Path | None) -> dict[str, str]:
    """A hash of what each set that is there says of its recordings or sentences."""
    files = [f"{name}/manifest.jsonl" for name in SETS] + [f"{TATOEBA}/{name}" for name in ("pairs.tsv", "english.txt")]
    found = {name: shared / name for name in files} if shared else {}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items() if path.is_file()}


def read_sources(shared: Path | None) -> Sources:
    """Read the sets that lie in a folder; without a folder there are none."""
    if shared is None:
        return Sources({}, {split: People(()) for split in SPLITS}, ())
    recordings, absent = read_sets(shared)
    people = {split: People(tuple(each for each in recordings if each.split == split)) for split in SPLITS}
    if not (shared / TATOEBA / "pairs.tsv").exists():
        return Sources({}, people, (*absent, TATOEBA))
    return Sources(read_tatoeba(shared / TATOEBA), people, absent)


def available(kind: str, split: Split, sources: Sources) -> bool:
    """Whether there is anything that clips of a kind can be drawn from."""
    people = sources.people[split]
    needs = {
        "open": sources.sentences.get(split),
        "person": people.persons,
        "actor": people.actors,
        "word": people.words,
        "digits": people.strings if kind == "digits" else (),
        "person-pair": people.persons,
        "person-overlap": people.short,
        "sound": people.sounds,
    }
    return kind in SYNTHETIC or bool(needs[kind])


@dataclass(frozen=True)
class Job:
    """One clip to be made."""

    folder: Path
    seed: int
    kind: str
    split: Split
    number: int

    @property
    def path(self) -> str:
        """Where the clip lies below the corpus folder."""
        return f"{self.split}/{self.kind}/{self.number:06d}.flac"


_sources: list[Sources] = []  # of this process; they are too large to travel with each job


def _set_sources(sources: Sources) -> None:
    _sources[:] = [sources]


def make_clip(job: Job) -> Clip:
    """Make one clip and write it, unless it is there already; returns its manifest row."""
    rng = np.random.default_rng([job.seed, KIND_NUMBERS[job.kind], SPLITS.index(job.split), job.number])
    sources, chances = _sources[0], effects.SYNTHETIC
    if job.kind in RECORDED:
        sound, chances = RECORDED[job.kind](sources.people[job.split], rng, job.number), effects.RECORDED
    elif job.kind == "open":
        sound = make_open(rng, job.split, sources.sentences[job.split])
    else:
        sound = SYNTHETIC[job.kind](rng, job.split)
    if job.kind == "quiet":  # its level is what it is about, and noise is all it has
        chances = dict.fromkeys(chances, 0.0) | {"opus": chances["opus"]}
    wave, done = effects.transmit(sound.wave[: int(WINDOW * RATE)], rng, chances)
    path = job.folder / job.path
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        half_written = path.with_suffix(".part")
        soundfile.write(half_written, np.clip(wave, -1, 1), RATE, format="FLAC")
        half_written.replace(path)
    seconds = round(len(wave) / RATE, 3)
    return Clip(path=job.path, split=job.split, kind=job.kind, effects=tuple(done), duration=seconds, **sound.clip)


def make_corpus(
    folder: Path, sizes: dict[Split, dict[str, int]], seed: int = 0, shared: Path | None = None, processes: int = 2
) -> Iterator[Clip]:
    """Make the corpus and its manifest.jsonl; yields each clip as it is made.

    Args:
        folder: where to; made if absent, and completed if an earlier run was stopped.
        sizes: split → kind → number of clips; the kinds are those of `KIND_NUMBERS`. Kinds whose sets are absent are left out.
        seed: the same seed gives the same corpus (with the same synthesisers).
        shared: folder of the sets of recordings and sentences.
        processes: how many at once.

    Raises:
        DataError: a synthesiser or one of its voices is missing, or a set cannot be read.
    """
    check_voices()
    sources = read_sources(shared)
    jobs = [
        Job(folder, seed, kind, split, number)
        for split, kinds in sizes.items()
        for kind, count in kinds.items()
        if available(kind, split, sources)
        for number in range(count)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    so_far = folder / "manifest.part.jsonl"
    clips = list(read_manifest(so_far)) if so_far.exists() and so_far.stat().st_size else []
    with ProcessPoolExecutor(processes, initializer=_set_sources, initargs=(sources,)) as pool:
        for clip in pool.map(make_clip, jobs[len(clips) :], chunksize=32):
            clips.append(clip)
            if len(clips) % SAVE_EVERY == 0:
                write_manifest(clips, so_far)
            yield clip
    write_manifest(clips, so_far)
    so_far.replace(folder / "manifest.jsonl")
