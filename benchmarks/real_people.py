"""The pocket model on people and sounds that it never learnt from: `python benchmarks/real_people.py SHARED [--groups …]`.

SHARED is the folder of the free sets (docs/pocket.md). Of the sets that are trained on, only held-aside speakers and sources
are heard; LibriSpeech is never trained on at all. Each line is a task on one group: by mask, by prompts (the best and the
mean), unprompted, and by a random mask with as many heads.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import soundfile

from amask.data.manifest import Clip, Manifest
from amask.data.tasks import TaskSpec, collect_tasks, parse_task
from amask.evaluation.harness import predict, trials
from amask.evaluation.predictions import Prediction
from amask.evaluation.summary import summarise
from amask.lalm.clip_features import ClipFeatures
from amask.lalm.registry import load_model
from amask.mask_bank.bank import BUNDLED, MaskBank
from amask.pocket import SLICE
from amask.pocket.corpus.people import People, is_digits
from amask.pocket.corpus.recordings import Recording, read_sets
from amask.pocket.corpus.synthesis import RATE, Sound
from amask.pocket.corpus.synthetic import make_quiet

# Adults whose gender label contradicts their pitch: the median F0 of 2430, "female", is 118 Hz, that of 2236, "male", 165 Hz.
DOUBTFUL = ("speechocean762-2430", "speechocean762-2236")
LIBRISPEECH = "librispeech_test_clean"
SHORT = 8.0  # seconds of LibriSpeech's clips that measure open sentences
QUIET = 100  # clips of silence and noise
NOTHING_SAID = "silence and noise: not empty"


def librispeech(shared: Path) -> list[Recording]:
    """LibriSpeech's clips; none where the set is absent."""
    path = shared / LIBRISPEECH / "manifest.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    return [
        Recording(
            path.parent / row["path"], LIBRISPEECH, "person", row["speaker"], "test", row["gender"],
            {"asr": row["text"], "gr": row["gender"]}, row["text"], row["duration"],
        )
        for row in rows
    ]  # fmt: skip


def adult(each: Recording) -> bool:
    """Whether someone of speechocean762 is grown up; from 18 years."""
    return each.labels.get("age") == "adult"


def groups(heard: Sequence[Recording], libri: Sequence[Recording]) -> dict[str, tuple[str, list[Recording]]]:
    """What is measured on recordings as they are: name → task and recordings."""

    def of(source: str, wanted: Callable[[Recording], bool] = lambda _each: True) -> list[Recording]:
        return [each for each in heard if each.source == source and wanted(each)]

    return {
        "gender, LibriSpeech": ("gr", list(libri)),
        "gender, Common Voice": ("gr", of("common_voice_en")),
        "gender, EmoDB": ("gr", of("emodb_german")),
        "gender, speechocean762 adults": ("gr", of("speechocean762", adult)),
        "gender, without 2 speakers of doubtful label": (
            "gr",
            of("speechocean762", lambda each: adult(each) and each.speaker not in DOUBTFUL),
        ),
        "emotion, EmoDB": ("ser", of("emodb_german")),
        "words, Speech Commands": ("asr", of("speech_commands", lambda each: bool(each.text) and not is_digits(each))),
        "digits, Speech Commands": ("asr", of("speech_commands", is_digits)),
        "digit strings, speechocean762": ("asr", of("speechocean762", is_digits)),
        "open sentences, LibriSpeech": ("asr", [each for each in libri if each.seconds <= SHORT]),
        "open sentences, Common Voice": ("asr", of("common_voice_en")),
        "open sentences, speechocean762": ("asr", of("speechocean762", lambda each: not is_digits(each))),
        "age, all": ("age", [each for each in heard if each.kind == "person"]),
        "captions, sounds": ("aac", [each for each in heard if each.kind == "sound"]),
    }


def manifest_of(recordings: Iterable[Recording], task: str, longest: float, count: int) -> Manifest:
    """The recordings that have a label for a task and are no longer than the model hears: some of them, of many speakers."""
    mixed = sorted(recordings, key=lambda each: hashlib.sha256(each.path.name.encode()).digest())
    clips = [
        Clip(
            path=str(each.path), labels=each.labels, split="test", duration=each.seconds, source=each.source, speaker=each.speaker
        )
        for each in mixed
        if task in each.labels and each.seconds <= longest
    ]
    return Manifest(tuple(clips[:count]), Path("/"))


