"""Which version of a name is the default for a model, and what a new mask must be to take its place."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..data.metrics import ERRORS
from ..data.tasks import TaskSpec
from .ahamask_files import IMPORTED
from .files import StoredMask
from .mask import HeadMask


@dataclass(frozen=True)
class Added:
    """A mask that was stored.

    Attributes:
        stored: the mask with its name and version.
        default: whether it is what its name alone means for its model.
        note: a sentence on that: which mask it replaces, or which one stays and how to take this one; empty for a name's first.
    """

    stored: StoredMask
    default: bool
    note: str = ""


def unsound_reason(mask: HeadMask) -> str:
    """Why a mask is the default only where there is no other; empty for a sound one."""
    if mask.heads_on == mask.heads_total:
        return "all of its heads are on"
    if mask.lineage.get("operation") == IMPORTED:
        return "it was trained elsewhere and imported"
    if _fails(mask):
        return f"it does nothing right on dev clips ({dev_figure(mask)})"
    return ""


def _fails(mask: HeadMask) -> bool:
    """Whether no answer on dev clips was right: 0 % of what is better the higher, 100 % and more of errors."""
    score = mask.scores.get("dev")
    if score is None or mask.task is None:
        return False
    errors = mask.task.form == "plain" and mask.task.parts[0].metric in ERRORS
    return score <= -100.0 if errors else score <= 0.0


def dev_figure(mask: HeadMask) -> str:
    """A mask's score on dev data for people, in percent: `acc 95.0`, `wer 1.9`; empty where it has none."""
    if "dev" not in mask.scores:
        return ""
    metric = mask.task.parts[0].metric if mask.task and mask.task.form == "plain" else "exact" if mask.task else "score"
    return f"{metric} {abs(mask.scores['dev']):.1f}"


def defaults(masks: Iterable[StoredMask], chosen: Mapping[str, int]) -> dict[str, StoredMask]:
    """The default of each model, by fingerprint: the chosen version, else the oldest one that is sound, else the oldest.

    Args:
        masks: all whole versions of one name.
        chosen: fingerprint → version; a version that is not there counts for nothing.
    """
    found: dict[str, StoredMask] = {}
    for mask in sorted(masks, key=lambda mask: (bool(unsound_reason(mask)), mask.version)):
        fingerprint = mask.identity.fingerprint
        if fingerprint not in found or chosen.get(fingerprint) == mask.version:
            found[fingerprint] = mask
    return found


def _measured(task: TaskSpec | None) -> tuple[Any, ...]:
    """What of a task decides its figures: not its wordings."""
    parts = task.parts if task else ()
    return task and (task.form, task.json_keys), [(part.name, part.metric, part.labels) for part in parts]


def why_not_default(new: StoredMask, old: StoredMask) -> str:
    """Why a new mask does not take a default's place; empty where it does: it is sound, and no worse on the same dev clips."""
    if why := unsound_reason(new):
        return why
    if _measured(new.task) != _measured(old.task):
        return f"they are not for the same task ({new.task_name or 'none'}, {old.task_name or 'none'})"
    clips = [mask.lineage.get("dev_data") for mask in (new, old)]
    scores = [mask.scores.get("dev") for mask in (new, old)]
    if scores[0] is None or scores[1] is None or not clips[0] or clips[0] != clips[1]:
        return "they have not been scored on the same dev clips"
    if scores[0] >= scores[1]:
        return ""
    return f"on the same dev clips {new.spec} is worse ({dev_figure(new)}) than {old.spec} ({dev_figure(old)})"


def decide_default(new: StoredMask, old: StoredMask | None, chosen: bool) -> Added:
    """Whether a mask that was just stored is a default.

    Args:
        new: that mask.
        old: the default before it for the same name and model, if there was one.
        chosen: whether somebody chose that one, or it won its place.
    """
    why = unsound_reason(new)
    if old is None:
        alone = f"{new.spec} is the default, as there is no other {new.name} for {new.identity.name}, although {why}"
        return Added(new, True, alone if why else "")
    waits = not chosen and unsound_reason(old) and not why
    against = "" if waits else why_not_default(new, old)
    if against:
        return Added(new, False, f"{old.spec} stays the default: {against}; to use it: amask bank use {new.spec}")
    return Added(new, True, f"{new.spec} is now the default, in place of {old.spec}")
