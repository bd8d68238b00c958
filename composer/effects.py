"""What a mask does that was made by set operations: measured on each parent's own task."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..data.manifest import Manifest, stable_shuffle
from ..data.metrics import score
from ..lalm.base import LALM
from ..lalm.clip_features import encode_manifest
from ..lalm.parallel import answer_texts
from ..mask_bank.mask import HeadMask

CLIPS = 20
QUOTED_ANSWERS = 2  # answers that are quoted


@dataclass(frozen=True)
class SideEffect:
    """What a mask does on the clips of a parent's task.

    Attributes:
        task: the parent's task.
        metric: its metric.
        value: the mask's, in percent.
        own: the parent's own, in percent.
        clips: how many clips.
        answers: the mask's commonest answers, and how often it gave each.
    """

    task: str
    metric: str
    value: float
    own: float
    clips: int
    answers: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        """`gr: acc 50.0 (its own mask 95.0) on 20 clips; answers 'female' 20 times`."""
        said = ", ".join(f"{answer[:40]!r} {times}×" for answer, times in self.answers)
        return f"{self.task}: {self.metric} {self.value:.1f} (its own mask {self.own:.1f}) on {self.clips} clips; it says {said}"


def measure_side_effects(
    model: LALM, mask: HeadMask, parents: Mapping[str, HeadMask], data: Manifest, clips: int = CLIPS
) -> list[SideEffect]:
    """Measure a mask on some dev clips of each parent's task; parents without a task or without clips are passed over."""
    found = []
    for parent in parents.values():
        task = parent.task
        if task is None:
            continue
        labelled = [
            clip for clip in data.labelled(task.parts).select("dev", task.names) if all(clip.labels[name] for name in task.names)
        ]
        some = replace(data, clips=tuple(stable_shuffle(labelled)[:clips]))
        if not some:
            continue
        references = [task.target(clip.labels) for clip in some]
        room = model.max_tokens_for(references)
        said, own = answer_texts(model, encode_manifest(model, some), [mask, parent], max_new_tokens=room)
        ours, theirs = (score(task, answers, references)[0] for answers in (said, own))
        common = tuple(Counter(said).most_common(QUOTED_ANSWERS))
        found.append(SideEffect(task.name, ours.metric, ours.value, theirs.value, len(some), common))
    return found
