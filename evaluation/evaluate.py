"""Evaluation as a function: tasks by their masks, by prompts, unprompted and by random masks, checked before the work begins.

Clips are encoded in batches, and each batch is answered under every condition before the next is encoded, so that memory
does not grow with the number of clips. Predictions are on disk before they are scored.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..data.manifest import Clip, Manifest
from ..data.reading import read_manifest
from ..data.tasks import Task, TaskSpec, collect_tasks
from ..errors import AmaskError, DataError, FileError
from ..lalm.answering import MAX_NEW_TOKENS
from ..lalm.base import LALM
from ..lalm.clip_features import ClipFeatures, checked_features
from ..mask_bank.bank import MaskBank
from ..mask_bank.mask import HeadMask
from .harness import predict, trials
from .planning import Target, choose_clips, find_targets, with_masks
from .predictions import Prediction, PredictionLog
from .summary import Row, summarise

Progress = Callable[[str, int], AbstractContextManager[Callable[..., None]]]
"""(what is done, of how many steps) → a context, within which a function is told how many are done, and a note."""


@dataclass(frozen=True)
class Settings:
    """Condition an evaluation is made; the attributes are the arguments of `evaluate`."""

    split: str = "test"
    kind: str | None = None
    clips: int | None = None
    prompts: int = 12
    seeds: int = 3
    max_new_tokens: int = MAX_NEW_TOKENS
    batch: int = 32
    trim: bool = False
    skip_bad: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of one target.

    Attributes:
        name: the task's.
        rows: the table; empty where there is an error.
        error: why it was not measured.
    """

    name: str
    rows: tuple[Row, ...] = ()
    error: AmaskError | None = None


@dataclass(frozen=True)
class Evaluation:
    """An evaluation that has been checked and can begin.

    Attributes:
        model: what is measured.
        targets: by what, as what and on which clips.
        features: of all of the clips.
        settings: how.
        skipped: what is wrong with each clip that is left out.
    """

    model: LALM
    targets: tuple[Target, ...]
    features: ClipFeatures
    settings: Settings
    skipped: tuple[str, ...]

    def run(self, log: PredictionLog, progress: "Progress | None" = None) -> Iterator[Outcome]:
        """Measure one target after the other; what goes wrong with one does not keep the others from being measured.

        Args:
            log: where the predictions go.
            progress: told of every batch.
        """
        prompted: set[str] = set()
        for target in sorted(self.targets, key=lambda target: not target.skip_reason):  # what is refused is said at once
            name = target.task.name
            if target.skip_reason:
                yield Outcome(name, error=DataError(target.skip_reason))
                continue
            try:
                rows = summarise(target.task, self._predict(target, name not in prompted, log, progress or no_progress))
            except FileError:  # without a place for predictions nothing can be measured
                raise
            except AmaskError as error:
                yield Outcome(name, error=error)
            else:
                prompted.add(name)
                yield Outcome(name, tuple(rows))

    def _predict(self, target: Target, unmasked: bool, log: PredictionLog, progress: Progress) -> list[Prediction]:
        """All predictions for a target; without prompts where its task has been prompted already."""
        settings, clips = self.settings, target.clips
        tried = trials(target.task, target.mask, settings.prompts, settings.seeds)
        tried = [trial for trial in tried if unmasked or trial.mask is not None]
        numbers = {audio_key(clip): at for at, clip in enumerate(self.features.manifest)}
        places = [numbers[audio_key(clip)] for clip in clips]
        made: list[Prediction] = []
        with progress(target.task.name, len(clips) * len(tried)) as tell:
            for start in range(0, len(clips), settings.batch):
                some = slice(start, start + settings.batch)
                heard = self.features.rows(places[some])
                self.features.prefetch(places[some.stop : some.stop + settings.batch])
                for trial in tried:
                    limits = {"batch": settings.batch, "max_new_tokens": settings.max_new_tokens}
                    new = predict(self.model, heard, clips[some], target.task, trial, **limits)
                    log.add(new)
                    made += new
                    tell(len(made), f"{trial.condition} {trial.wording}")
        return made


def audio_key(clip: Clip) -> tuple[str, ...]:
    """What tells the sound of a manifest's clips apart: their files."""
    return (clip.path, *clip.more)


@contextmanager
def no_progress(_words: str, _total: int) -> Iterator[Callable[..., None]]:
    """Progress that goes nowhere."""
    yield lambda *_: None


