"""What `bank train` and `compose` share: from options to a training with a progress bar. Imported by commands only."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.manifest import Manifest
from ..data.tasks import TaskSpec, collect_tasks
from ..errors import AmaskError, BankError
from ..lalm.base import LALM
from ..mask_bank.bank import MaskBank, open_mask
from ..mask_bank.defaults import Added
from ..mask_bank.files import SUFFIX, save_mask
from ..mask_bank.mask import HeadMask
from ..mask_bank.recipe import choose_recipe
from ..mask_bank.train import find_tasks, prepare, store
from ..mask_bank.training import MaskTrainer, TrainingJob, TrainingProgress
from ..mask_bank.versions import parse_spec
from .common import err, open_data, open_model, progress

RESUME_HINT = "the same command goes on from the last checkpoint"
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


def train_masks(
    tasks: Sequence[str],
    bank: MaskBank,
    *,
    seeds: Sequence[int] = (1,),
    settings: dict[str, Any] | None = None,
    paper: bool = False,
    model: str | LALM = "pocket",
    device: str = "auto",
    dtype: str = "auto",
    data: Path | None = None,
    tasks_file: Path | None = None,
    start: HeadMask | str | None = None,
    name: str | None = None,
    out_file: Path | None = None,
    trim: bool = False,
    skip_bad: bool = False,
) -> list[Added]:
    """Train one mask for each task and seed, all in one pass, and store them.

    Arguments are as the options of `bank train`; `settings` are changes of the recipe, and a model or a start may be given
    instead of its name.
    """
    manifest = open_data(data)
    specs = find_tasks(tasks, manifest, collect_tasks(bank.folder, manifest.folder, file=tasks_file))
    names = name_masks(specs, name)
    recipe = choose_recipe(specs, paper, **(settings or {}))
    if out_file:
        check_out(out_file, len(specs) * len(seeds))
    loaded = open_model(model, device, dtype) if isinstance(model, str) else model
    first = open_mask(start, bank, loaded) if isinstance(start, str) else start
    trainer = check_data(
        loaded, specs, manifest, seeds=seeds, recipe=recipe, start=first, bank=bank, trim=trim, skip_bad=skip_bad
    )
    run_training(trainer)
    added = store(trainer, bank, [names[specs.index(job.task)] for job in trainer.jobs])
    if out_file:
        save_mask(added[0].stored, added[0].stored.name, added[0].stored.version, out_file)
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
                    err.print(f"amask: going on from step {now.step - 1}")
                step = now.step
                at = int(time.monotonic() / NOTE_INTERVAL_S) % len(jobs)
                masks = [describe_mask(job, now, place, seeds) for place, job in enumerate(jobs)]
                tell(now.step, note=masks[at], line="; ".join(masks))
    except KeyboardInterrupt:
        err.print(f"amask: stopped at step {step}" + (f"; {RESUME_HINT}" if trainer.checkpoint else ""))
        raise
    return trainer.masks
