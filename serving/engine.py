"""The batch engine: clips of any length in, answers out, one after the other in the order of the clips.

A clip that is longer than the model hears is cut at its pauses where that is asked for; its pieces are answered like clips
and their answers joined: text one after the other, labels by a vote. What cannot be read is an answer too, with its error.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32

from ..data.audio import LoadedAudio, Stream, load_audio
from ..data.segments import split_at_pauses
from ..data.tasks import Task, TaskSpec
from ..errors import AudioError
from ..lalm.answering import MAX_NEW_TOKENS, Answer, answers
from ..lalm.base import LALM
from ..lalm.batching import AudioFeatures
from ..lalm.constrained_decoding import Constraint, task_constraint
from ..lalm.likelihood import label_likelihoods
from ..lalm.parallel import answer_parts
from ..mask_bank.mask import HeadMask
from .plan import Plan, final_answer, run_plan

Long = Literal["refuse", "trim", "cut"]
"""What is done with a clip that is longer than the model hears."""


@dataclass(frozen=True)
class Order:
    """What is to be done: by a mask or several, by an instruction to the model, or by neither.

    Attributes:
        task: the task, where it is known; it says how the answers of a long clip's pieces are joined.
        mask: its mask.
        name: the mask's name in the bank, or the masks'.
        instruction: what the model is told; none with a mask.
        parts: each part's own mask, where a composite is done in parallel.
        plan: tasks one after the other, see `serving.plan`.
    """

    task: TaskSpec | None = None
    mask: HeadMask | None = None
    name: str = ""
    instruction: str | None = None
    parts: tuple[HeadMask, ...] = ()
    plan: Plan = ()

    @property
    def masks(self) -> tuple[HeadMask, ...]:
        """All masks that have a part in it."""
        return (*([self.mask] if self.mask is not None else []), *self.parts, *(step.mask for step in self.plan))

    @property
    def how(self) -> str:
        """`plan`, `parallel`, `one-pass`, `prompt`, or `unprompted`."""
        if self.plan:
            return "plan"
        if self.parts:
            return "parallel"
        return "one-pass" if self.mask is not None else "unprompted" if self.instruction is None else "prompt"


@dataclass(frozen=True)
class Limits:
    """How clips are answered.

    Attributes:
        batch: pieces at once.
        beams: 1 for greedy search.
        max_new_tokens: where an answer is cut.
        long: what is done with a clip that is longer than the model hears.
        form: what answers are held to; None for what the model says by itself.
        free: do not hold parts and steps to their labels and forms either.
    """

    batch: int = 16
    beams: int = 1
    max_new_tokens: int = MAX_NEW_TOKENS
    long: Long = "refuse"
    form: Constraint | None = None
    free: bool = False


@dataclass(frozen=True)
class Reply:
    """The answer for one clip.

    Attributes:
        path: the clip.
        text: the answer; empty where there is an error.
        duration: seconds of audio.
        pieces: how many pieces it was answered in.
        took: seconds that answering took, its share of the batch.
        confidence: of a label: its probability among the task's labels; None for open text.
        cut: whether an answer reached `max_new_tokens`.
        warnings: what is odd about the audio.
        error: why there is no answer.
        steps: of a plan, for each piece what each step said; None where it was not asked.
    """

    path: str
    text: str = ""
    duration: float = 0.0
    pieces: int = 0
    took: float = 0.0
    confidence: float | None = None
    cut: bool = False
    warnings: tuple[str, ...] = ()
    error: str = ""
    steps: tuple[tuple[str | None, ...], ...] = ()


@dataclass
class _Clip:
    """A clip on its way: what was heard of it, and the answers of its pieces as they come."""

    path: str
    heard: LoadedAudio | None = None
    pieces: list[Float32[np.ndarray, " _"]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    steps: list[tuple[str | None, ...]] = field(default_factory=list)
    chances: list[list[float]] = field(default_factory=list)
    took: float = 0.0
    cut: bool = False
    error: str = ""

    @property
    def done(self) -> bool:
        return bool(self.error) or len(self.texts) == len(self.pieces)


def answer_clips(
    model: LALM, clips: Iterable[Path | tuple[str, Stream]], order: Order, limits: Limits | None = None
) -> Iterator[Reply]:
    """Answer for clips, a batch at a time; memory does not grow with their number.

    Args:
        model: the model.
        clips: paths, or names with binary streams.
        order: what is to be done.
        limits: how.

    Raises:
        MaskError: a mask is for another model.
    """
    limits = limits or Limits()
    for mask in order.masks:
        mask.require(model)
    waiting: list[_Clip] = []
    for clip in clips:
        waiting.append(_read(model, clip, limits))
        if _open_pieces(waiting) >= limits.batch:
            yield from _answer(model, waiting, order, limits)
            waiting = []
    yield from _answer(model, waiting, order, limits)


def _read(model: LALM, source: Path | tuple[str, Stream], limits: Limits) -> _Clip:
    name, audio = source if isinstance(source, tuple) else (str(source), source)
    longest = None if limits.long == "cut" else model.longest
    try:
        heard = load_audio(audio, model.rate, longest=longest, trim=limits.long == "trim", channels=model.channels)
    except AudioError as error:
        return _Clip(name, error=str(error))
    pieces = [heard.wave]
    if model.longest is not None and heard.seconds > model.longest and limits.long == "cut":
        pieces = [segment.of(heard.wave, model.rate) for segment in split_at_pauses(heard.wave, model.rate, model.longest)]
    return _Clip(name, heard, pieces)


def _open_pieces(clips: Sequence[_Clip]) -> int:
    return sum(len(clip.pieces) for clip in clips if not clip.error)


def _answer(model: LALM, clips: Sequence[_Clip], order: Order, limits: Limits) -> Iterator[Reply]:
    """Answer all pieces of some clips in batches, then the clips one after the other."""
    todo = [(clip, piece) for clip in clips if not clip.error for piece in clip.pieces]
    for start in range(0, len(todo), limits.batch):
        _answer_batch(model, todo[start : start + limits.batch], order, limits)
    for clip in clips:
        yield _reply(clip, order)


def _answer_batch(model: LALM, batch: Sequence[tuple[_Clip, Float32[np.ndarray, " _"]]], order: Order, limits: Limits) -> None:
    started = time.perf_counter()
    features = model.encode([piece for _, piece in batch])
    found, steps = _said(model, features, order, limits)
    labels = _labels(order.task) if model.can_score and not order.plan else ()
    gates = order.mask.gates.to(model.device) if order.mask else None
    chances = label_likelihoods(model, features, labels, gates, _told(order, features)) if labels else torch.zeros(len(batch), 0)
    took = (time.perf_counter() - started) / len(batch)
    for at, ((clip, _), answer, row) in enumerate(zip(batch, found, chances.tolist(), strict=True)):
        if limits.form is not None and not limits.form.is_complete(answer.text):
            clip.error = (
                f"{clip.path}: its answer did not come to the end of its form; raise the number of new tokens, or ask for less"
            )
        clip.texts.append(answer.text)
        clip.steps += steps[at : at + 1]
        clip.chances.append(row)
        clip.cut |= answer.truncated
        clip.took += took


def _told(order: Order, features: AudioFeatures) -> list[str] | None:
    return [order.instruction] * len(features) if order.instruction is not None else None


def _said(
    model: LALM, features: AudioFeatures, order: Order, limits: Limits
) -> tuple[list[Answer], list[tuple[str | None, ...]]]:
    """The answers for some pieces, and what each step of a plan said, where there is one."""
    most, beams = limits.max_new_tokens, limits.beams
    if order.parts and order.task is not None:
        how = {"unconstrained": limits.free, "max_new_tokens": most, "beams": beams}
        return answer_parts(model, features, order.task, order.parts, **how), []
    if not order.plan:
        gates = order.mask.gates.to(model.device) if order.mask else None
        told = _told(order, features)
        return list(answers(model, [features], gates, told, max_new_tokens=most, beams=beams, constraint=limits.form)), []

    def say(rows: AudioFeatures, mask: HeadMask) -> list[Answer]:
        form = None if limits.free or mask.task is None else task_constraint(mask.task)
        return list(answers(model, [rows], mask.gates.to(model.device), max_new_tokens=most, beams=beams, constraint=form))

    said = run_plan(features, order.plan, say)
    texts = [tuple(answer.text if answer is not None else None for answer in row) for row in said]
    cuts = [any(answer.truncated for answer in row if answer is not None) for row in said]
    return [Answer(final_answer(row)[1], cut) for row, cut in zip(texts, cuts, strict=True)], texts


def _labels(task: TaskSpec | None) -> tuple[str, ...]:
    """The closed set that an answer is one of; none for open text and composites."""
    return task.parts[0].labels if task is not None and task.form == "plain" else ()


def _reply(clip: _Clip, order: Order) -> Reply:
    if clip.error or clip.heard is None:
        return Reply(clip.path, error=clip.error)
    task = None if order.plan else order.task
    seconds = [float(len(piece)) for piece in clip.pieces]
    text = join_steps(order.plan, clip.steps, seconds) if order.plan else join_answers(task, clip.texts, seconds)
    return Reply(
        clip.path,
        text,
        duration=round(clip.heard.seconds, 3),
        pieces=len(clip.pieces),
        took=round(clip.took, 4),
        confidence=_confidence(task, text, clip.chances, seconds),
        cut=clip.cut,
        warnings=clip.heard.warnings,
        steps=tuple(clip.steps),
    )


def _confidence(task: TaskSpec | None, text: str, chances: Sequence[Sequence[float]], seconds: Sequence[float]) -> float | None:
    """The label's probability, over pieces weighed by their length; None where the answer is no label of the task."""
    labels = [label.casefold() for label in _labels(task)]
    if text.casefold() not in labels:
        return None
    at = labels.index(text.casefold())
    return round(sum(row[at] * weight for row, weight in zip(chances, seconds, strict=True)) / sum(seconds), 4)


