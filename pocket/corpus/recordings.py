"""The recordings that the pocket corpus draws from: free sets, each optional, and what their manifests tell of a clip.

Each set is a folder with a `manifest.jsonl`; `SETS` says which fields become which labels and by what it is divided.
Speakers (for sounds: source recordings) are divided into train, dev and test, so that those of test are never trained on.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...data.manifest import Split
from ...errors import DataError
from .grammar import DIGITS, digit_string
from .synthesis import WINDOW

CHILD, ADULT = 12, 18  # years: up to 12 a child, from 18 an adult; those between have no age label
DECADES = ("twenties", "thirties", "forties", "fifties", "sixties", "seventies", "eighties", "nineties")
EMOTIONS = ("neutral", "happy", "sad", "angry")
MEASURING_ONLY = ("librispeech",)


@dataclass(frozen=True)
class Recording:
    """One recording of a set.

    Attributes:
        path: the audio file.
        source: the set's name.
        kind: "person", "actor" (a person who acts an emotion), "word" (one word of a person) or "sound".
        speaker: who speaks, or the source of a sound; the split is by this.
        split: train, dev or test.
        gender: "female", "male", or "" where it is unknown or, in a child, hardly heard.
        labels: task → target.
        text: the words; "" where they are unknown or none.
        seconds: duration.
    """

    path: Path
    source: str
    kind: str
    speaker: str
    split: Split
    gender: str
    labels: dict[str, str]
    text: str
    seconds: float


def _age_group(age: object) -> str:
    if isinstance(age, int):
        return "child" if age <= CHILD else "adult" if age >= ADULT else ""
    return "adult" if age in DECADES else ""


def word_labels(text: str) -> dict[str, str]:
    """The transcript, and of digits the translation."""
    words = text.split()
    return {"asr": text} | ({"s2tt": digit_string(words).german} if words and set(words) <= DIGITS.keys() else {})


def _person(row: dict) -> dict[str, str]:
    """Words, gender and age group. A young child's gender is hardly heard: learning it is to learn speakers by heart."""
    labels = word_labels(row["text"]) if row["text"] and row.get("lang", "en") == "en" else {}
    age = _age_group(row["age"])
    if row["gender"] in ("female", "male") and age != "child":
        labels["gr"] = row["gender"]
        labels["aac"] = f"{PERSON[row['gender']]} speaks"
    return labels | ({"age": age} if age else {})


def _actor(row: dict) -> dict[str, str]:
    return _person(row) | ({"ser": row["emotion"]} if row["emotion"] in EMOTIONS else {})


def _word(row: dict) -> dict[str, str]:
    return word_labels(row["text"]) if row["text"] else {"asr": "", "aac": "steady noise"}


def _sound(row: dict) -> dict[str, str]:
    return {"aac": row["caption"], "asr": ""}


PERSON = {"female": "a woman", "male": "a man"}


@dataclass(frozen=True)
class SetReader:
    """How the rows of a set's manifest become recordings.

    Attributes:
        kind: of its recordings.
        labels: row → labels.
        by: the field whose values are divided into splits.
        held_out: split → values, where their number is too small to be left to the rule of `split_at`.
    """

    kind: str
    labels: Callable[[dict], dict[str, str]]
    by: str = "speaker"
    held_out: tuple[tuple[str, Split], ...] = ()


SETS = {
    "common_voice_en": SetReader("person", _person),
    "speechocean762": SetReader("person", _person),
    "emodb_german": SetReader("actor", _actor, held_out=(("emodb_03", "test"), ("emodb_08", "test"), ("emodb_12", "dev"))),
    "speech_commands": SetReader("word", _word),
    "esc10": SetReader("sound", _sound, "group"),
    "everyday_sounds": SetReader("sound", _sound, "group"),
}


def split_at(rank: int) -> Split:
    """The split of the speaker at a rank in sorted order: of every nine speakers two are held aside, one is for dev."""
    return "test" if rank % 9 < 2 else "dev" if rank % 9 == 2 else "train"


def read_set(folder: Path, name: str | None = None) -> tuple[Recording, ...]:
    """Read the manifest of a set, known by its folder's name, and divide it; recordings over the window are left out.

    Raises:
        DataError: the manifest cannot be read, or the set is none that is to be trained on.
    """
    name = name or folder.name
    if name.startswith(MEASURING_ONLY):
        raise DataError(f"{name} is for measuring only; got it as data to train on; leave it out")
    if name not in SETS:
        raise DataError(f"unknown set {name!r}; expected one of {', '.join(SETS)}; add a reader to pocket/corpus/recordings.py")
    try:
        lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"cannot read {name} at {folder}: {error.strerror}") from None
    reader, rows = SETS[name], [json.loads(line) for line in lines]
    owners = sorted({row[reader.by] for row in rows})
    splits: dict[str, Split] = {owner: split_at(rank) for rank, owner in enumerate(owners)}
    if reader.held_out:
        splits = {owner: dict(reader.held_out).get(owner, "train") for owner in owners}
    found = []
    for row in rows:
        if row["duration"] <= WINDOW:
            labels, text = reader.labels(row), row["text"]
            gender, owner = labels.get("gr", ""), row[reader.by]
            path, speaker = folder / row["path"], f"{name}-{owner}"
            found.append(Recording(path, name, reader.kind, speaker, splits[owner], gender, labels, text, row["duration"]))
    return tuple(found)


def read_sets(shared: Path) -> tuple[tuple[Recording, ...], tuple[str, ...]]:
    """All recordings of the sets that lie in a folder, mixed so that the first few are of many speakers; and which are absent."""
    absent = tuple(name for name in SETS if not (shared / name / "manifest.jsonl").exists())
    found = [each for name in SETS if name not in absent for each in read_set(shared / name)]
    return tuple(sorted(found, key=lambda each: hashlib.sha256(each.path.name.encode()).digest())), absent
