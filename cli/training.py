"""What `bank train` and `compose` share: from options to a training with a progress bar. Imported by commands only."""

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.manifest import Manifest
from ..data.tasks import TaskSpec, collect_tasks
from ..errors import AmaskError, BankError
from ..lalm.base import LALM
from ..mask_bank.bank import MaskBank, open_mask
from ..mask_bank.defaults import Added
from ..mask_bank.distributed import local_device, this_process
from ..mask_bank.files import SUFFIX, save_mask
from ..mask_bank.mask import HeadMask
from ..mask_bank.recipe import choose_recipe, model_size
from ..mask_bank.train import find_tasks, prepare, store
from ..mask_bank.training import MaskTrainer, TrainingJob, TrainingProgress
from ..mask_bank.versions import parse_spec
from .common import err, note, open_data, open_model, out, progress

RESUME_HINT = "the same command resumes from the last checkpoint"
NOTE_INTERVAL_S = 2.0  # that the bar speaks of one mask, before it speaks of the next


def parse_seeds(text: str) -> list[int]:
    """`1,2,3` → [1, 2, 3]."""
    try:
        seeds = [int(word) for word in text.split(",")]
    except ValueError:
        seeds = [-1]
    if min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise AmaskError(f"--seeds {text!r}: expected different whole numbers from 0, such as 1,2,3")
    return seeds


def name_masks(tasks: Sequence[TaskSpec], name: str | None) -> list[str]:
    """What the mask of each task is called: like the task, or as said, with the task behind it where there are several.

    Raises:
        BankError: a name is none, or has a version, which only the bank gives.
    """
    names = [spec.name if name is None else name if len(tasks) == 1 else f"{name}-{spec.name}" for spec in tasks]
    for each in names:
        if parse_spec(each)[1] is not None:
            raise BankError(f"a stored mask gets its version from the bank; say --name {each.partition('@')[0]}")
    return names


def check_out(path: Path, masks: int) -> None:
    """Find out before the training whether `--out` can be written.

    Raises:
        AmaskError: several masks do not fit in one file, it has another ending, or its folder is not there.
    """
    if masks > 1 or path.suffix != SUFFIX:
        raise AmaskError(f"--out takes one {SUFFIX} file, so one task and one seed")
    folder = path.absolute().parent
    if not os.path.isdir(folder) or path.is_dir() or not os.access(folder, os.W_OK):
        raise AmaskError(f"cannot write --out {path}: {folder} must be a folder that can be written; make it first")


@dataclass(frozen=True)
class TrainOptions:
    """What `bank train` was asked for; see its options.

    Attributes:
        seeds: one mask a task and seed.
        recipe: a name of `mask_bank.recipe.RECIPES`, or auto.
        steps, batch, sparsity, distillation: changes of the recipe; None for none.
        model, device, dtype: what is loaded.
        data: a manifest or folder; None for the slice that ships.
        tasks_file: tasks of the user's own.
        start: a mask to start from, by its name or file.
        name: of the masks in the bank; None for their tasks'.
        out_file: where the mask is written, too.
        trim, skip_bad: what is done with clips that are too long, and that cannot be used.
    """

    seeds: tuple[int, ...] = (1,)
    recipe: str = "auto"
    steps: int | None = None
    batch: int | None = None
    sparsity: float | None = None
    distillation: float | None = None
    model: str = "pocket"
    device: str = "auto"
    dtype: str = "auto"
    data: Path | None = None
    tasks_file: Path | None = None
    start: str | None = None
    name: str | None = None
    out_file: Path | None = None
    trim: bool = False
    skip_bad: bool = False


def train_masks(tasks: Sequence[str], bank: MaskBank, options: TrainOptions) -> list[Added]:
    """Train one mask for each task and seed, all in one pass, and store them.

    Of several processes (`accelerate launch`, `torchrun`) the first one prints and stores; the others return nothing.
    """
    process = this_process()
    if not process.is_first:
        out.quiet = err.quiet = True
        logging.getLogger("amask").disabled = True
    manifest = open_data(options.data)
    specs = find_tasks(tasks, manifest, collect_tasks(bank.folder, manifest.folder, file=options.tasks_file))
    names = name_masks(specs, options.name)
    changes: dict[str, Any] = {name: getattr(options, name) for name in ("steps", "batch", "sparsity", "distillation")}
    choose_recipe(specs, options.recipe, **changes)  # refused before the model is loaded
    if options.out_file:
        check_out(options.out_file, len(specs) * len(options.seeds))
    device = (local_device(process) if options.device == "auto" else None) or options.device
    model = open_model(options.model, device, options.dtype)
    start = open_mask(options.start, bank, model) if options.start else None
    recipe = choose_recipe(specs, options.recipe, model_size(model), **changes)
    trainer = check_data(
        model, specs, manifest, seeds=options.seeds, recipe=recipe, start=start, bank=bank, trim=options.trim,
        skip_bad=options.skip_bad,
    )  # fmt: skip
    try:
        run_training(trainer)
    except AmaskError:
        err.quiet = False  # a process that is left alone says so, whichever it is
        raise
    if not process.is_first:
        return []
    added = store(trainer, bank, [names[specs.index(job.task)] for job in trainer.jobs])
    if options.out_file:
        save_mask(added[0].stored, added[0].stored.name, added[0].stored.version, options.out_file)
    return added


def describe_mask(job: TrainingJob, now: TrainingProgress, at: int, seeds: bool) -> str:
    """How one mask's training is going, in a few words: `gr 2: loss 0.123, 301 on, dev 98.1`."""
    dev_score = now.dev_scores[at]
    called = f"{job.task.name} {job.seed}" if seeds else job.task.name
    return f"{called}: loss {now.losses[at]:.3f}, {now.heads_on[at]} on" + (
        "" if dev_score is None else f", dev {abs(dev_score):.1f}"
    )


def check_data(model: LALM, tasks: Sequence[TaskSpec], data: Manifest, **settings: Any) -> MaskTrainer:  # noqa: ANN401
    """Prepare a training, with a bar; settings as for `mask_bank.train.prepare`."""
    with progress("checking clips", len(data)) as tell:
        return prepare(model, tasks, data, on_checked=lambda done, total: tell(done, total=total), **settings)


def run_training(trainer: MaskTrainer) -> list[HeadMask]:
    """Train to the end, with a bar; where there are several masks it speaks of one after the other."""
    jobs, step = trainer.jobs, 0
    seeds = len({job.seed for job in jobs}) > 1
    words = f"training {jobs[0].task.name}" if len(jobs) == 1 else f"training {len(jobs)} masks"
    try:
        with progress(words, trainer.recipe.steps) as tell:
            for now in trainer.run():
                if step == 0 and now.step > 1:
                    err.print(f"amask: resuming from step {now.step - 1}")
                step = now.step
                at = int(time.monotonic() / NOTE_INTERVAL_S) % len(jobs)
                masks = [describe_mask(job, now, place, seeds) for place, job in enumerate(jobs)]
                tell(now.step, note=masks[at], line="; ".join(masks))
    except KeyboardInterrupt:
        err.print(f"amask: stopped at step {step}" + (f"; {RESUME_HINT}" if trainer.checkpoint else ""))
        raise
    if trainer.ended_early:
        note(f"ended at step {step} of {trainer.recipe.steps}: dev clips were answered no better {trainer.recipe.patience} times")
    return trainer.masks
