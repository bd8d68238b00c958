"""What a report measures with: a model, its masks, sets of clips, and the answers that are kept."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..data.manifest import Manifest
from ..data.metrics import ERRORS
from ..data.tasks import TaskSpec
from ..errors import BankError, DataError, MaskError
from ..lalm.base import LALM
from ..mask_bank.bank import MaskBank
from ..mask_bank.files import StoredMask
from .answer_store import AnswerStore, ClipSet, Job
from .harness import Trial, clips_for
from .isa_scores import IsaAnswer
from .planning import NOTHING
from .summary import Run, score_run

FEWEST_CLIPS = 4  # that make a task worth a line


@dataclass(frozen=True)
class Options:
    """How much is measured.

    Attributes:
        split: of the data: train, dev, test, or all.
        clips: of each task, at most.
        prompts: wordings of the main table.
        wordings: seen and unseen ones each, of the sensitivity table.
        seeds: random masks of the main table.
        random: random masks of their own table.
        others: masks of other tasks.
        points: how many numbers of heads a curve has.
        orders: random orders that stand around a curve.
        max_new_tokens: where an answer is truncated.
    """

    split: str = "test"
    clips: int = 48
    prompts: int = 6
    wordings: int = 12
    seeds: int = 3
    random: int = 8
    others: int = 1
    points: int = 8
    orders: int = 2
    max_new_tokens: int = 100


@dataclass(frozen=True, eq=False)
class Bench:
    """What is measured, and with what.

    Attributes:
        model: the model.
        store: its answers.
        masks: task's name → the mask that the task's name stands for.
        versions: all of the model's masks.
        sets: task's name → clips.
        options: how much.
        outside: clips of other sources than `sets`, each with a name.
        other: another model, for transfer; its masks are not used.
        isa: answers to ISA-Bench's instructions, condition → answers.
    """

    model: LALM
    store: AnswerStore
    masks: Mapping[str, StoredMask]
    versions: tuple[StoredMask, ...]
    sets: Mapping[str, ClipSet]
    options: Options = field(default_factory=Options)
    outside: tuple[ClipSet, ...] = ()
    other: "Bench | None" = None
    isa: Mapping[str, Sequence[IsaAnswer]] = field(default_factory=dict)

    @cached_property
    def _served(self) -> AnswerStore:
        """Keeps answers as served alone."""
        limit = self.options.max_new_tokens
        return AnswerStore(self.model, self.store.folder, max_new_tokens=limit, unconstrained=False)

    def job(self, clips: ClipSet, trial: Trial, *, served_only: bool = False) -> Job:
        """A run of this model; with `served_only` unconstrained answers are not waited for where they are not there already."""
        whole = not served_only or self.store.path(clips, trial).exists()
        return Job(self.store if whole else self._served, clips, trial)

    def mask_job(self, task: str, mask: StoredMask | None = None) -> Job:
        """The run of a task's mask, or of another mask for it, on the task's clips."""
        mask = mask or self.masks[task]
        return self.job(self.sets[task], Trial("mask", "", mask, mask.spec))

    @property
    def measured(self) -> list[str]:
        """Tasks that have a mask and clips."""
        return [name for name in self.masks if name in self.sets]

    @property
    def singles(self) -> list[str]:
        """Those of one part."""
        return [name for name in self.measured if self.sets[name].task.form == "plain"]


def build_bench(
    model: LALM,
    bank: MaskBank,
    manifest: Manifest,
    folder: Path,
    *,
    tasks: Sequence[TaskSpec] = (),
    options: Options | None = None,
    outside: Sequence[ClipSet] = (),
    other: LALM | None = None,
    isa: Mapping[str, Sequence[IsaAnswer]] | None = None,
) -> Bench:
    """Find a model's masks, and clips for their tasks.

    Args:
        model: the model.
        bank: where the masks are.
        manifest: the data.
        folder: where answers are kept.
        tasks: only these; all that the bank has a mask for by default.
        options: how much is measured.
        outside: clips of other sources.
        other: a model that masks are tried on although they are not its own.
        isa: answers to ISA-Bench's instructions.

    Raises:
        DataError: no task has both a mask and clips.
        AudioError: a clip cannot be read.
    """
    options = options or Options()
    masks: dict[str, StoredMask] = {}
    sets: dict[str, ClipSet] = {}
    for task in tasks or bank.tasks(model):
        with suppress(BankError, MaskError):
            masks[task.name] = bank.for_task(task, model)
        found = clips_for(task, manifest, options.split)
        if len(found) >= FEWEST_CLIPS:
            sets[task.name] = ClipSet.draw(task, found, options.clips)
    if not set(masks) & set(sets) and not outside:
        raise DataError(NOTHING)
    versions = tuple(stored for stored in bank.list() if stored.identity.same(model.identity))
    limit = options.max_new_tokens
    store = AnswerStore(model, folder, max_new_tokens=limit)
    elsewhere = (
        Bench(other, AnswerStore(other, folder, max_new_tokens=limit), {}, (), sets, options) if other is not None else None
    )
    return Bench(model, store, masks, versions, sets, options, tuple(outside), elsewhere, isa or {})


def score_job(job: Job) -> Run | None:
    """A run's scores; None where it has not been made.

    Raises:
        DataError: its answers cannot be scored, or their file is damaged.
    """
    answers = job.answers
    return score_run(job.clips.task, answers) if answers else None


def headline(run: Run | None) -> tuple[float | None, float | None]:
    """The headline metric as served, and unconstrained, in percent."""
    if run is None:
        return None, None
    free = run.unconstrained[0].value if run.unconstrained else None
    return round(run.served[0].value, 2), None if free is None else round(free, 2)


def missing_note(jobs: Sequence[Job]) -> str:
    """What the budget left out."""
    left = sum(job.answers is None for job in jobs)
    return f"{left} of {len(jobs)} runs are missing; the same command goes on" if left else ""


def metric_arrow(metric: str) -> str:
    """` ↓` behind the name of a metric whose lower values are better."""
    return " ↓" if metric in ERRORS else ""
