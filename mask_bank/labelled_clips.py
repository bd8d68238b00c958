"""What masks are trained on and tried on: which clips, whether they are fit for it, and what identifies them."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ..data.kinds import measuring
from ..data.labels import require_labels
from ..data.manifest import Clip, Manifest
from ..data.tasks import TaskSpec
from ..errors import DataError
from ..lalm.base import LALM
from ..lalm.clip_features import FeatureRows, OnProgress, checked_features

DEV_SHARE = 10  # one clip of so many is a dev clip, where the data names none
MIN_SPEAKERS = 10  # that can be divided; with fewer, a dev set of one or two would not tell much

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledClips:
    """Clips as a model hears them.

    Attributes:
        features: of each clip.
        labels: of each clip.
        digests: what tells each clip's sound apart.
        kinds: of each clip, see `data.manifest.Clip.kind`; none where they are not known.
    """

    features: FeatureRows
    labels: tuple[dict[str, str], ...]
    digests: tuple[str, ...]
    kinds: tuple[str, ...] = ()

    def clips_for(self, task: TaskSpec) -> list[int]:
        """The numbers of the clips that a task can be learned from."""
        return [at for at, labels in enumerate(self.labels) if has_labels(task, labels)]

    def measuring(self, task: TaskSpec) -> list[int]:
        """The numbers of those that measure a task, as `eval` does."""
        labelled = self.clips_for(task)
        return [labelled[at] for at in measuring(task, [self.kinds[at] if self.kinds else "" for at in labelled])]

    def draw(self, task: TaskSpec, count: int) -> list[int]:
        """Some of those, drawn by their sound, so that their order in the data does not matter."""
        drawn = sorted(self.measuring(task), key=lambda at: hashlib.sha256(self.digests[at].encode()).digest())[:count]
        return sorted(drawn)

    def hash(self, task: TaskSpec, clips: Iterable[int]) -> str:
        """16 hex digits of some clips' sound and of their right answers, in this order, wherever the files lie."""
        rows = [(self.digests[at], task.target(self.labels[at])) for at in clips]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def has_labels(task: TaskSpec, labels: dict[str, str]) -> bool:
    """Whether a clip has a label for every part of a task; composites need parts that are not empty."""
    if task.form == "plain":
        return task.names[0] in labels
    return all(labels.get(name) for name in task.names)


def find_labelled_clips(
    model: LALM,
    manifest: Manifest,
    tasks: Sequence[TaskSpec],
    *,
    trim: bool = False,
    skip_bad: bool = False,
    on_progress: OnProgress | None = None,
) -> tuple[LabelledClips, LabelledClips]:
    """The clips to learn some tasks from and those to try masks on, all checked; what is odd about them is logged.

    Args:
        model: the model that is to hear them.
        manifest: the data. Where it has no dev clips for a task, a tenth of the train clips become some.
        tasks: what is to be learned.
        trim: use the beginning of clips that are too long.
        skip_bad: leave out clips whose labels or files are bad, instead of refusing the first of them.
        on_progress: called as files are checked.

    Raises:
        DataError: a task has no clips to learn from, or a label is not of its task's closed set.
        AudioError: a file cannot be read or is too long.
    """
    fit, problems = _labelled(manifest, tasks, skip_bad)
    candidates = len(fit) + len(problems)
    splits = _split(fit, tasks, manifest.splits_drawn)
    total = sum(map(len, splits))
    sets = []
    for clips, before in zip(splits, (0, len(splits[0])), strict=True):
        count = partial(_count_on, on_progress, before, total) if on_progress else None
        part = replace(manifest, clips=tuple(clips))
        features, bad = checked_features(model, part, trim=trim, skip_bad=skip_bad, on_progress=count)
        problems += bad
        digests = tuple(features.digest(at) for at in range(len(features)))
        labels, kinds = (tuple(getattr(clip, name) for clip in features.manifest) for name in ("labels", "kind"))
        sets.append(LabelledClips(features, labels, digests, kinds))
    if problems:
        _log.warning("%d of %d clips are left out; the first: %s", len(problems), candidates, problems[0])
    _warn_duplicates(sets[0].digests, sets[1].digests)
    return sets[0], sets[1]


