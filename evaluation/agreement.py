"""Masks of one task, such as those of several seeds: do the heads that they share still do it?"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import and_, or_

from ..data.manifest import Manifest, stable_shuffle
from ..errors import DataError, MaskError
from ..lalm.base import LALM
from ..lalm.clip_features import encode_manifest
from ..mask_bank.mask import HeadMask
from .controls import random_like
from .harness import Trial, predict
from .summary import score_run


@dataclass(frozen=True)
class MaskScore:
    """How well a mask does the task.

    Attributes:
        name: the mask's, or what was made of all.
        heads_on: how many heads it has on.
        metric: the task's.
        value: in percent.
        clips: on how many clips.
    """

    name: str
    heads_on: int
    metric: str
    value: float
    clips: int


def measure_agreement(
    model: LALM, masks: Mapping[str, HeadMask], data: Manifest, *, clips: int = 50, split: str = "test", seed: int = 1
) -> list[MaskScore]:
    """Measure masks of one task, their intersection, their union, and a random mask as large as the intersection.

    Args:
        model: the model.
        masks: two or more, by name.
        data: clips with the task's labels.
        clips: how many, drawn the same every time.
        split: which.
        seed: of the random mask.

    Raises:
        MaskError: they are fewer, of several tasks, of none, or for another model.
        DataError: no clip of the split has the labels.
    """
    tasks = {mask.task_name: mask.task for mask in masks.values()}
    (task, *others) = tasks.values()
    if others or task is None or len(masks) < 2:
        given = ", ".join(f"{name} ({mask.task_name or 'no task'})" for name, mask in masks.items())
        raise MaskError(f"what masks agree on is measured on two or more of one task; got {given}")
    serving = data.labelled(task.parts).select(split, task.names)
    some = replace(data, clips=tuple(stable_shuffle([c for c in serving if all(c.labels[name] for name in task.names)])[:clips]))
    if not some:
        raise DataError(f"no {split} clip of the data has labels for {task.name}; give a manifest that has with --data")
    both = reduce(and_, masks.values())
    made = {"intersection": both, "union": reduce(or_, masks.values()), "random, of its size": random_like(both, seed)}
    tried = dict(masks) | made
    features = encode_manifest(model, some)
    runs = [
        predict(model, features, some.clips, task, Trial("mask", name, mask), unconstrained=False) for name, mask in tried.items()
    ]
    part_scores = [score_run(task, run).served[0] for run in runs]
    return [
        MaskScore(name, mask.heads_on, part_score.metric, round(part_score.value, 2), len(some))
        for (name, mask), part_score in zip(tried.items(), part_scores, strict=True)
    ]
