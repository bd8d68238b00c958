"""The batch engine: clips of any length in, results out, in the order of the clips.

Clips are read some batches at a time; their segments are encoded and answered with others of like length. What cannot be
read is a result too, with its error. Rows of different routes may share a batch (`answer_segments`): so a server mixes masks.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
from jaxtyping import Float32

from ..data.tasks import Task, TaskSpec, builtin_tasks
from ..errors import AudioError, InstructionError
from ..lalm.answering import MAX_NEW_TOKENS, Answer
from ..lalm.base import LALM
from ..lalm.batching import AudioFeatures
from ..lalm.constrained_decoding import Constraint, schema_constraint, task_constraint
from ..lalm.parallel import TaskRow, answer_task_rows, assemble
from ..lalm.text_follower import Listener, Listeners
from .build_result import build_result, failed_result
from .clips import LONG_CLIP_POLICIES, Clip, HeardClip, LongClipPolicy, clip_name, hear_clip, iterate_clips
from .plan import final_answer, step_runs
from .results import Result, SegmentAnswer
from .routing import ByMask, Parallel, Plan, Prompt, Route

WINDOW = 4  # batches of segments that are read ahead, to be sorted by length


@dataclass(frozen=True)
class RunOptions:
    """How clips are answered.

    Attributes:
        batch: segments at once.
        beams: 1 for greedy search.
        max_new_tokens: where an answer is truncated.
        long: what is done with a clip that is longer than the model hears.
        unconstrained: do not hold answers to the task's labels or form.
        schema: a JSON schema that answers are held to.
        prune: "auto" runs one mask on a model without the heads that are off, where its family allows it; "off" gates them.
    """

    batch: int = 16
    beams: int = 1
    max_new_tokens: int = MAX_NEW_TOKENS
    long: str = "refuse"
    unconstrained: bool = False
    schema: Mapping[str, Any] | None = None
    prune: str = "auto"

    def __post_init__(self) -> None:
        """Check that they go together."""
        if self.prune not in ("auto", "off"):
            raise InstructionError(f"prune {self.prune!r}: expected auto or off")
        if self.long not in LONG_CLIP_POLICIES:
            raise InstructionError(f"long {self.long!r}: expected one of {', '.join(LONG_CLIP_POLICIES)}")
        for name in ("batch", "beams", "max_new_tokens"):
            count = getattr(self, name)
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                raise InstructionError(f"{name} is {count!r}; expected a whole number, 1 or more")
        if self.schema is not None and self.long == "split":
            raise InstructionError("a schema holds one answer, and a clip that is split has several; choose long: trim or refuse")

    def require(self, route: Route) -> None:
        """Refuse a route that these options do not go with.

        Raises:
            InstructionError: a schema is for one answer, and the route gives several.
        """
        if self.schema is not None and isinstance(route, Parallel | Plan):
            raise InstructionError(
                f"a schema holds one answer, and {route.mode} gives several; choose mode one-pass, a mask or a prompt"
            )

    @cached_property
    def constraint(self) -> Constraint | None:
        """The schema's."""
        return None if self.schema is None else schema_constraint(dict(self.schema))


Encode = Callable[[Sequence[tuple[HeardClip, int]]], AudioFeatures]
"""(clip, number of its segment) … → their features."""


def _encode(model: LALM, segments: Sequence[tuple[HeardClip, int]]) -> AudioFeatures:
    return model.encode([clip.segments[at] for clip, at in segments])


@dataclass
class _Pending:
    """A clip on its way: what was heard of it, and the answers for its segments as they come."""

    name: str
    heard: HeardClip | None = None
    answers: dict[int, SegmentAnswer] = field(default_factory=dict)
    seconds: float = 0.0
    error: str = ""

    @property
    def segments(self) -> tuple[Float32[np.ndarray, " _"], ...]:
        return self.heard.segments if self.heard else ()


