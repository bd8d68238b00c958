"""Training as a function: from a model, tasks and data to masks, with everything checked before the work begins."""

import logging
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ..data.manifest import Manifest
from ..data.metrics import score
from ..data.proposals import describe_proposal, propose_task
from ..data.reading import read_manifest
from ..data.tasks import BAR, Task, TaskSpec, collect_tasks, parse_task
from ..errors import BankError, DataError
from ..lalm.base import LALM
from ..lalm.clip_features import OnProgress
from .bank import MaskBank
from .defaults import Added
from .labelled_clips import LabelledClips, find_labelled_clips, has_labels
from .mask import HeadMask
from .recipe import Recipe, choose_recipe, model_size
from .training import MaskTrainer, TrainingJob, TrainingProgress

CHECKPOINTS = ".training"  # the folder of checkpoints within a bank's

_log = logging.getLogger(__name__)


def train(
    model: LALM,
    tasks: str | TaskSpec | Sequence[str | TaskSpec],
    data: Manifest | Path | str,
    *,
    seeds: Sequence[int] = (1,),
    recipe: Recipe | None = None,
    start: HeadMask | None = None,
    bank: MaskBank | None = None,
    known: Mapping[str, Task] | None = None,
    trim: bool = False,
    skip_bad: bool = False,
    on_checked: OnProgress | None = None,
    on_step: Callable[[TrainingProgress], None] | None = None,
) -> list[HeadMask]:
    """Train one mask for each task and seed, all in one pass.

    Args:
        model: the frozen model.
        tasks: names such as `asr` or `gr-asr-json`, or their definitions.
        data: clips with labels: a manifest, or where one is (see `data.reading.read_manifest`).
        seeds: one mask a task and seed.
        recipe: all settings; by default those that suit the tasks (`choose_recipe`).
        start: a mask to start from, instead of all heads on.
        bank: where the masks are stored, under their tasks' names, and where a training that was stopped goes on from when
            it is called again. None stores nothing.
        known: single tasks by name, for tasks given by name; by default the built-in ones and those of a `tasks.toml`
            in the bank or beside the data. A column of labels that no task is known for makes a task of its own.
        trim: use the beginning of clips that are too long for the model.
        skip_bad: leave out clips that cannot be used, instead of refusing the first.
        on_checked: told how many clips are checked, of how many.
        on_step: told of each step.

    Returns:
        The masks, by task and then by seed; with a bank, as they are stored there.

    Raises:
        DataError: a task is unknown, has no clips to learn from, or a clip has a label that the task does not.
        AudioError: a clip cannot be read or is too long.
        MaskError: `start` is a mask of another model.
        BankError: the bank cannot be written.
    """
    trainer = prepare(
        model, tasks, data, seeds=seeds, recipe=recipe, start=start, bank=bank, known=known, trim=trim, skip_bad=skip_bad,
        on_checked=on_checked,
    )  # fmt: skip
    for now in trainer.run():
        if on_step:
            on_step(now)
    return [added.stored for added in store(trainer, bank)] if bank is not None else trainer.masks


def prepare(
    model: LALM,
    tasks: str | TaskSpec | Sequence[str | TaskSpec],
    data: Manifest | Path | str,
    *,
    seeds: Sequence[int] = (1,),
    recipe: Recipe | None = None,
    start: HeadMask | None = None,
    bank: MaskBank | None = None,
    known: Mapping[str, Task] | None = None,
    trim: bool = False,
    skip_bad: bool = False,
    on_checked: OnProgress | None = None,
) -> MaskTrainer:
    """Check everything that a training needs; arguments and errors as for `train`.

    Returns:
        What trains step by step (`run`).
    """
    manifest = data if isinstance(data, Manifest) else read_manifest(Path(data))
    own = bank.folder if bank is not None else None
    specs = find_tasks(tasks, manifest, collect_tasks(own, manifest.folder) if known is None else known)
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise DataError(f"cannot train with seeds {list(seeds)}; expected one or more different numbers from 0")
    if start is not None:
        start.require(model)
    checkpoints = _open_checkpoints(bank) if bank is not None else None
    manifest = manifest.labelled(part for spec in specs for part in spec.parts)
    learn, tried = find_labelled_clips(model, manifest, specs, trim=trim, skip_bad=skip_bad, on_progress=on_checked)
    for spec in specs:
        _try_scoring(spec, tried)
    jobs = [TrainingJob(spec, seed, start) for spec in specs for seed in seeds]
    return MaskTrainer(
        model, jobs, learn, tried, recipe or choose_recipe(specs, parameters=model_size(model)), checkpoints=checkpoints
    )


def find_tasks(tasks: str | TaskSpec | Sequence[str | TaskSpec], manifest: Manifest, known: Mapping[str, Task]) -> list[TaskSpec]:
    """Tasks by their names or definitions, each once; what comes twice, or is taken from the data, is logged.

    Raises:
        DataError: none is given, one is unknown, or no clip has its labels.
    """
    given = [tasks] if isinstance(tasks, str | TaskSpec) else list(tasks)
    singles = dict(known)
    columns = {column.lower(): column for clip in manifest for column in clip.labels}
    for word in {word for task in given if isinstance(task, str) for word in task.lower().replace(BAR, "-").split("-")}:
        if word not in singles and word in columns:
            proposed = propose_task(columns[word], manifest)
            singles[proposed.name] = proposed
            _log.warning("%s", describe_proposal(proposed))
    specs = [parse_task(task, singles) if isinstance(task, str) else task for task in given]
    labelled = manifest.labelled(part for spec in specs for part in spec.parts)
    for spec in specs:
        if not any(has_labels(spec, clip.labels) for clip in labelled):
            raise DataError(f"no clip of the data has labels for {spec.name}; give a manifest that has with --data")
    once = list({spec.name: spec for spec in specs}.values())
    if not once:
        raise DataError("no task to train; name one, such as asr")
    if len(once) < len(specs):
        names = [spec.name for spec in specs]
        _log.warning("%s is trained once; --seeds 1,2 trains two masks", ", ".join({n: 0 for n in names if names.count(n) > 1}))
    return once


def _try_scoring(task: TaskSpec, dev: LabelledClips) -> None:
    """Find out now if dev answers could not be scored later."""
    references = [task.target(dev.labels[at]) for at in dev.clips_for(task)]
    score(task, references, references)


def _open_checkpoints(bank: MaskBank) -> Path:
    """The folder of checkpoints in a bank, once it is known that the bank can be written.

    Raises:
        BankError: it cannot.
    """
    folder = bank.folder / CHECKPOINTS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = f"cannot write to bank {bank.folder}: {error.strerror}"
        raise BankError(f"{reason}; choose another with --bank or AMASK_BANK") from None
    return folder


def store(trainer: MaskTrainer, bank: MaskBank, names: Iterable[str] = ()) -> list[Added]:
    """Put the masks of a finished training into a bank; then its checkpoint is no longer needed.

    Args:
        trainer: with `masks`.
        bank: where they go.
        names: of each mask; by default its task's.
    """
    called = list(names) or [job.task.name for job in trainer.jobs]
    added = [bank.add(mask, name) for mask, name in zip(trainer.masks, called, strict=True)]
    if trainer.checkpoint:
        trainer.checkpoint.remove()
    return added