def write(sounds: Iterable[Sound], folder: Path) -> Manifest:
    """Sounds as files."""
    clips = []
    for number, sound in enumerate(sounds):
        soundfile.write(folder / f"{number}.wav", np.clip(sound.wave, -1, 1), RATE)
        clips.append(Clip(path=f"{number}.wav", split="test", **sound.clip))
    return Manifest(tuple(clips), folder)


def made(heard: Sequence[Recording], most: int) -> dict[str, tuple[str, Callable[[], Iterable[Sound]]]]:
    """What is measured on clips that are put together: name → task and what makes them."""
    people = People(tuple(each for each in heard if each.kind == "person"))

    def draw(how: Callable[[np.random.Generator, int], Sound], count: int) -> Iterable[Sound]:
        return (how(np.random.default_rng([20, number]), number) for number in range(count))

    return {
        "same speaker, pairs of people": ("asv", lambda: draw(people.draw_pair, most if people.persons else 0)),
        "two speakers, overlaps of people": ("osr", lambda: draw(people.draw_overlap, most if people.short else 0)),
        NOTHING_SAID: ("asr", lambda: draw(lambda rng, _number: make_quiet(rng, "test"), min(most, QUIET))),
    }


def spoken(runs: Sequence[Sequence[Prediction]]) -> list[str]:
    """A line's figures where nothing was said: per cent of the answers that are not empty."""
    shares: dict[str, list[float]] = {}
    for run in runs:
        shares.setdefault(run[0].condition, []).append(100 * sum(bool(each.answer.strip()) for each in run) / len(run))
    prompts = shares["prompt"]
    figures = (shares["mask"][0], min(prompts), sum(prompts) / len(prompts), shares["unprompted"][0], shares["random"][0])
    return ["% spoken", *(f"{figure:.1f}" for figure in figures)]


def scored(task: TaskSpec, runs: Sequence[Sequence[Prediction]]) -> list[str]:
    """A line's figures: metric, mask, best and mean prompt, unprompted, random."""
    by = {row.condition: row for row in summarise(task, [each for run in runs for each in run])}
    figures = (by["mask"].value, by["prompt"].best, by["prompt"].value, by["unprompted"].value, by["random"].value)
    return [by["mask"].metric, *(f"{figure:.1f}" for figure in figures)]


def collect(shared: Path, chosen: Sequence[str], longest: float, count: int, folder: Path) -> dict[str, tuple[str, Manifest]]:
    """The clips of each group that is asked for and that the sets have clips for: name → task and clips."""
    recordings, absent = read_sets(shared)
    for name in absent:
        sys.stderr.write(f"{name} is absent in {shared}\n")
    heard = [each for each in recordings if each.split == "test"]
    found = {}
    for name, (task, some) in groups(heard, librispeech(shared)).items():
        if not chosen or name in chosen:
            found[name] = task, manifest_of(some, task, longest, count)
    for number, (name, (task, make)) in enumerate(made(heard, count).items()):
        if not chosen or name in chosen:
            own = folder / str(number)
            own.mkdir()
            found[name] = task, write(make(), own)
    return {name: (task, clips) for name, (task, clips) in found.items() if len(clips)}


def main(shared: Path, chosen: Sequence[str], prompts: int, count: int) -> None:
    """One line a group on stdout."""
    model, bank = load_model("pocket"), MaskBank(BUNDLED)
    print(
        "| group | clips | speakers | metric | mask | best prompt | mean prompt | unprompted | random |",
        "|---" * 9 + "|",
        sep="\n",
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, (task, clips) in collect(shared, chosen, model.longest, count, Path(folder)).items():
            spec, features = parse_task(task, collect_tasks(SLICE)), ClipFeatures(model, clips)  # wordings that it was taught
            runs = [predict(model, features, clips.clips, spec, trial) for trial in trials(spec, bank.get(task), prompts, 1)]
            speakers = len({clip.speaker for clip in clips})
            line = spoken(runs) if name == NOTHING_SAID else scored(spec, runs)
            print(f"| {' | '.join([name, str(len(clips)), str(speakers), *line])} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", metavar="SHARED", type=Path)
    parser.add_argument("--groups", nargs="*", default=[], help="only these lines")
    parser.add_argument("--prompts", type=int, default=3)
    parser.add_argument("--clips", type=int, default=200, help="of a group, at most")
    given = parser.parse_args()
    main(given.shared, given.groups, given.prompts, given.clips)
