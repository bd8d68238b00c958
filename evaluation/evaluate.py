"""Evaluation as a function: tasks by their masks, by prompts, and by controls, checked before the work begins.

Clips are encoded in batches, and each batch is answered under every condition before the next is encoded, so that memory
does not grow with the number of clips. Predictions are on disk before they are scored.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from ..data.manifest import Clip, Manifest
from ..data.reading import read_manifest
from ..data.tasks import Task, TaskSpec, collect_tasks
from ..errors import AmaskError, DataError, FileError
from ..lalm.answering import MAX_NEW_TOKENS
from ..lalm.base import LALM
from ..lalm.clip_features import ClipFeatures, checked_features
from ..mask_bank.bank import MaskBank
from ..mask_bank.mask import HeadMask
from .harness import Trial, predict, trials
from .planning import Target, choose_clips, find_targets, other_masks, with_masks
from .predictions import Prediction, PredictionLog
from .summary import TaskTable, summarise

Progress = Callable[[str, int], AbstractContextManager[Callable[..., None]]]
"""(what is done, of how many steps) → a context, within which a function takes how many are done, and a note."""


@dataclass(frozen=True)
class Settings:
    """How an evaluation is made.

    Attributes:
        split: the split of the data that is measured: train, dev, test, or all.
        kind: only clips of this kind; by default those that each task asks for, see `clips_for`.
        clips: at most so many a task, drawn by a hash of their files' names; all by default.
        prompts: at most so many wordings a task.
        seeds: random masks a task, each with as many heads on in each layer.
        others: masks of other tasks, as a control; those with the nearest number of heads on.
        unconstrained: whether every clip is answered once more held to nothing, where its task has labels or a form.
        max_new_tokens: where an answer is truncated.
        batch: clips at once.
        trim: use the beginning of clips that are too long, instead of refusing them.
        skip_bad: leave out clips that cannot be used, instead of refusing the first of them.
    """

    split: str = "test"
    kind: str | None = None
    clips: int | None = None
    prompts: int = 12
    seeds: int = 3
    others: int = 1
    unconstrained: bool = True
    max_new_tokens: int = MAX_NEW_TOKENS
    batch: int = 32
    trim: bool = False
    skip_bad: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of one task.

    Attributes:
        name: the task's.
        table: what was measured; None where there is an error.
        error: why it was not measured.
    """

    name: str
    table: TaskTable | None = None
    error: AmaskError | None = None


@dataclass(frozen=True)
class Evaluation:
    """An evaluation that has been checked and can begin.

    Attributes:
        model: what is measured.
        targets: by what, as what and on which clips.
        features: of all of the clips.
        bank: where the masks of other tasks are.
        settings: how.
        skipped: what is wrong with each clip that is left out.
    """

    model: LALM
    targets: tuple[Target, ...]
    features: ClipFeatures
    bank: MaskBank
    settings: Settings
    skipped: tuple[str, ...]

    def run(self, log: PredictionLog, progress: "Progress | None" = None) -> Iterator[Outcome]:
        """Measure one task after the other; what goes wrong with one does not keep the others from being measured.

        Args:
            log: where the predictions go.
            progress: takes every batch.
        """
        for target in self.targets:  # what is refused is said at once
            if target.skip_reason:
                yield Outcome(target.task.name, error=DataError(target.skip_reason))
        order = [target for target in self.targets if not target.skip_reason]
        names = [target.task.model_dump_json() for target in order]
        order.sort(key=lambda target: names.index(target.task.model_dump_json()))
        for _, same in groupby(order, key=lambda target: target.task.model_dump_json()):
            targets = list(same)
            task = targets[0].task
            try:
                table = summarise(task, self._predict(targets, log, progress or no_progress), self._measured_on(targets[0]))
            except FileError:  # without a place for predictions nothing can be measured
                raise
            except AmaskError as error:
                yield Outcome(task.name, error=error)
            else:
                yield Outcome(task.name, table)

    def _trials(self, targets: Sequence[Target]) -> list[Trial]:
        """What is tried for a task's masks; prompts and unprompted once."""
        settings, found = self.settings, []
        for at, target in enumerate(targets):
            others = other_masks(target, self.bank, self.model, settings.others)
            new = trials(target.task, target.mask, settings.prompts, settings.seeds, others)
            found += [trial for trial in new if at == 0 or trial.mask is not None]
        return found

    def _predict(self, targets: Sequence[Target], log: PredictionLog, progress: Progress) -> list[Prediction]:
        settings, clips, task = self.settings, targets[0].clips, targets[0].task
        tried = self._trials(targets)
        numbers = {audio_key(clip): at for at, clip in enumerate(self.features.manifest)}
        places = [numbers[audio_key(clip)] for clip in clips]
        made: list[Prediction] = []
        with progress(task.name, len(clips) * len(tried)) as on_progress:
            for start in range(0, len(clips), settings.batch):
                some = slice(start, start + settings.batch)
                features = self.features.rows(places[some])
                self.features.prefetch(places[some.stop : some.stop + settings.batch])
                for trial in tried:
                    new = predict(
                        self.model,
                        features,
                        clips[some],
                        task,
                        trial,
                        batch=settings.batch,
                        max_new_tokens=settings.max_new_tokens,
                        unconstrained=settings.unconstrained,
                    )
                    log.add(new)
                    made += new
                    on_progress(len(made), f"{trial.condition} {trial.wording}")
        return made

    def _measured_on(self, target: Target) -> str:
        """What the figures are of, in words: `48 test clips of 21 speakers`."""
        clips = target.clips
        speakers = len({clip.speaker for clip in clips} - {""})
        split = "" if self.settings.split == "all" else f"{self.settings.split} "
        return f"{len(clips)} {split}clips" + (f" of {speakers} speakers" if speakers else "")