def answer_clips(
    model: LALM,
    clips: Iterable[Clip],
    route: Route,
    options: RunOptions | None = None,
    encode: Encode | None = None,
    known: Sequence[Task] | None = None,
) -> Iterator[Result]:
    """Answer for clips, some batches at a time; memory does not grow with their number.

    Args:
        model: the model.
        clips: see `serving.clips.Clip`.
        route: what is done.
        options: how.
        encode: encodes segments; the model by default, see `serving.features` for one that uses features on disk.
        known: all single tasks, whose voices are noticed; the built-in ones by default.

    Raises:
        MaskError: a mask is for another model.
        InstructionError: the options do not go with the route.
    """
    options, encode = options or RunOptions(), encode or partial(_encode, model)
    for mask in route.used_masks:
        mask.require(model)
    options.require(route)
    known = tuple(builtin_tasks().values()) if known is None else known
    waiting: list[_Pending] = []
    held = 0  # segments that wait for others to be answered with
    for number, clip in iterate_clips(clips):
        waiting.append(_read(model, clip, number, options))
        held += len(waiting[-1].segments)
        if not held or held >= options.batch * WINDOW:  # an error waits for nothing
            yield from _answer(model, waiting, route, options, encode, known)
            waiting, held = [], 0
    yield from _answer(model, waiting, route, options, encode, known)


def _read(model: LALM, clip: Clip, number: int, options: RunOptions) -> _Pending:
    try:
        heard = hear_clip(clip, number, model, cast(LongClipPolicy, options.long))
    except AudioError as error:
        return _Pending(clip_name(clip, number), error=str(error))
    return _Pending(heard.name, heard)


def _answer(
    model: LALM, clips: Sequence[_Pending], route: Route, options: RunOptions, encode: Encode, known: Sequence[Task]
) -> Iterator[Result]:
    """Answer all segments of some clips, those of like length together, then give the clips' results one after the other."""
    todo = [(clip, at) for clip in clips for at in range(len(clip.segments))]
    todo.sort(key=lambda each: len(each[0].segments[each[1]]), reverse=True)
    for start in range(0, len(todo), options.batch):
        batch = todo[start : start + options.batch]
        started = time.perf_counter()
        features = encode([(clip.heard, at) for clip, at in batch if clip.heard])
        answers = answer_segments(model, features, [route] * len(batch), [options] * len(batch))
        seconds = (time.perf_counter() - started) / len(batch)
        for (clip, at), answer in zip(batch, answers, strict=True):
            clip.answers[at] = answer
            clip.seconds += seconds
    for clip in clips:
        if clip.heard is None:
            yield failed_result(clip.name, clip.error, route)
        else:
            answers = [clip.answers[at] for at in range(len(clip.segments))]
            yield build_result(clip.heard, answers, route, rate=model.rate, known=known, seconds=clip.seconds)


def answer_segments(
    model: LALM, features: AudioFeatures, routes: Sequence[Route], options: Sequence[RunOptions], listeners: Listeners = None
) -> list[SegmentAnswer]:
    """Answer rows of features, each by its own route and options; what can share a batch does.

    Args:
        model: the model.
        features: encoded segments.
        routes: one a row.
        options: one a row.
        listeners: who is told a row's text while it is decoded, where the route asks for one answer; None for nobody.
    """
    answers: list[list[Answer | None]] = [[] for _ in routes]
    while True:
        due = [(at, row) for at in range(len(routes)) for row in _next_rows(at, routes[at], options[at], answers[at])]
        if not due:
            break
        wanted = [(at, _heard_by(row, routes[at], listeners[at] if listeners else None)) for at, row in due if row is not None]
        found = iter(_answer_rows(model, features, [row for _, row in wanted], [options[at] for at, _ in wanted]))
        for at, row in due:
            answers[at].append(None if row is None else next(found))
    return [_segment_answer(route, how, row) for route, how, row in zip(routes, options, answers, strict=True)]


