"""Scores of the masks that ship, on the slice that ships: so a user's own mask is compared with them on the same clips."""

from pathlib import Path

from ...composer.composite import SearchOptions, compose_task
from ...composer.expression import And, Name
from ...data.manifest import Manifest
from ...data.tasks import TaskSpec
from ...lalm.base import LALM
from ...mask_bank.bank import MaskBank
from ...mask_bank.dev_scoring import score_mask
from ...mask_bank.files import save_mask
from ...mask_bank.labelled_clips import find_labelled_clips, has_labels
from ...mask_bank.mask import HeadMask
from ...mask_bank.recipe import choose_recipe
from .loop import Log


def score_masks(model: LALM, folder: Path, data: Manifest, log: Log) -> None:
    """Measure the masks of a folder on a slice's dev clips, as `amask bank train` and `amask compose` would.

    Their files are replaced; a mask of several tasks learns whether it reached the target of a composition.

    Args:
        model: what they are for.
        folder: of a bank; a mask of several tasks is measured against those of its parts.
        data: the slice; a mask of a task that none of its clips has labels for stays as it is.
        log: told the figures.
    """
    for stored in MaskBank(folder / "none", folder).list():
        task = stored.task
        if task is None or not any(has_labels(task, clip.labels) for clip in data):
            log(f"scores: {stored.name} keeps its own; no clip of the slice has its labels")
            continue
        scored = stored.with_(**_dev_score(model, stored, task, data))
        log(f"scores: {stored.name} dev {scored.scores['dev']}")
        save_mask(scored, stored.name, stored.version, stored.path)
    bank = MaskBank(folder / "none", folder)
    for stored in bank.list():
        task = stored.task
        if task is None or task.form == "plain" or not set(task.names) <= {each.task_name for each in bank.list()}:
            continue
        found = compose_task(model, bank, And(tuple(map(Name, task.names))), data, SearchOptions(task.form)).mask
        if found.bits.equal(stored.bits):
            log(f"scores: {stored.name} {found.lineage['composite']['parts']}, reached: {found.lineage['composite']['reached']}")
            save_mask(found, stored.name, stored.version, stored.path)
        else:
            log(f"scores: {stored.name} is beaten by {found.lineage['composite']['candidate']}")


def _dev_score(model: LALM, mask: HeadMask, task: TaskSpec, data: Manifest) -> dict[str, dict]:
    """What changes in a mask that is measured: its scores, and on which clips."""
    _, dev = find_labelled_clips(model, data, [task])
    clips = dev.draw(task, choose_recipe([task]).dev_clips)
    dev_score = score_mask(model, task, mask, dev, clips).value
    lineage = dict(mask.lineage) | {"dev_data": dev.hash(task, clips)}
    return {"scores": dict(mask.scores) | {"dev": round(dev_score, 2)}, "lineage": lineage}
