"""Manifests: lists of clips with every label a clip has.

`reading` makes them of files and data sets.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pydantic
from jaxtyping import Float32

from ..errors import AudioError
from .atomic_write import write_atomic
from .audio import Channels, read_audio
from .decoding import printable_path
from .file_digests import file_digest
from .tasks import Task

JOIN_PAUSE = 0.1  # seconds of silence between the files of one clip, as in SALMONN's and the AHAMask authors' reader

SPLIT_NAMES: dict[str, "Split"] = {"train": "train", "valid": "dev", "dev": "dev", "test": "test"}  # by a name's beginning
MIN_SPEAKERS = 3  # speakers that can be divided into three splits

Split = Literal["train", "dev", "test"]


class Clip(pydantic.BaseModel):
    """One audio file, or several heard one after the other, and what is known of it.

    Attributes:
        path: the audio file; relative paths are relative to the manifest.
        more: further files of the same clip, heard after it in this order (the authors' "expand_wav").
        labels: task → target text, e.g. `{"asr": "put the red box", "gr": "female"}`; only the tasks it has.
        split: train, dev or test.
        duration: seconds.
        kind: what was recorded: "speech", "scene" (sounds, with or without speech), "pair" (two utterances), "overlap" (two
            speakers at once), "person", and so on; see docs/data.md. A task may say which kind measures it.
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
    """Clips, the folder that their relative paths start from, and whether their splits were drawn, since none was told."""

    clips: tuple[Clip, ...]
    folder: Path
    splits_drawn: bool = False

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
        pause = np.zeros(round(JOIN_PAUSE * rate), np.float32)
        joined = np.concatenate([waves[0], *(part for wave in waves[1:] for part in (pause, wave))])
        if longest is None:
            return joined
        if not trim and len(joined) > longest * rate + 1:
            names, seconds = " + ".join(map(str, paths)), round(len(joined) / rate, 4)
            advice = "cut them, or leave some out"
            raise AudioError(f"{names} are {seconds} s long together, the model hears at most {longest} s; {advice}")
        return joined[: round(longest * rate)]

    def digest(self, clip: Clip) -> str:
        """32 hex digits that tell the clip's sound apart, wherever it lies: a hash of the bytes of its file or files.

        Raises:
            AudioError: a file cannot be read.
        """
        hashed = hashlib.sha256()
        for path in (self.folder / name for name in (clip.path, *clip.more)):
            try:
                if path.exists() and not path.is_file():  # to open a pipe would wait for its writer
                    raise AudioError(f"cannot read {printable_path(path)}: it is no file; expected an audio file")
                hashed.update(file_digest(path))
            except (OSError, ValueError) as error:  # ValueError: a NUL in the name
                if isinstance(error, AudioError):
                    raise
                reason = getattr(error, "strerror", None) or error
                raise AudioError(f"cannot read {printable_path(path)}: {reason}; check the name and the permissions") from None
        return hashed.hexdigest()[:32]

    def select(self, split: str | None = None, tasks: Iterable[str] = ()) -> "Manifest":
        """The clips of one split (or all) that carry a label for each of some single tasks."""
        wanted = tuple(tasks)
        kept = (c for c in self.clips if split in (None, c.split) and all(task in c.labels for task in wanted))
        return replace(self, clips=tuple(kept))

    def labelled(self, tasks: Iterable[Task]) -> "Manifest":
        """The same clips, with the labels of tasks that name a column of their own under the tasks' names."""
        columns = {task.name: task.column for task in tasks if task.column}
        if not columns:
            return self
        clips = [
            clip.model_copy(update={"labels": clip.labels | own})
            for clip in self.clips
            for own in [{name: clip.labels[column] for name, column in columns.items() if column in clip.labels}]
        ]
        return replace(self, clips=tuple(clips))


def draw_splits(clips: Sequence[Clip]) -> tuple[Clip, ...]:
    """The clips with a split each, drawn by speaker: a tenth test, a tenth dev, the rest train; the same every time.

    Where fewer than three speakers are named the clips themselves are divided.
    """
    speakers = [clip.speaker or clip.path for clip in clips]
    keys = speakers if len(set(speakers)) >= MIN_SPEAKERS else [clip.path for clip in clips]
    order = sorted(set(keys), key=lambda key: hashlib.sha256(key.encode(errors="surrogateescape")).digest())
    part = -(-len(order) // 10)
    splits: dict[str, Split] = {key: "test" if at < part else "dev" if at < 2 * part else "train" for at, key in enumerate(order)}
    return tuple(clip.model_copy(update={"split": splits[key]}) for clip, key in zip(clips, keys, strict=True))


def stable_shuffle(clips: Iterable[Clip]) -> list[Clip]:
    """Clips in an order by a hash of their files' names: the same every time, and whatever the order of the manifest."""

    def key(clip: Clip) -> bytes:
        return hashlib.sha256("\n".join((clip.path, *clip.more)).encode(errors="surrogateescape")).digest()

    return sorted(clips, key=key)


def write_manifest(clips: Iterable[Clip], path: Path) -> None:
    """Write clips as JSONL; empty fields are left out, split and labels are always said.

    Raises:
        FileError: the file cannot be written.
    """
    rows = (clip.model_dump(mode="json", exclude_defaults=True) | {"split": clip.split, "labels": clip.labels} for clip in clips)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomic(lines.encode("utf-8", errors="backslashreplace"), path)  # a path may hold bytes that are no UTF-8