def join_answers(task: TaskSpec | None, texts: Sequence[str], weights: Sequence[float]) -> str:
    """One answer of the answers for a clip's pieces: text is joined, labels are voted for.

    Args:
        task: what was asked for; None joins as text.
        texts: the pieces' answers, in order.
        weights: how much each piece's label counts, such as its seconds.
    """
    if len(texts) == 1:
        return texts[0]
    if task is None:
        return " ".join(filter(None, texts))
    parts = [task.split(text) for text in texts]
    if task.form != "plain" and any(part is None for part in parts):
        return "\n".join(texts)  # an answer out of form belongs to no part
    kept = [part or {} for part in parts]
    joined = {part.name: _join_part(part, [row.get(part.name, "") for row in kept], weights) for part in task.parts}
    return task.target(joined) if task.form != "plain" else joined[task.names[0]]


def join_steps(plan: Plan, steps: Sequence[Sequence[str | None]], weights: Sequence[float]) -> str:
    """One answer of a plan's for a clip's pieces: of those that came further than the first step.

    Args:
        plan: the plan.
        steps: of each piece what each step said.
        weights: how much each piece counts.
    """
    ends = [(*final_answer(said), weight) for said, weight in zip(steps, weights, strict=True)]
    reached = [end for end in ends if end[0]]
    if not reached:
        return ""
    last = {at for at, _, _ in reached}
    task = plan[last.pop()].mask.task if len(last) == 1 else None
    return join_answers(task, [text for _, text, _ in reached], [weight for _, _, weight in reached])


def _join_part(part: Task, texts: Sequence[str], weights: Sequence[float]) -> str:
    if not part.labels:
        return " ".join(filter(None, texts))
    votes: dict[str, float] = {}
    for text, weight in zip(texts, weights, strict=True):
        votes[text] = votes.get(text, 0.0) + weight
    return max(votes, key=votes.__getitem__)