def audio_key(clip: Clip) -> tuple[str, ...]:
    """What tells the sound of a manifest's clips apart: their files."""
    return (clip.path, *clip.more)


@contextmanager
def no_progress(_words: str, _total: int) -> Iterator[Callable[..., None]]:
    """Progress that goes nowhere."""
    yield lambda *_: None


@dataclass(frozen=True)
class EvaluationPlan:
    """What is to be measured, with all checked that can be without the model.

    Attributes:
        targets: as what and on which clips.
        manifest: the data.
        bank: where the masks are.
        settings: how.
        problems: what is wrong with the labels of each clip that is left out.
    """

    targets: tuple[Target, ...]
    manifest: Manifest
    bank: MaskBank
    settings: Settings
    problems: tuple[str, ...]

    def prepare(self, model: LALM, progress: Progress = no_progress) -> Evaluation:
        """Check everything else: masks against the model, and files.

        Raises:
            MaskError: a mask is not for this model.
            AudioError: a clip cannot be read or is too long.
        """
        settings = self.settings
        targets = with_masks(self.targets, self.bank, model)
        once = {audio_key(clip): clip for target in targets if not target.skip_reason for clip in target.clips}
        clips = replace(self.manifest, clips=tuple(once.values()))
        with progress("checking clips", len(once)) as on_progress:
            features, bad = checked_features(
                model,
                clips,
                trim=settings.trim,
                skip_bad=settings.skip_bad,
                memory=0,  # every batch is asked for once
                on_progress=lambda done, _: on_progress(done),
            )
        good = {audio_key(clip) for clip in features.manifest}
        kept = []
        for target in targets:
            left = tuple(clip for clip in target.clips if audio_key(clip) in good)
            unreadable = "" if left else f"none of the clips for {target.task.name} can be read"
            kept.append(replace(target, clips=left, skip_reason=target.skip_reason or unreadable))
        return Evaluation(model, tuple(kept), features, self.bank, settings, (*self.problems, *bad))


def plan(
    tasks: Sequence[str | TaskSpec | HeadMask],
    data: Manifest | Path | str,
    bank: MaskBank,
    settings: Settings,
    known: Mapping[str, Task] | None = None,
) -> EvaluationPlan:
    """Check names, labels and forms; arguments and errors as for `evaluate`."""
    manifest = data if isinstance(data, Manifest) else read_manifest(Path(data))
    targets = find_targets(tasks, bank, collect_tasks(bank.folder, manifest.folder) if known is None else known)
    targets, problems = choose_clips(targets, manifest, settings.split, settings.kind, settings.clips, settings.skip_bad)
    return EvaluationPlan(tuple(targets), manifest, bank, settings, tuple(problems))


def evaluate(
    model: LALM,
    tasks: str | TaskSpec | HeadMask | Sequence[str | TaskSpec | HeadMask],
    data: Manifest | Path | str,
    bank: MaskBank | None = None,
    *,
    known: Mapping[str, Task] | None = None,
    predictions: Path | None = None,
    progress: Progress = no_progress,
    **settings: Any,  # noqa: ANN401 (those of `Settings`, which checks their names)
) -> list[TaskTable]:
    """Measure tasks: by mask, by prompt (mean, best and worst over wordings), unprompted, and by masks that should not do it.

    Args:
        model: what is measured.
        tasks: names of tasks or masks, or tasks or masks themselves; "all" for every task that the bank has a mask for.
        data: clips with labels: a manifest, or where one is (see `data.reading.read_manifest`).
        bank: where the masks are; the user's by default.
        known: single tasks by name, for tasks given by name; by default the built-in ones, those of the bank's masks, and
            those of a `tasks.toml` in the bank or beside the data.
        predictions: a new file for the predictions (JSONL); by default one in a folder beside the bank's.
        progress: takes clips that are checked, and answers.
        settings: the attributes of `evaluation.evaluate.Settings`, such as `clips=50`, `prompts=4`, `split="dev"`.

    Returns:
        A table for each task.

    Raises:
        DataError: a name is unknown, no clip measures a task, or a label is not of its task's closed set.
        AudioError: a clip cannot be read or is too long.
        MaskError: a mask is not for this model.
        FileError: the predictions cannot be written.
    """
    bank = MaskBank.default() if bank is None else bank
    given = [tasks] if isinstance(tasks, str | TaskSpec | HeadMask) else tasks
    prepared = plan(given, data, bank, Settings(**settings), known).prepare(model, progress)
    tables: list[TaskTable] = []
    with PredictionLog(predictions) if predictions else PredictionLog.numbered(predictions_dir(bank)) as log:
        for outcome in prepared.run(log, progress):
            if outcome.error:
                raise outcome.error
            tables += [outcome.table] if outcome.table else []
    return tables


def predictions_dir(bank: MaskBank) -> Path:
    """The folder of predictions that goes with a bank."""
    return bank.folder.with_name(f"{bank.folder.name}-predictions")