def known_tasks(bank: MaskBank, manifest: Manifest, file: Path | None = None) -> dict[str, Task]:
    """Single tasks by name: the built-in ones, and those of a `tasks.toml` in the bank, one beside the data, and a file.

    Raises:
        DataError: a file is missing or not what it should be.
    """
    return collect_tasks(bank.folder, manifest.folder, file=file)


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
        with progress("checking clips", len(once)) as tell:
            features, bad = checked_features(
                model,
                clips,
                trim=settings.trim,
                skip_bad=settings.skip_bad,
                memory=0,  # every batch is asked for once
                on_progress=lambda done, _: tell(done),
            )
        good = {audio_key(clip) for clip in features.manifest}
        kept = []
        for target in targets:
            left = tuple(clip for clip in target.clips if audio_key(clip) in good)
            unreadable = "" if left else f"none of the clips for {target.task.name} can be read"
            kept.append(replace(target, clips=left, skip_reason=target.skip_reason or unreadable))
        return Evaluation(model, tuple(kept), features, settings, (*self.problems, *bad))


def plan(
    tasks: Sequence[str | TaskSpec | HeadMask],
    data: Manifest | Path | str,
    bank: MaskBank,
    settings: Settings,
    known: Mapping[str, Task] | None = None,
) -> EvaluationPlan:
    """Check names, labels and forms; arguments and errors as for `evaluate`."""
    manifest = data if isinstance(data, Manifest) else read_manifest(Path(data))
    targets = find_targets(tasks, bank, known_tasks(bank, manifest) if known is None else known)
    targets, problems = choose_clips(targets, manifest, settings.split, settings.kind, settings.clips, settings.skip_bad)
    return EvaluationPlan(tuple(targets), manifest, bank, settings, tuple(problems))


def evaluate(
    model: LALM,
    tasks: str | TaskSpec | HeadMask | Sequence[str | TaskSpec | HeadMask],
    data: Manifest | Path | str,
    bank: MaskBank | None = None,
    *,
    split: str = "test",
    kind: str | None = None,
    clips: int | None = None,
    prompts: int = 12,
    seeds: int = 3,
    max_new_tokens: int = MAX_NEW_TOKENS,
    batch: int = 32,
    trim: bool = False,
    skip_bad: bool = False,
    known: Mapping[str, Task] | None = None,
    predictions: Path | None = None,
    progress: Progress = no_progress,
) -> list[Row]:
    """Measure tasks: by mask, by prompt (mean, best and worst over wordings), unprompted, and by random masks.

    Args:
        model: what is measured.
        tasks: names of tasks or masks, or tasks or masks themselves; "all" for every task that the bank has a mask for.
        data: clips with labels: a manifest, or where one is (see `data.reading.read_manifest`).
        bank: where the masks are; the user's by default.
        split: the split of the data that is measured.
        kind: only clips of this kind; by default those that each task asks for, see `clips_for`.
        clips: at most so many a task.
        prompts: at most so many wordings a task.
        seeds: random masks a task.
        max_new_tokens: where an answer is cut.
        batch: clips at once.
        trim: use the beginning of clips that are too long, instead of refusing them.
        skip_bad: leave out clips that cannot be used, instead of refusing the first of them.
        known: single tasks by name, for tasks given by name; by default the built-in ones, those of the bank's masks, and
            those of a `tasks.toml` in the bank or beside the data.
        predictions: a new file for the predictions (JSONL); by default one in a folder beside the bank's.
        progress: told of clips that are checked and of answers.

    Returns:
        For each task one row for each condition.

    Raises:
        DataError: a name is unknown, no clip measures a task, or a label is not of its task's closed set.
        AudioError: a clip cannot be read or is too long.
        MaskError: a mask is not for this model.
        FileError: the predictions cannot be written.
    """
    bank = MaskBank.default() if bank is None else bank
    given = [tasks] if isinstance(tasks, str | TaskSpec | HeadMask) else tasks
    settings = Settings(split, kind, clips, prompts, seeds, max_new_tokens, batch, trim, skip_bad)
    ready = plan(given, data, bank, settings, known).prepare(model, progress)
    rows: list[Row] = []
    with PredictionLog(predictions) if predictions else PredictionLog.numbered(predictions_dir(bank)) as log:
        for outcome in ready.run(log, progress):
            if outcome.error:
                raise outcome.error
            rows += outcome.rows
    return rows


def predictions_dir(bank: MaskBank) -> Path:
    """The folder of predictions that goes with a bank."""
    return bank.folder.with_name(f"{bank.folder.name}-predictions")
