"""Manifests: lists of clips with every label a clip has.

Two formats are read here: ours (JSONL, one clip a line) and the AHAMask authors' (`{"annotation": [...]}`); `hub` makes
a manifest of a Hugging Face dataset.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pydantic
from jaxtyping import Float32

from ..errors import AudioError, DataError
from .audio import Channels, read_audio
from .files import write_whole

PAUSE = 0.1  # seconds of silence between the files of one clip, as in SALMONN's and the AHAMask authors' reader
DATASET_FILES = ("dataset_dict.json", "state.json")  # what `save_to_disk` leaves in a folder

Split = Literal["train", "dev", "test"]


class Clip(pydantic.BaseModel):
    """One audio file, or several heard one after the other, and what is known of it.

    Attributes:
        path: the audio file; relative paths are relative to the manifest.
        more: further files of the same clip, heard after it in this order (the authors' "expand_wav").
        labels: task → target text, e.g. `{"asr": "put the red box", "gr": "female"}`; only the tasks it has.
        split: train, dev or test.
        duration: seconds.
        kind: what was recorded: "speech", "scene" (sounds, with or without speech), "pair" (two utterances),
            "overlap" (two speakers at once), "real" (a person), "digits" (cut out of a person's digit string).
        source: where the voice comes from: "espeak", "flite", or a corpus name.
        speaker: who speaks; for pairs and overlaps both, joined by "+".
        text: the words that are spoken, also where they are outside the `asr` task's vocabulary.
        effects: what the channel did to it.
        instruction: an instruction of the clip's own (the authors' "Q").
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    path: str
    more: tuple[str, ...] = ()
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
        """Where the clip's audio lies, or the first file of it."""
        return self.folder / clip.path

    def wave(
        self, clip: Clip, rate: int = 16000, *, longest: float | None = None, trim: bool = False, channels: Channels = "mean"
    ) -> Float32[np.ndarray, " time"]:
        """The clip's samples: what `read_audio` makes of its file, or of its files with a pause of 0.1 s between them.

        Args:
            clip: one of this manifest's.
            rate: Hz of the result.
            longest: seconds that the model hears, of the whole clip; None for no limit.
            trim: use the first `longest` seconds of a longer clip instead of refusing it.
            channels: which channels of the files are heard.

        Raises:
            AudioError: a file is missing or no sound audio, or the clip is too long; the message names the file or files.
        """
        paths = [self.path(clip), *(self.folder / path for path in clip.more)]
        waves = [read_audio(path, rate, longest=longest, trim=trim, channels=channels) for path in paths]
        if len(waves) == 1:
            return waves[0]
        pause = np.zeros(round(PAUSE * rate), np.float32)
        joined = np.concatenate([waves[0], *(part for wave in waves[1:] for part in (pause, wave))])
        if longest is None:
            return joined
        if not trim and len(joined) > longest * rate + 1:
            names, seconds = " + ".join(map(str, paths)), round(len(joined) / rate, 4)
            advice = "cut them; 'amask run --trim' uses their beginning"
            raise AudioError(f"{names} are {seconds} s long together, the model hears at most {longest} s; {advice}")
        return joined[: round(longest * rate)]

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
    more = entry.get("expand_wav") or []
    if not isinstance(more, list) or not all(isinstance(path, str) for path in more):
        raise DataError(f"{where}: 'expand_wav' must be a list of the files that follow 'path'")
    task = str(entry.get("task", "asr"))
    labels = {AUTHORS_TASKS.get(task, task): str(entry["text"])}
    return Clip(path=str(entry["path"]), more=tuple(more), labels=labels, instruction=str(entry.get("Q") or ""))


def _from_line(line: str, where: str) -> Clip:
    try:
        return Clip.model_validate_json(line)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "line"
        raise DataError(f"{where}: {field}: {first['msg']}") from None


def is_dataset(path: Path) -> bool:
    """Whether a Hugging Face dataset is meant: `hf:NAME…`, or a folder that `save_to_disk` has written."""
    return str(path).startswith("hf:") or any((path / name).is_file() for name in DATASET_FILES)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest in our format (.jsonl) or the authors' (.json), or make one of a Hugging Face dataset.

    A folder means its manifest.jsonl, unless it is a saved dataset; `hf:NAME` is a dataset of the Hub (see `hub`).

    Raises:
        DataError: the file is missing, empty or malformed; the message names the line.
    """
    if is_dataset(path):
        from .hub import read_dataset  # noqa: PLC0415 (a second to import, and it needs this module)

        return read_dataset(str(path))
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
    """Write clips as JSONL; empty fields are left out, the split is always said.

    Raises:
        FileError: the file cannot be written.
    """
    rows = (clip.model_dump(mode="json", exclude_defaults=True) | {"split": clip.split} for clip in clips)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_whole(lines.encode("utf-8", errors="backslashreplace"), path)  # a path may hold bytes that are no UTF-8
