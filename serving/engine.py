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

from ..data.audio import Heard, Stream, examine_audio
from ..data.segments import cut_at_pauses
from ..data.tasks import Task, TaskSpec
from ..errors import AudioError
from ..lalm.answering import MAX_NEW_TOKENS, answers
from ..lalm.base import LALM
from ..lalm.forms import AnswerForm
from ..lalm.likelihood import label_likelihoods
from ..mask_bank.mask import HeadMask

Long = Literal["refuse", "trim", "cut"]
"""What is done with a clip that is longer than the model hears."""


@dataclass(frozen=True)
class Order:
    """What is to be done: by a mask, by an instruction to the model, or by neither.

    Attributes:
        task: the task, where it is known; it says how the answers of a long clip's pieces are joined.
        mask: its mask.
        name: the mask's name in the bank.
        instruction: what the model is told; none with a mask.
    """

    task: TaskSpec | None = None
    mask: HeadMask | None = None
    name: str = ""
    instruction: str | None = None


@dataclass(frozen=True)
class Limits:
    """How clips are answered.

    Attributes:
        batch: pieces at once.
        beams: 1 for greedy search.
        max_new_tokens: where an answer is cut.
        long: what is done with a clip that is longer than the model hears.
        form: what answers are held to; None for what the model says by itself.
    """

    batch: int = 16
    beams: int = 1
    max_new_tokens: int = MAX_NEW_TOKENS
    long: Long = "refuse"
    form: AnswerForm | None = None


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


@dataclass
class _Clip:
    """A clip on its way: what was heard of it, and the answers of its pieces as they come."""

    path: str
    heard: Heard | None = None
    pieces: list[Float32[np.ndarray, " _"]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
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
        MaskError: the mask is for another model.
    """
    limits = limits or Limits()
    if order.mask is not None:
        order.mask.require(model, order.name)
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
        heard = examine_audio(audio, model.rate, longest=longest, trim=limits.long == "trim", channels=model.channels)
    except AudioError as error:
        return _Clip(name, error=str(error))
    pieces = [heard.wave]
    if model.longest is not None and heard.seconds > model.longest and limits.long == "cut":
        pieces = [segment.of(heard.wave, model.rate) for segment in cut_at_pauses(heard.wave, model.rate, model.longest)]
    return _Clip(name, heard, pieces)


def _open_pieces(clips: Sequence[_Clip]) -> int:
    return sum(len(clip.pieces) for clip in clips if not clip.error)


def _answer(model: LALM, clips: Sequence[_Clip], order: Order, limits: Limits) -> Iterator[Reply]:
    """Answer all pieces of some clips in batches, then the clips one after the other."""
    todo = [(clip, piece) for clip in clips if not clip.error for piece in clip.pieces]
    for start in range(0, len(todo), limits.batch):
        _answer_batch(model, todo[start : start + limits.batch], order, limits)
    for clip in clips:
        yield _reply(clip, order.task)


def _answer_batch(model: LALM, batch: Sequence[tuple[_Clip, Float32[np.ndarray, " _"]]], order: Order, limits: Limits) -> None:
    started = time.perf_counter()
    features = model.encode([piece for _, piece in batch])
    gates = order.mask.gates.to(model.device) if order.mask else None
    said = [order.instruction] * len(batch) if order.instruction is not None else None
    how = {"max_new_tokens": limits.max_new_tokens, "beams": limits.beams, "form": limits.form}
    found = list(answers(model, [features], gates, said, **how))
    labels = _labels(order.task)
    chances = label_likelihoods(model, features, labels, gates, said) if labels else torch.zeros(len(batch), 0)
    took = (time.perf_counter() - started) / len(batch)
    for (clip, _), answer, row in zip(batch, found, chances.tolist(), strict=True):
        clip.texts.append(answer.text)
        clip.chances.append(row)
        clip.cut |= answer.cut
        clip.took += took


def _labels(task: TaskSpec | None) -> tuple[str, ...]:
    """The closed set that an answer is one of; none for open text and composites."""
    return task.parts[0].labels if task is not None and task.form == "plain" else ()


def _reply(clip: _Clip, task: TaskSpec | None) -> Reply:
    if clip.error or clip.heard is None:
        return Reply(clip.path, error=clip.error)
    seconds = [float(len(piece)) for piece in clip.pieces]
    text = join_answers(task, clip.texts, seconds)
    return Reply(
        clip.path,
        text,
        duration=round(clip.heard.seconds, 3),
        pieces=len(clip.pieces),
        took=round(clip.took, 4),
        confidence=_confidence(task, text, clip.chances, seconds),
        cut=clip.cut,
        warnings=clip.heard.warnings,
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


def _join_part(part: Task, texts: Sequence[str], weights: Sequence[float]) -> str:
    if not part.labels:
        return " ".join(filter(None, texts))
    votes: dict[str, float] = {}
    for text, weight in zip(texts, weights, strict=True):
        votes[text] = votes.get(text, 0.0) + weight
    return max(votes, key=votes.__getitem__)