def _labelled(manifest: Manifest, tasks: Sequence[TaskSpec], skip_bad: bool) -> tuple[list[Clip], list[str]]:
    """The clips that serve a task, and what is wrong with the labels of those that are skipped."""
    fit: list[Clip] = []
    problems: list[str] = []
    for number, clip in enumerate(manifest, 1):
        served = [task for task in tasks if has_labels(task, clip.labels)]
        try:
            for task in served:
                require_labels(task, clip.labels, f"clip {number} of the data ({clip.path})")
        except DataError as error:
            if not skip_bad:
                raise DataError(f"{error}; --skip-bad leaves such clips out") from None
            problems.append(str(error))
        else:
            if served:
                fit.append(clip)
    return fit, problems


def _count_on(on_progress: OnProgress, before: int, total: int, done: int, _of: int) -> None:
    """Count the clips of one split on from those of the split before."""
    on_progress(before + done, total)


def _split(clips: list[Clip], tasks: Sequence[TaskSpec], divided: bool) -> tuple[list[Clip], list[Clip]]:
    """Clips to learn from and dev clips, as the data say; what they do not say is drawn, and said."""
    train = [clip for clip in clips if clip.split == "train"]
    dev = [clip for clip in clips if clip.split == "dev"]
    if not train and not dev:
        train = list(clips)
        if clips:
            _log.warning("all clips of the data are test clips; they are divided into train and dev")
    elif divided:
        _log.warning("the data name no splits; drawn are %d train and %d dev clips, and the rest for tests", len(train), len(dev))
    for task in tasks:
        serving = [clip for clip in train if has_labels(task, clip.labels)]
        if not any(has_labels(task, clip.labels) for clip in dev) and len(serving) > 1:
            drawn, how = draw_dev(serving)
            words = "the data have no dev clips for %s: %d of its %d train clips are taken, drawn %s"
            _log.warning(words, task.name, len(drawn), len(serving), how)
            taken = set(map(id, drawn))
            train, dev = [clip for clip in train if id(clip) not in taken], [*dev, *drawn]
        for part, words in ((train, "train"), (dev, "dev")):
            if not any(has_labels(task, clip.labels) for clip in part):
                advice = "give a manifest that has with --data, see docs/data.md"
                raise DataError(f"no {words} clip has labels for {task.name}; {advice}")
    return train, dev


def draw_dev(clips: list[Clip]) -> tuple[list[Clip], str]:
    """A tenth of some clips, of speakers of their own where there are enough of them; the same every time."""
    speakers = {clip.speaker for clip in clips}
    by_speaker = "" not in speakers and len(speakers) >= MIN_SPEAKERS
    keys = [clip.speaker if by_speaker else "\0".join((clip.path, *clip.more)) for clip in clips]
    sizes = Counter(keys)
    wanted = max(1, len(clips) // DEV_SHARE)
    drawn: set[str] = set()
    for key in sorted(sizes, key=lambda key: hashlib.sha256(key.encode(errors="surrogateescape")).digest()):
        if wanted > 0 and len(drawn) < len(sizes) - 1:
            drawn.add(key)
            wanted -= sizes[key]
    return [clip for clip, key in zip(clips, keys, strict=True) if key in drawn], "by speaker" if by_speaker else "by file"


def _warn_duplicates(train: Sequence[str], dev: Sequence[str]) -> None:
    """Log recordings that come twice; of a dev clip that was learned from, the score tells little."""
    twice = len(train) + len(dev) - len({*train}) - len({*dev})
    if twice:
        _log.warning("%d clips have the same sound as another one of their split", twice)
    shared = len(set(train) & set(dev))
    if shared:
        _log.warning("%d dev clips are also train clips, so dev scores are too good; take them out of one split", shared)
