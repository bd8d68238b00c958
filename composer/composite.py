"""Composite tasks: one mask that does several tasks in one answer, found among candidates or trained from the best of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Literal

import pydantic

from ..data.manifest import Manifest
from ..data.tasks import TaskSpec
from ..errors import DataError, MaskError
from ..lalm.base import LALM
from ..lalm.batching import AudioFeatures
from ..lalm.clip_features import encode_manifest
from ..lalm.parallel import TaskRow, answer_task_rows
from ..mask_bank.bank import MaskBank
from ..mask_bank.mask import RECORD, HeadMask
from .algebra import look_up
from .candidates import Candidate, find_candidates, find_relatives
from .composite_data import CompositeData, OnProgress, build_composite_data
from .confirmation import FIRST_CLIPS, Confirmation, PairedAnswers, Target, confirm
from .expression import Expression, to_text
from .search import Budget, CandidateScore, Job, best_result, rank, score_candidate, score_part_masks, search

CLIPS = 32  # dev clips of a search
CONFIRMATION_CLIPS = 600  # other dev clips, at most, that the best candidate is confirmed on, where that takes as many

Form = Literal["pipe", "json"]
Train = Callable[[TaskSpec, Manifest, HeadMask], HeadMask]
"""(composite, clips with all labels, the mask to start from) → a trained mask."""


def _nothing(*_: Any) -> None:  # noqa: ANN401
    return


@dataclass(frozen=True)
class SearchOptions:
    """How a composite's mask is looked for.

    Attributes:
        form: "pipe" or "json".
        keys: what a JSON answer calls the parts.
        target: what it must reach.
        clips: dev clips that candidates are measured on.
        confirmation_clips: further dev clips, at most, that the best of them is confirmed on; as many as are needed are used.
        retrain: train even where a candidate reaches the target.
        self_label: let the parts' own masks label the clips even where the data have all labels.
        budget: of the search; labelling, confirming and training are not counted.
    """

    form: Form = "json"
    keys: tuple[str, ...] = ()
    target: Target = field(default_factory=Target)
    clips: int = CLIPS
    confirmation_clips: int = CONFIRMATION_CLIPS
    retrain: bool = False
    self_label: bool = False
    budget: Budget = field(default_factory=Budget)


@dataclass(frozen=True)
class Events:
    """Called as a composition goes on.

    Attributes:
        on_data: with the clips that were found.
        on_label_progress: as own masks label clips.
        on_result: with each row of the table.
        on_confirmation: with what came of the confirmation clips.
    """

    on_data: Callable[[CompositeData], None] = _nothing
    on_label_progress: OnProgress = _nothing
    on_result: Callable[[CandidateScore], None] = _nothing
    on_confirmation: Callable[[Confirmation], None] = _nothing


@dataclass(frozen=True)
class DevEvaluator:
    """What candidates are measured on: encoded clips, what is right, and the parts' own masks.

    Attributes:
        model: the model.
        spec: the composite.
        part_masks: each part's own mask.
        features: of the clips.
        references: what is right, in the composite's form.
        speakers: of the clips; empty where unknown.
    """

    model: LALM
    spec: TaskSpec
    part_masks: Mapping[str, HeadMask]
    features: AudioFeatures
    references: tuple[str, ...]
    speakers: tuple[str, ...]

    def answer(self, jobs: Sequence[Job], clips: Sequence[int]) -> list[list[str]]:
        """What each mask answers to each clip, held to its task as in use."""
        rows = [TaskRow(clip, mask.gates, task=task) for mask, task in jobs for clip in clips]
        tokens = self.model.max_tokens_for(self.references)
        texts = [answer.text for answer in answer_task_rows(self.model, self.features, rows, max_new_tokens=tokens)]
        return [texts[at * len(clips) : (at + 1) * len(clips)] for at in range(len(jobs))]

    def pair(self, mask: HeadMask) -> PairedAnswers:
        """What a mask and the parts' own masks answer to all clips."""
        singles = [(self.part_masks[part.name], TaskSpec(parts=(part,))) for part in self.spec.parts]
        *parts, answers = map(tuple, self.answer([*singles, (mask, self.spec)], range(len(self.references))))
        return PairedAnswers(answers, dict(zip(self.spec.names, parts, strict=True)), self.references, self.speakers)

    def measure(self, candidate: Candidate) -> CandidateScore:
        """A candidate on all clips."""
        paired = self.pair(candidate.mask)
        own = score_part_masks(self.spec, paired.parts, self.references)
        return score_candidate(self.spec, candidate, paired.answers, own, self.references)


