"""Composite tasks: one mask that does several tasks in one answer, found among candidates or trained from the best of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Literal

import pydantic

from ..data.manifest import Manifest
from ..data.tasks import TaskSpec
from ..errors import MaskError
from ..lalm.base import LALM
from ..lalm.batching import AudioFeatures
from ..lalm.clip_features import encode_manifest
from ..lalm.parallel import answer_texts
from ..mask_bank.bank import MaskBank
from ..mask_bank.mask import RECORD, HeadMask
from .algebra import look_up
from .candidates import Candidate, find_candidates, find_relatives
from .composite_data import CompositeData, Tell, build_composite_data
from .expression import Expression, to_text
from .search import MIN_TARGET_CLIPS, Budget, Result, Target, judge, rank, score_part_masks, search, winner

CLIPS = 32  # dev clips of a search

Train = Callable[[TaskSpec, Manifest, HeadMask], HeadMask]
"""(composite, clips with all labels, the mask to start from) → a trained mask."""


@dataclass(frozen=True)
class SearchOptions:
    """How a composite's mask is looked for.

    Attributes:
        target: what it must reach.
        clips: dev clips that candidates are measured on.
        retrain: train even where a candidate reaches the target.
        self_label: let the parts' own masks label the clips even where the data have all labels.
    """

    target: Target = field(default_factory=Target)
    clips: int = CLIPS
    retrain: bool = False
    self_label: bool = False


@dataclass(frozen=True)
class DevEvaluator:
    """What candidates are measured on: clips as the model hears them, what is right, and the parts' own masks."""

    model: LALM
    spec: TaskSpec
    own: Mapping[str, HeadMask]
    features: AudioFeatures
    references: tuple[str, ...]
    enough: int = MIN_TARGET_CLIPS

    @property
    def room(self) -> int:
        """Tokens that are enough for any right answer."""
        return self.model.max_tokens_for(self.references)

    def ask(self, masks: Sequence[HeadMask], clips: Sequence[int]) -> list[list[str]]:
        """What each mask answers to each clip."""
        return answer_texts(self.model, self.features.rows(list(clips)), masks, max_new_tokens=self.room)

    def measure(self, candidate: Candidate, target: Target) -> Result:
        """A candidate on all clips."""
        clips = range(len(self.references))
        names = list(self.own)
        *alone, said = self.ask([*self.own.values(), candidate.mask], clips)
        own = score_part_masks(self.spec, dict(zip(names, alone, strict=True)), self.references)
        return judge(self.spec, candidate, said, own, self.references, target, enough=self.enough)


@dataclass(frozen=True)
class CompositeResult:
    """What a composition came to.

    Attributes:
        mask: with its task, and in its lineage the record of the search.
        result: its row of the table.
        how: "taken" from the candidates, or "trained" from the best of them.
        parts: the parts' own masks, as the expression calls them.
        results: the whole table, in the order in which it came.
    """

    mask: HeadMask
    result: Result
    how: Literal["taken", "trained"]
    parts: Mapping[str, HeadMask]
    results: tuple[Result, ...]


def composite_of(masks: Sequence[HeadMask], form: Literal["pipe", "json"], keys: Sequence[str] = ()) -> TaskSpec:
    """The composite task of some masks' tasks, in their order.

    Raises:
        MaskError: there are fewer than two, one has no task of its own, or the keys do not fit.
    """
    tasks = [mask.task for mask in masks]
    single = [task.parts[0] for task in tasks if task is not None and task.form == "plain"]
    if len(single) < max(2, len(masks)):
        given = ", ".join(mask.called or "a mask without a task" for mask in masks)
        raise MaskError(f"a composite task joins two masks or more that do one task each; got {given}")
    try:
        return TaskSpec(parts=tuple(single), form=form, keys=tuple(keys))
    except pydantic.ValidationError as error:
        raise MaskError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


def build_dev_evaluator(
    model: LALM, spec: TaskSpec, own: Mapping[str, HeadMask], clips: Manifest, enough: int = MIN_TARGET_CLIPS
) -> DevEvaluator:
    """Make the ground of some clips that carry all labels; on `enough` of them the target may be reached."""
    return DevEvaluator(
        model, spec, own, encode_manifest(model, clips), tuple(spec.target(clip.labels) for clip in clips), enough
    )


