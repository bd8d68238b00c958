"""Answers of one model to fixed sets of clips, each run's kept on disk: a report that was stopped goes on where it was."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from ..data.atomic_write import write_atomic
from ..data.manifest import Manifest, stable_shuffle
from ..data.tasks import TaskSpec
from ..lalm.answering import MAX_NEW_TOKENS
from ..lalm.base import LALM
from ..lalm.clip_features import ClipFeatures
from .harness import Trial, predict
from .predictions import Prediction, read, to_line

VERSION = 1  # of what a run's answers depend on; answers of another are not used


@dataclass(frozen=True, eq=False)
class ClipSet:
    """Clips that measure a task.

    Attributes:
        task: the task.
        manifest: the clips, all with labels for it.
        name: what they are, where a report has several sets for a task.
    """

    task: TaskSpec
    manifest: Manifest
    name: str = ""

    @classmethod
    def draw(cls, task: TaskSpec, manifest: Manifest, clips: int | None, name: str = "") -> "ClipSet":
        """At most so many of some clips, drawn by a hash of their files' names."""
        return cls(task, replace(manifest, clips=tuple(stable_shuffle(manifest)[:clips])), name)

    @cached_property
    def digest(self) -> str:
        """Hash of the clips' sound and of what is right."""
        rows = [(self.manifest.digest(clip), self.task.target(clip.labels)) for clip in self.manifest]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]

    @property
    def measured_on(self) -> str:
        """`48 clips of 21 speakers`."""
        speakers = len({clip.speaker for clip in self.manifest} - {""})
        return f"{len(self.manifest)} clips" + (f" of {speakers} speakers" if speakers else "")


@dataclass(frozen=True)
class Budget:
    """How long may be worked.

    Attributes:
        seconds: from the beginning; None for as long as it takes.
        started: when that was.
    """

    seconds: float | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def is_spent(self) -> bool:
        """Whether the time is over."""
        return self.seconds is not None and time.monotonic() - self.started >= self.seconds


class AnswerStore:
    """Keeps the predictions of a model, one JSONL file a run.

    Args:
        model: what is measured; only its own answers are found again.
        folder: where the files lie.
        batch: clips at once.
        max_new_tokens: where an answer is truncated.
        unconstrained: whether clips are answered once more held to nothing.
    """

    def __init__(
        self, model: LALM, folder: Path, *, batch: int = 32, max_new_tokens: int = MAX_NEW_TOKENS, unconstrained: bool = True
    ) -> None:
        self.model, self.folder = model, folder
        self.batch, self.max_new_tokens, self.unconstrained = batch, max_new_tokens, unconstrained
        self._features: dict[str, ClipFeatures] = {}
        self._read: dict[Path, list[Prediction]] = {}

    def path(self, clips: ClipSet, trial: Trial) -> Path:
        """The file of a run, named by all that its answers depend on."""
        prompt = trial.wording if trial.condition == "prompt" else None
        bits = trial.mask.bits.int().flatten().tolist() if trial.mask is not None else None
        about = (VERSION, self.model.identity.fingerprint, clips.digest, clips.task.model_dump_json(), bits, prompt)
        parts = json.dumps((*about, self.max_new_tokens, self.unconstrained))
        return self.folder / f"{hashlib.sha256(parts.encode()).hexdigest()[:24]}.jsonl"

    def find(self, clips: ClipSet, trial: Trial) -> list[Prediction] | None:
        """The answers of a run, under this trial's names; None where it has not been made.

        Raises:
            DataError: its file is damaged.
        """
        path = self.path(clips, trial)
        if path not in self._read:
            if not path.exists():
                return None
            self._read[path] = read(path)
        names = {"condition": trial.condition, "mask": trial.name, "wording": trial.wording}
        return [_renamed(each, names) for each in self._read[path]]

    def make(self, clips: ClipSet, trial: Trial, budget: Budget) -> bool:
        """Answer the clips and keep the answers, those of each batch at once: a run that was stopped goes on behind them.

        Returns:
            Whether all are answered; otherwise the time was over.

        Raises:
            AudioError: a clip cannot be read.
            DataError: the answers that were kept are damaged.
            FileError: the answers cannot be written.
        """
        path = self.path(clips, trial)
        begun = path.with_suffix(".begun")
        made = read(begun) if begun.exists() else []
        while len(made) < len(clips.manifest):
            if budget.is_spent:
                return False
            made += self._answer(clips, range(len(clips.manifest))[len(made) :][: self.batch], trial)
            write_atomic("".join(map(to_line, made)).encode("utf-8", "backslashreplace"), begun, parents=True)
        begun.replace(path)
        return True

    def _answer(self, clips: ClipSet, rows: range, trial: Trial) -> list[Prediction]:
        if clips.digest not in self._features:
            self._features[clips.digest] = ClipFeatures(self.model, clips.manifest)
        return predict(
            self.model,
            self._features[clips.digest].rows(list(rows)),
            [clips.manifest.clips[at] for at in rows],
            clips.task,
            trial,
            batch=self.batch,
            max_new_tokens=self.max_new_tokens,
            unconstrained=self.unconstrained,
        )


@dataclass(frozen=True, eq=False)
class Job:
    """One run over a set of clips.

    Attributes:
        store: where its answers are kept, and by which model they are.
        clips: the set.
        trial: what makes the model do it.
    """

    store: AnswerStore
    clips: ClipSet
    trial: Trial

    @property
    def answers(self) -> list[Prediction] | None:
        """What it gave; None where it has not been made."""
        return self.store.find(self.clips, self.trial)

    @property
    def label(self) -> str:
        """What is shown while it is made."""
        trial = self.trial
        return " ".join(filter(None, (f"{self.clips.name or self.clips.task.name},", trial.condition, trial.wording)))


def run_jobs(jobs: Sequence[Job], budget: Budget, on_progress: Callable[[int, str], None] = lambda _done, _note: None) -> int:
    """Make those of some runs that are not there, until the time is over.

    Args:
        jobs: the runs.
        budget: how long.
        on_progress: takes how many are done, and what is done now.

    Returns:
        How many are left.

    Raises:
        AudioError: a clip cannot be read.
        FileError: answers cannot be written.
    """
    missing = [job for job in jobs if not job.store.path(job.clips, job.trial).exists()]
    there = len(jobs) - len(missing)
    for made, job in enumerate(missing):
        on_progress(there + made, "" if budget.is_spent else job.label)
        if not job.store.make(job.clips, job.trial, budget):
            return len(missing) - made
    on_progress(len(jobs), "")
    return 0


def _renamed(prediction: Prediction, names: dict[str, str]) -> Prediction:
    values = {name: getattr(prediction, name) for name in Prediction.__slots__}
    return Prediction(**values | names)