@dataclass(frozen=True)
class CompositeResult:
    """What a composition came to.

    Attributes:
        mask: with its task, and in its lineage the record of the search.
        result: its row of the table.
        confirmation: what came of the confirmation clips.
        how: "selected" from the candidates, or "trained" from the best of them.
        parts: the parts' own masks, as the expression calls them.
        results: the whole table, in the order in which it came.
    """

    mask: HeadMask
    result: CandidateScore
    confirmation: Confirmation
    how: Literal["selected", "trained"]
    parts: Mapping[str, HeadMask]
    results: tuple[CandidateScore, ...]


def composite_of(masks: Sequence[HeadMask], form: Form, keys: Sequence[str] = ()) -> TaskSpec:
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


def build_dev_evaluator(model: LALM, spec: TaskSpec, part_masks: Mapping[str, HeadMask], clips: Manifest) -> DevEvaluator:
    """Encode some clips that carry all labels."""
    references = tuple(spec.target(clip.labels) for clip in clips)
    speakers = tuple(clip.speaker for clip in clips)
    return DevEvaluator(model, spec, part_masks, encode_manifest(model, clips), references, speakers)


def confirm_mask(evaluator: Callable[[Manifest], DevEvaluator], mask: HeadMask, clips: Manifest, target: Target) -> Confirmation:
    """Whether a mask reaches a target, on as many of some clips as it takes to tell.

    Args:
        evaluator: makes an evaluator of some clips.
        mask: the composite's mask.
        clips: with all labels, that no choice was made on.
        target: what it must reach.
    """
    if not clips:
        return Confirmation(0, 0.0, (), 0, False, "the data have no clips to confirm it on")
    first = evaluator(replace(clips, clips=clips.clips[:FIRST_CLIPS]))
    paired = first.pair(mask)
    found = confirm(first.spec, paired, target)
    further = clips.clips[FIRST_CLIPS : found.clips_needed]
    return confirm(first.spec, paired + evaluator(replace(clips, clips=further)).pair(mask), target) if further else found


