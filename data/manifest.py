"""Manifests: lists of clips with every label a clip has.

Two formats are read: ours (JSONL, one clip a line) and the AHAMask authors' (`{"annotation": [...]}`).
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pydantic

from ..errors import DataError

Split = Literal["train", "dev", "test"]


class Clip(pydantic.BaseModel):
    """One audio file and what is known of it.

    Attributes:
        path: the audio file; relative paths are relative to the manifest.
        labels: task → target text, e.g. `{"asr": "put the red box", "gr": "female"}`; only the tasks it has.
        split: train, dev or test.
        duration: seconds.
        kind: what was recorded: "speech", "scene" (sounds, with or without speech), "pair" (two utterances),
            "overlap" (two speakers at once), "real" (a person).
        source: where the voice comes from: "espeak", "flite", or a corpus name.
        speaker: who speaks; for pairs and overlaps both, joined by "+".
        text: the words that are spoken, also where they are outside the `asr` task's vocabulary.
        effects: what the channel did to it.
        instruction: an instruction of the clip's own (the authors' "Q").
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    path: str
    labels: dict[str, str] = {}
    split: Split = "test"
    duration: float | None = None
    kind: str = ""
    source: str = ""
    speaker: str = ""
    text: str = ""
    effects: tuple[str, ...] = ()
    instruction: str = ""


@dataclass(frozen=True)
class Manifest:
    """Clips and the folder that their relative paths start from."""

    clips: tuple[Clip, ...]
    folder: Path

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips)

    def path(self, clip: Clip) -> Path:
        """Where the clip's audio lies."""
        return self.folder / clip.path

    def select(self, split: str | None = None, tasks: Iterable[str] = ()) -> "Manifest":
        """The clips of one split (or all) that carry a label for each of some single tasks."""
        wanted = tuple(tasks)
        kept = (c for c in self.clips if split in (None, c.split) and all(task in c.labels for task in wanted))
        return Manifest(tuple(kept), self.folder)


# The authors' task names → ours.
AUTHORS_TASKS = {
    "asr": "asr",
    "gender_recognition": "gr",
    "emotion_recognition": "ser",
    "speaker_verification": "asv",
    "audiocaption": "aac",
    "audiocaption_v2": "aac",
    "overlap_asr": "osr",
    "translation_ec": "s2tt",
    "en2zh": "s2tt",
}


def _from_authors(entry: object, where: str) -> Clip:
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("path", "text")):
        raise DataError(f"{where}: an annotation needs 'path' and 'text', both strings")
    if entry.get("expand_wav"):
        raise DataError(f"{where}: 'expand_wav' (several files joined to one clip) is not supported; join the audio first")
    task = str(entry.get("task", "asr"))
    labels = {AUTHORS_TASKS.get(task, task): str(entry["text"])}
    return Clip(path=str(entry["path"]), labels=labels, instruction=str(entry.get("Q") or ""))


def _from_line(line: str, where: str) -> Clip:
    try:
        return Clip.model_validate_json(line)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "line"
        raise DataError(f"{where}: {field}: {first['msg']}") from None


def read_manifest(path: Path) -> Manifest:
    """Read a manifest in our format (.jsonl) or the authors' (.json); a folder means its manifest.jsonl.

    Raises:
        DataError: the file is missing, empty or malformed; the message names the line.
    """
    try:
        path = path / "manifest.jsonl" if path.is_dir() else path
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the name
        raise DataError(f"cannot read manifest {path}: {getattr(error, 'strerror', None) or error}") from None
    if path.suffix == ".json":
        try:
            entries = json.loads(text)["annotation"]
        except (ValueError, KeyError, TypeError):
            entries = None
        if not isinstance(entries, list):
            raise DataError(f"manifest {path}: expected JSON of the form {{'annotation': [...]}}")
        clips = [_from_authors(entry, f"{path}, annotation {number}") for number, entry in enumerate(entries)]
    else:
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        clips = [_from_line(line, f"{path}, line {number}") for number, line in lines]
    if not clips:
        raise DataError(f"manifest {path} has no clips")
    return Manifest(tuple(clips), path.parent)


def write_manifest(clips: Iterable[Clip], path: Path) -> None:
    """Write clips as JSONL; empty fields are left out, the split is always said."""
    with path.open("w", encoding="utf-8") as file:
        for clip in clips:
            row = clip.model_dump(mode="json", exclude_defaults=True) | {"split": clip.split}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