def compose_task(
    model: LALM,
    bank: MaskBank,
    expression: Expression,
    form: Literal["pipe", "json"],
    data: Manifest,
    *,
    keys: Sequence[str] = (),
    options: SearchOptions | None = None,
    budget: Budget | None = None,
    train: Train | None = None,
    found: Callable[[CompositeData], None] | None = None,
    tell: Callable[[Result], None] | None = None,
    labelling: Tell | None = None,
) -> CompositeResult:
    """Find a mask for the composite of an expression's masks: the best candidate where it reaches the target, else train one.

    A mask that was trained for this very composite and is the best is taken, too: only `options.retrain` trains it further.

    Args:
        model: the model.
        bank: where the names are looked up.
        expression: names the parts, in the order of the answer; its set operation is a candidate.
        form: "pipe" or "json".
        data: clips with labels; see `build_composite_data` where none carry all.
        keys: what a JSON answer calls the parts.
        options: target, clips, and so on.
        budget: of the search, and of labelling the clips for it.
        train: trains a mask; None takes the best candidate whatever it reaches.
        found: told of the data.
        tell: told of each row of the table as it comes.
        labelling: told as own masks label clips.

    Raises:
        BankError: a name is not in the bank.
        MaskError: the parts make no composite.
        DataError: the data have no clips for it.
    """
    options = options or SearchOptions()
    parts = look_up(expression, lambda name: bank.get(name, model))
    spec = composite_of(list(parts.values()), form, keys)
    own = dict(zip(spec.names, parts.values(), strict=True))
    label = partial(build_composite_data, model, data, spec, own, self_label=options.self_label, tell=labelling)
    needed, budget = max(options.clips, MIN_TARGET_CLIPS), budget or Budget()
    budget.begin()
    joint = label(dev_only=needed)
    if found:
        found(joint)
    dev = joint.dev(needed)
    ground = build_dev_evaluator(
        model, spec, own, replace(dev, clips=dev.clips[: options.clips]), min(MIN_TARGET_CLIPS, len(dev))
    )
    relatives = find_relatives(bank.list(), spec, next(iter(own.values())))
    candidates = find_candidates(expression, parts, relatives)
    results = []
    how_far = {"target": options.target, "budget": budget, "enough": ground.enough}
    for result in search(spec, candidates, own, ground.references, ground.ask, **how_far):
        results.append(result)
        if tell:
            tell(result)
    best, how = winner(results), "taken"
    if train is not None and (options.retrain or not (best.reached or is_trained_for(best.candidate.mask, spec))):
        trained = train(spec, (label() if joint.own else joint).manifest, best.candidate.mask)
        results.append(ground.measure(Candidate(f"trained from {best.candidate.name}", trained), options.target))
        if tell:
            tell(results[-1])
        best = results[-1] if options.retrain else rank([results[-1], best])[0]
        how = "trained" if best is results[-1] else "taken"
    record = {
        "how": how,
        "expression": to_text(expression),
        "target": asdict(options.target),
        "labels": dict(joint.labels),
        "table": [result.row() for result in results],
    }
    return CompositeResult(_with_record(best, spec, own, record), best, how, parts, tuple(results))


def is_trained_for(mask: HeadMask, spec: TaskSpec) -> bool:
    """Whether a training made a mask for this very composite: another one like it would hardly end elsewhere."""
    return mask.task == spec and mask.lineage.get("operation") == "train"


def _with_record(best: Result, spec: TaskSpec, own: Mapping[str, HeadMask], record: Mapping[str, Any]) -> HeadMask:
    """The winner's mask for the composite, with what was found out about it.

    A mask that already did this task keeps the dev score that it is compared by with others of its name.
    """
    mask = best.candidate.mask
    same = mask.task is not None and mask.task == spec
    row = best.row()
    part_scores = {"ifr": row["ifr"]} | {f"{f.part}.{f.metric}": round(f.value, 2) for f in best.part_scores}
    scores = (dict(mask.scores) if same else {"dev": row["exact"]}) | part_scores
    parents = [part.reference() for part in own.values()]
    lineage = dict(mask.lineage) if same else {"operation": "composite", "from": mask.reference(), "parents": parents}
    own_row = {"candidate": row["candidate"], "clips": row["clips"], "parts": row["parts"], "reached": row["reached"]}
    about = own_row | {"masks": parents} | dict(record)
    return mask.with_(task=spec, lineage=lineage | {RECORD: about}, scores=scores)
