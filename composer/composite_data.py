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
from ..lalm.constrained_decoding import task_constraint
from ..lalm.parallel import answer_texts
from ..mask_bank.labelled_clips import draw_dev
from ..mask_bank.mask import HeadMask

ENOUGH = 20  # clips with all labels; with fewer the parts' own masks label clips
MOST = 600  # clips of a split that own masks label
BATCH = 32  # clips at once
ROOM = 64  # tokens of a label that is made

_log = logging.getLogger(__name__)

Tell = Callable[[int, int], None]
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
    def own(self) -> bool:
        """Whether the parts' own masks made the labels."""
        return self.labels["from"] == "own masks"

    def dev(self, clips: int) -> Manifest:
        """Some dev clips, drawn the same every time; where the data have none, train clips."""
        some = self.manifest.select("dev").clips or self.manifest.clips
        return replace(self.manifest, clips=tuple(stable_shuffle(some)[:clips]))


def build_composite_data(
    model: LALM,
    manifest: Manifest,
    spec: TaskSpec,
    own: Mapping[str, HeadMask],
    *,
    self_label: bool = False,
    most: int = MOST,
    dev_only: int | None = None,
    tell: Tell | None = None,
) -> CompositeData:
    """Clips with all labels, where the data have at least `ENOUGH`; else clips of any part, labelled by the own masks.

    Args:
        model: the model.
        manifest: the data.
        spec: the composite.
        own: each part's own mask.
        self_label: let the own masks label even where the data have labels, and clips that have none.
        most: clips of a split that the own masks label at most.
        dev_only: where own masks label, let them label this many dev clips and no others: all that a search needs.
        tell: called as they do.

    Raises:
        DataError: the data have no clip of any part, or the own masks give no answer that can be a label.
    """
    manifest = manifest.labelled(spec.parts)
    learned = replace(manifest, clips=_with_dev_split([clip for clip in manifest if clip.split != "test"] or list(manifest)))
    whole = [clip for clip in learned if all(clip.labels.get(name) for name in spec.names)]
    if len(whole) >= ENOUGH and not self_label:
        return CompositeData(replace(learned, clips=tuple(whole)), {"from": "data"})
    fitting = [clip for clip in learned if self_label or any(name in clip.labels for name in spec.names)]
    labelled: list[Clip] = []
    for splits in (("dev",), ("train", "dev")) if dev_only else (("train", "dev"),):
        chosen = [clip for split in splits for clip in stable_shuffle([c for c in fitting if c.split == split])[:most]]
        labelled = labelled or _label(model, replace(learned, clips=tuple(chosen)), spec, own, tell, dev_only)
    if not labelled:
        raise DataError(
            f"no clip of the data can be labelled for {spec.name}; "
            f"give train and dev clips of {', '.join(spec.names)} with --data"
        )
    by = {name: own[name].reference() for name in spec.names}
    return CompositeData(replace(learned, clips=tuple(labelled)), {"from": "own masks", "masks": by})


def _with_dev_split(clips: list[Clip]) -> tuple[Clip, ...]:
    """Clips of the splits train and dev: where none are dev, a tenth becomes that, as for `bank train`."""
    if any(clip.split == "dev" for clip in clips) or len(clips) < 2:
        return tuple(clips)
    held = set(map(id, draw_dev(clips)[0]))
    _log.warning("the data have no dev clips: %d of %d are taken", len(held), len(clips))
    return tuple(clip.model_copy(update={"split": "dev" if id(clip) in held else "train"}) for clip in clips)


def _label(
    model: LALM, manifest: Manifest, spec: TaskSpec, own: Mapping[str, HeadMask], tell: Tell | None, enough: int | None
) -> list[Clip]:
    """The clips with what the own masks answer as their labels, where each answer can be one; no more than are enough."""
    found: list[Clip] = []
    constraints = [task_constraint(TaskSpec(parts=(part,))) for part in spec.parts]
    for start in range(0, len(manifest), BATCH):
        some = manifest.clips[start : start + BATCH]
        features = encode_manifest(model, replace(manifest, clips=some))
        answers = answer_texts(model, features, [own[name] for name in spec.names], constraints=constraints, max_new_tokens=ROOM)
        for clip, said in zip(some, zip(*answers, strict=True), strict=True):
            labels = _labels(spec, said)
            if labels:
                found.append(clip.model_copy(update={"labels": labels}))
        if tell:
            tell(start + len(some), len(manifest))
        if enough and len(found) >= enough:
            break
    return found[:enough]


def _labels(spec: TaskSpec, said: Sequence[str]) -> dict[str, str]:
    """Labels of some answers; none where one is empty, is no label of its part's set, or holds a bar."""
    labels = {}
    for part, answer in zip(spec.parts, said, strict=True):
        label = exact_label(answer, part.labels) if part.labels else answer.strip()
        if not label or (spec.form == "pipe" and BAR in label):
            return {}
        labels[part.name] = label
    return labels