def closed_set(route: Route, options: RunOptions) -> tuple[str, ...]:
    """The answers among which a segment's is chosen by likelihood, in one pass; none where anything of it is decoded."""
    if options.constraint is not None:
        return options.constraint.answers
    if not isinstance(route, ByMask) or route.task is None or options.unconstrained:
        return ()
    constraint = task_constraint(route.task)
    return constraint.answers if constraint else ()


def _heard_by(row: TaskRow, route: Route, listener: Listener | None) -> TaskRow:
    return replace(row, listener=listener) if listener and isinstance(route, ByMask | Prompt) else row


def _next_rows(at: int, route: Route, options: RunOptions, answers: Sequence[Answer | None]) -> list[TaskRow | None]:
    """The rows that a segment needs next, given its answers so far; None stands for a plan's step that is not asked."""
    if isinstance(route, Plan):
        if len(answers) == len(route.steps):
            return []
        step = route.steps[len(answers)]
        texts = [answer.text if answer is not None else None for answer in answers]
        task = None if options.unconstrained else step.mask.task
        return [TaskRow(at, step.mask.gates, task=task) if step_runs(step, texts, route.steps) else None]
    if answers:
        return []
    if isinstance(route, Prompt):
        return [TaskRow(at, prompt=route.text or None, constraint=options.constraint)]
    if isinstance(route, ByMask):
        task = None if options.unconstrained else route.task
        return [TaskRow(at, route.mask.gates, task=task, constraint=options.constraint)]
    specs = [None if options.unconstrained else TaskSpec(parts=(part,)) for part in route.task.parts]
    return [TaskRow(at, mask.gates, task=spec) for mask, spec in zip(route.masks, specs, strict=True)]


def _answer_rows(model: LALM, features: AudioFeatures, rows: Sequence[TaskRow], options: Sequence[RunOptions]) -> list[Answer]:
    """Answers of rows; those with the same limits together."""
    found: dict[int, Answer] = {}
    limits = [(each.max_new_tokens, each.beams, each.batch) for each in options]
    for limit in dict.fromkeys(limits):
        chosen = [at for at, each in enumerate(limits) if each == limit]
        some = [rows[at] for at in chosen]
        answers = answer_task_rows(model, features, some, max_new_tokens=limit[0], beams=limit[1], batch=limit[2])
        found.update(zip(chosen, answers, strict=True))
    return [found[at] for at in range(len(rows))]


def _segment_answer(route: Route, options: RunOptions, answers: Sequence[Answer | None]) -> SegmentAnswer:
    asked = [answer for answer in answers if answer is not None]
    truncated = any(answer.truncated for answer in asked)
    if isinstance(route, Plan):
        texts = tuple(answer.text if answer is not None else None for answer in answers)
        at, text = final_answer(texts)
        task, answer = route.steps[at].mask.task, answers[at]
        parts = (task.split(text) or {}) if task is not None and at else {}
        return SegmentAnswer(text, parts, _known(task, answer), truncated=truncated, steps=texts)
    if isinstance(route, Parallel):
        names = route.task.names
        parts = {name: answer.text for name, answer in zip(names, asked, strict=True)}
        sure = {name: answer.confidence for name, answer in zip(names, asked, strict=True) if answer.confidence is not None}
        return SegmentAnswer(assemble(route.task, parts), parts, sure, truncated)
    (answer,) = asked
    task = route.task if isinstance(route, ByMask) else None
    constraint = options.constraint or (task_constraint(task) if task is not None and not options.unconstrained else None)
    incomplete = constraint is not None and not constraint.is_complete(answer.text)
    parts = (task.split(answer.text) or {}) if task is not None else {}
    each = {task.name: answer.probabilities} if task is not None and task.form == "plain" and answer.probabilities else {}
    return SegmentAnswer(answer.text, parts, _known(task, answer), truncated, incomplete, probabilities=each)


def _known(task: TaskSpec | None, answer: Answer | None) -> Mapping[str, float]:
    """The confidence of a single task's answer, by its name."""
    if task is None or task.form != "plain" or answer is None or answer.confidence is None:
        return {}
    return {task.names[0]: answer.confidence}
