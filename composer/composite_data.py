"""Data of a composite task: clips that carry a label for each of its parts, or clips that the parts' own masks label."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..data.labels import exact_label
from ..data.manifest import Clip, Manifest, stable_shuffle
from ..data.tasks import BAR, TaskSpec
from ..errors import DataError
from ..lalm.base import LALM
from ..lalm.clip_features import encode_manifest
from ..lalm.parallel import TaskRow, answer_task_rows
from ..mask_bank.labelled_clips import draw_dev
from ..mask_bank.mask import HeadMask

MIN_LABELLED_CLIPS = 20  # clips with all labels; with fewer the parts' own masks label clips
MAX_SELF_LABELLED = 600  # clips of a split that own masks label
LABEL_BATCH = 32  # clips at once
MAX_LABEL_TOKENS = 64
MAX_HELD_OUT = 1 / 3  # of the train clips with all labels, where too few dev clips have them

_log = logging.getLogger(__name__)

OnProgress = Callable[[int, int], None]
"""(done, of how many)"""


@dataclass(frozen=True)
class CompositeData:
    """Clips for training and for the search, each with a label for every part.

    Attributes:
        manifest: the clips, of the splits train and dev.
        labels: what a lineage says of their labels: "data", or "own masks" with each part's.
    """

    manifest: Manifest
    labels: Mapping[str, Any]

    @property
    def self_labelled(self) -> bool:
        """Whether the parts' own masks made the labels."""
        return self.labels["from"] == "own masks"

    def dev(self, clips: int) -> Manifest:
        """Some dev clips, drawn the same every time."""
        return replace(self.manifest, clips=tuple(stable_shuffle(self.manifest.select("dev").clips)[:clips]))


def build_composite_data(
    model: LALM,
    manifest: Manifest,
    spec: TaskSpec,
    part_masks: Mapping[str, HeadMask],
    *,
    self_label: bool = False,
    dev_clips: int = 0,
    dev_only: bool = False,
    on_progress: OnProgress | None = None,
) -> CompositeData:
    """Clips with all labels, where at least `MIN_LABELLED_CLIPS` have them; else clips of any part, labelled by the own masks.

    Where too few dev clips have all labels, train clips become dev clips, and are not trained on; a warning says so.

    Args:
        model: the model.
        manifest: the data.
        spec: the composite.
        part_masks: each part's own mask.
        self_label: let the own masks label even where the data have labels, and clips that have none.
        dev_clips: dev clips that are wanted.
        dev_only: where own masks label, let them label these dev clips and no others: all that a search needs.
        on_progress: called as they do.

    Raises:
        DataError: the data have no clip of any part, or the own masks give no answer that can be a label.
    """
    manifest = manifest.labelled(spec.parts)
    known = replace(manifest, clips=_with_dev_split([clip for clip in manifest if clip.split != "test"] or list(manifest)))
    whole = [clip for clip in known if all(clip.labels.get(name) for name in spec.names)]
    if len(whole) >= MIN_LABELLED_CLIPS and not self_label:
        return CompositeData(replace(known, clips=_with_enough_dev(whole, dev_clips)), {"from": "data"})
    fitting = [clip for clip in known if self_label or any(name in clip.labels for name in spec.names)]
    wanted = dev_clips if dev_only and dev_clips else None
    labelled: list[Clip] = []
    for splits in (("dev",), ("train", "dev")) if wanted else (("train", "dev"),):
        chosen = [
            clip for split in splits for clip in stable_shuffle([c for c in fitting if c.split == split])[:MAX_SELF_LABELLED]
        ]
        labelled = labelled or _self_label(model, replace(known, clips=tuple(chosen)), spec, part_masks, on_progress, wanted)
    if not labelled:
        raise DataError(
            f"no clip of the data can be labelled for {spec.name}; "
            f"give train and dev clips of {', '.join(spec.names)} with --data"
        )
    by = {name: part_masks[name].reference() for name in spec.names}
    found = replace(known, clips=_with_enough_dev(labelled, 1))
    return CompositeData(found, {"from": "own masks", "masks": by})


def _with_dev_split(clips: list[Clip]) -> tuple[Clip, ...]:
    """Clips of the splits train and dev: where none are dev, a tenth becomes that, as for `bank train`."""
    if any(clip.split == "dev" for clip in clips) or len(clips) < 2:
        return tuple(clips)
    held = set(map(id, draw_dev(clips)[0]))
    _log.warning("the data have no dev clips: %d of %d are taken", len(held), len(clips))
    return tuple(clip.model_copy(update={"split": "dev" if id(clip) in held else "train"}) for clip in clips)


def _with_enough_dev(clips: Sequence[Clip], wanted: int) -> tuple[Clip, ...]:
    """Clips with as many dev clips as are wanted, as far as a third of the train clips will do."""
    dev, train = ([clip for clip in clips if clip.split == split] for split in ("dev", "train"))
    lacking = min(wanted - len(dev), int(len(train) * MAX_HELD_OUT)) if len(dev) < min(wanted, MIN_LABELLED_CLIPS) else 0
    if lacking <= 0:
        return tuple(clips)
    held = set(map(id, stable_shuffle(train)[:lacking]))
    _log.warning("only %d dev clips have all labels: %d train clips are held out as dev clips instead", len(dev), len(held))
    return tuple(clip.model_copy(update={"split": "dev"}) if id(clip) in held else clip for clip in clips)


def _self_label(
    model: LALM,
    manifest: Manifest,
    spec: TaskSpec,
    part_masks: Mapping[str, HeadMask],
    on_progress: OnProgress | None,
    enough: int | None,
) -> list[Clip]:
    """The clips with what the own masks answer as their labels, where each answer can be one; no more than are enough."""
    found: list[Clip] = []
    singles = [(part_masks[part.name], TaskSpec(parts=(part,))) for part in spec.parts]
    for mask, _ in singles:
        mask.require(model)
    for start in range(0, len(manifest), LABEL_BATCH):
        some = manifest.clips[start : start + LABEL_BATCH]
        features = encode_manifest(model, replace(manifest, clips=some))
        rows = [TaskRow(at, mask.gates, task=task) for at in range(len(some)) for mask, task in singles]
        texts = [answer.text for answer in answer_task_rows(model, features, rows, max_new_tokens=MAX_LABEL_TOKENS)]
        for at, clip in enumerate(some):
            labels = _labels(spec, texts[at * len(singles) : (at + 1) * len(singles)])
            if labels:
                found.append(clip.model_copy(update={"labels": labels}))
        if on_progress:
            on_progress(start + len(some), len(manifest))
        if enough and len(found) >= enough:
            break
    return found[:enough]


def _labels(spec: TaskSpec, texts: Sequence[str]) -> dict[str, str]:
    """Labels of some answers; none where one is empty, is no label of its part's set, or holds a bar."""
    labels = {}
    for part, text in zip(spec.parts, texts, strict=True):
        label = exact_label(text, part.labels) if part.labels else text.strip()
        if not label or (spec.form == "pipe" and BAR in label):
            return {}
        labels[part.name] = label
    return labels
