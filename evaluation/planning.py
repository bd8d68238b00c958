"""What an evaluation is about to measure: which tasks, by which masks, on which clips; and what is wrong with them."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from ..data.labels import require_labels
from ..data.manifest import Clip, Manifest, stable_shuffle
from ..data.metrics import score
from ..data.tasks import Task, TaskSpec, parse_task
from ..errors import BankError, DataError, MaskError
from ..lalm.identity import Identified
from ..mask_bank.bank import MaskBank, open_mask
from ..mask_bank.mask import HeadMask
from .harness import ALL_SPLITS, clips_for

ALL = "all"
NOTHING = "there is no task to measure; name one, such as asr, or train a mask with 'amask bank train'"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """One thing to be measured.

    Attributes:
        task: what the answers are measured as.
        mask: what does it; until the model is known, only where it was given itself.
        mask_name: the name of the mask, where one was named and not its task.
        only_if_mask: whether it is to be measured only if there is a mask, as for "all".
        clips: those that measure it, with the task's labels.
        skip_reason: why it cannot be measured; empty where it can.
    """

    task: TaskSpec
    mask: HeadMask | None = None
    mask_name: str = ""
    only_if_mask: bool = False
    clips: tuple[Clip, ...] = ()
    skip_reason: str = ""


def find_targets(names: Sequence[str | TaskSpec | HeadMask], bank: MaskBank, known: Mapping[str, Task]) -> list[Target]:
    """What is meant by some names.

    Args:
        names: of tasks and of masks (`gr`, `gr-asr`, `both@2`, a file), or what they name; "all" for every task of a mask.
        bank: where the masks are.
        known: single tasks by name; those of the bank's masks are known besides.

    Raises:
        DataError: a name is neither a task's nor a mask's, or there is none.
        MaskError: a mask is damaged.
    """
    known = {part.name: part for spec in bank.tasks() for part in spec.parts} | dict(known)
    found: list[Target] = []
    for name in names:
        if name == ALL:
            found += [Target(task, only_if_mask=True) for task in bank.tasks()]
        elif isinstance(name, str):
            found.append(_named(name, bank, known))
        else:
            found.append(_of_mask(name) if isinstance(name, HeadMask) else Target(name))
    if not found:
        raise DataError(NOTHING)
    return found


def _named(name: str, bank: MaskBank, known: Mapping[str, Task]) -> Target:
    """A task, or else a mask, of that name."""
    try:
        return Target(parse_task(name, known))
    except DataError as unknown:
        try:
            return replace(_of_mask(open_mask(name, bank)), mask=None, mask_name=name)
        except BankError:
            raise DataError(f"{unknown}; and no mask has that name") from None


def _of_mask(mask: HeadMask) -> Target:
    if mask.task is None:
        raise DataError(f"{mask!r} has no task that it could be measured by; give one that was trained or composed for a task")
    return Target(mask.task, mask)


def with_masks(targets: Sequence[Target], bank: MaskBank, model: Identified) -> list[Target]:
    """The targets with their masks for a model, each thing once; that a task has no mask is logged.

    Raises:
        MaskError: a mask that was named or given is not for this model.
        DataError: there is nothing left to measure.
    """
    found: dict[tuple[str, str], Target] = {}
    for target in targets:
        mask = _mask_for(target, bank, model)
        if mask is not None or not target.only_if_mask:
            key = (target.task.model_dump_json(), mask.digest if mask else "")
            found.setdefault(key, replace(target, mask=mask))
    if not found:
        raise DataError(NOTHING)
    return list(found.values())


def _mask_for(target: Target, bank: MaskBank, model: Identified) -> HeadMask | None:
    if target.mask is not None:
        target.mask.require(model)
        return target.mask
    if target.mask_name:
        mask = open_mask(target.mask_name, bank, model)
        if mask.task != target.task:
            raise DataError(f"{mask.spec}, the mask {target.mask_name!r} for this model, is for another task; say which version")
        return mask
    try:
        return bank.for_task(target.task, model)
    except (BankError, MaskError) as error:
        if not target.only_if_mask:
            _log.warning("%s; %s is measured without a mask", error, target.task.name)
        return None


def other_masks(target: Target, bank: MaskBank, model: Identified, count: int) -> dict[str, HeadMask]:
    """Masks of other single tasks, by name: those whose number of heads on is nearest to the target's mask's."""
    mask = target.mask
    if mask is None or not count:
        return {}
    found = []
    for task in bank.tasks():
        if task.form == "plain" and task.name not in target.task.names:
            with suppress(BankError, MaskError):
                found.append(bank.for_task(task, model))
    found.sort(key=lambda other: (abs(other.heads_on - mask.heads_on), other.spec))
    return {other.spec: other for other in found[:count]}


def choose_clips(
    targets: Sequence[Target], manifest: Manifest, split: str, kind: str | None, limit: int | None, skip_bad: bool
) -> tuple[list[Target], list[str]]:
    """Give every target the clips that measure it, all fit to be scored.

    Args:
        targets: what is to be measured.
        manifest: the data.
        split: train, dev, test, or all.
        kind: see `clips_for`.
        limit: clips of each target, drawn by a hash of their files' names; None for all.
        skip_bad: leave out clips whose labels are bad, instead of refusing the first of them.

    Returns:
        The targets; those that no clip measures, or whose metric lacks something, with a skip_reason. And what is wrong with the
        clips that are left out.

    Raises:
        DataError: a clip's label is not of its task's closed set, or cannot stand in the answer's form; or all targets have
            a skip_reason.
    """
    manifest = _without_shared(manifest, split)
    chosen: list[Target] = []
    problems: dict[str, None] = {}
    for target in targets:
        fit: list[Clip] = []
        for clip in clips_for(target.task, manifest, split, kind):
            try:
                require_labels(target.task, clip.labels, f"clip {clip.path}")
                fit.append(clip)
            except DataError as error:
                if not skip_bad:
                    raise DataError(f"{error}; --skip-bad leaves such clips out") from None
                problems[str(error)] = None
        target = replace(target, clips=tuple(fit if limit is None else stable_shuffle(fit)[:limit]))
        target = replace(target, skip_reason=_skip_reason(target, split))
        if target.only_if_mask and target.skip_reason:
            _log.warning("%s; it is left out", target.skip_reason)
        else:
            chosen.append(target)
    if all(target.skip_reason for target in chosen):
        raise DataError("; ".join(dict.fromkeys(target.skip_reason for target in chosen)))
    return chosen, list(problems)


def _skip_reason(target: Target, split: str) -> str:
    """Why a target could not be scored in the end, found out before the beginning."""
    task = target.task
    if not target.clips:
        which = "" if split == ALL_SPLITS else f"{split} "
        return f"no {which}clip of the data has labels for {task.name}; give a manifest that has with --data"
    references = [task.target(clip.labels) for clip in target.clips]
    try:
        score(task, references, references)
    except DataError as error:
        return f"cannot measure {task.name}: {error}"
    return ""


def _without_shared(manifest: Manifest, split: str) -> Manifest:
    """A manifest whose clips of one split are in no other: those may have been learned from, or a choice was made on them.

    What is left out, clips that come twice, and speakers who are in another split too are logged.
    """
    if split == ALL_SPLITS:
        return manifest
    splits: dict[tuple[str, ...], Counter[str]] = {}
    for clip in manifest:
        splits.setdefault((clip.path, *clip.more), Counter())[clip.split] += 1
    twice = [files for files, found in splits.items() if found[split] > 1]
    if twice:
        _log.warning("%d clips are in the %s split more than once, the first %s; each counts", len(twice), split, twice[0][0])
    shared = {files for files, found in splits.items() if found[split] and len(found) > 1}
    kept = tuple(clip for clip in manifest if clip.split != split or (clip.path, *clip.more) not in shared)
    if shared:
        others = ", ".join(sorted({name for files in shared for name in splits[files]} - {split}))
        message = "%d clips of the %s split are in %s too and are left out, the first %s"
        _log.warning(message, len(shared), split, others, min(shared)[0])
    speakers = {clip.speaker for clip in kept if clip.split == split and clip.speaker}
    known = speakers & {clip.speaker for clip in kept if clip.split != split}
    if known:
        message = "%d of %d speakers of the %s split are in another split too, the first %s: figures are not of unseen speakers"
        _log.warning(message, len(known), len(speakers), split, min(known))
    return replace(manifest, clips=kept)