def compose_task(
    model: LALM,
    bank: MaskBank,
    expression: Expression,
    data: Manifest,
    options: SearchOptions | None = None,
    *,
    train: Train | None = None,
    events: Events | None = None,
) -> CompositeResult:
    """Find a mask for the composite of an expression's masks: the best candidate where it reaches the target, else train one.

    A mask that was trained for this very composite and is the best is taken, too: only `options.retrain` trains it further.

    Args:
        model: the model.
        bank: where the names are looked up.
        expression: names the parts, in the order of the answer; its set operation is a candidate.
        data: clips with labels; see `build_composite_data` where none carry all.
        options: form, target, clips, and so on.
        train: trains a mask; None takes the best candidate whatever it reaches.
        events: called as it goes on.

    Raises:
        BankError: a name is not in the bank.
        MaskError: the parts make no composite.
        DataError: the data have no clips for it.
    """
    options, events = options or SearchOptions(), events or Events()
    parts = look_up(expression, lambda name: bank.get(name, model))
    spec = composite_of(list(parts.values()), options.form, options.keys)
    part_masks = dict(zip(spec.names, parts.values(), strict=True))
    build = partial(build_composite_data, model, data, spec, part_masks, self_label=options.self_label)
    wanted = options.clips + options.confirmation_clips
    found = build(dev_clips=wanted, dev_only=True, on_progress=events.on_label_progress)
    events.on_data(found)
    chosen_on, confirmed_on = _split_dev(spec, found, options)
    evaluator = build_dev_evaluator(model, spec, part_masks, chosen_on)

    def confirmed(mask: HeadMask) -> Confirmation:
        return confirm_mask(partial(build_dev_evaluator, model, spec, part_masks), mask, confirmed_on, options.target)

    relatives = find_relatives(bank.list(), spec, next(iter(part_masks.values())))
    candidates = find_candidates(expression, parts, relatives)
    results = []
    for result in search(spec, candidates, part_masks, evaluator.references, evaluator.answer, budget=options.budget):
        results.append(result)
        events.on_result(result)
    best, how = best_result(results), "selected"
    confirmation = confirmed(best.candidate.mask)
    trained_before = any(is_trained_for(candidate.mask, spec) for candidate in candidates)
    if train is not None and (options.retrain or not (confirmation.reached or trained_before)):
        whole = (build(dev_clips=wanted) if found.self_labelled else found).manifest
        others = {clip.path for clip in confirmed_on}  # a training chooses its best step on dev clips, so not on these
        trained = train(spec, replace(whole, clips=tuple(c for c in whole if c.path not in others)), best.candidate.mask)
        results.append(evaluator.measure(Candidate(f"trained from {best.candidate.name}", trained)))
        events.on_result(results[-1])
        if options.retrain or rank([results[-1], best])[0] is results[-1]:
            best, how = results[-1], "trained"
            confirmation = confirmed(trained)
    events.on_confirmation(confirmation)
    record = {
        "how": how,
        "expression": to_text(expression),
        "target": asdict(options.target),
        "labels": dict(found.labels),
        "table": [result.row() for result in results],
        "confirmation": confirmation.row(),
        "reached": confirmation.reached,
    }
    mask = _with_record(best, spec, part_masks, record)
    return CompositeResult(mask, best, confirmation, how, parts, tuple(results))  # type: ignore[arg-type]


def _split_dev(spec: TaskSpec, data: CompositeData, options: SearchOptions) -> tuple[Manifest, Manifest]:
    """The dev clips that candidates are chosen on, and others that the choice is confirmed on; of few clips a half each."""
    dev = data.dev(options.clips + options.confirmation_clips)
    if not len(dev):
        raise DataError(f"no dev clip of the data has all labels of {spec.name}; give some with --data, or pass --self-label")
    for_search = min(options.clips, -(-len(dev) // 2)) if options.confirmation_clips else options.clips
    return replace(dev, clips=dev.clips[:for_search]), replace(dev, clips=dev.clips[for_search:])


def is_trained_for(mask: HeadMask, spec: TaskSpec) -> bool:
    """Whether a training made a mask for this very composite: another one like it would hardly end elsewhere."""
    return mask.task == spec and mask.lineage.get("operation") == "train"


def _with_record(best: CandidateScore, spec: TaskSpec, part_masks: Mapping[str, HeadMask], record: Mapping[str, Any]) -> HeadMask:
    """The winner's mask for the composite, with what was found out about it.

    A mask that already did this task keeps the dev score that it is compared by with others of its name.
    """
    mask = best.candidate.mask
    same = mask.task is not None and mask.task == spec
    row = best.row()
    measured = {"ifr": row["ifr"]} | {f"{p.part}.{p.metric}": round(p.value, 2) for p in best.part_scores}
    scores = (dict(mask.scores) if same else {"dev": row["exact"]}) | measured
    parents = [part.reference() for part in part_masks.values()]
    lineage = dict(mask.lineage) if same else {"operation": "composite", "from": mask.reference(), "parents": parents}
    own_row = {"candidate": row["candidate"], "clips": row["clips"], "parts": row["parts"]}
    return mask.with_(task=spec, lineage=lineage | {RECORD: own_row | {"masks": parents} | dict(record)}, scores=scores)
