"""`Result`: the answer for one clip, and how the answers for the segments of a long clip become one."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..data.answer_format import AnswerFormat
from ..data.tasks import Task, TaskSpec
from ..lalm.parallel import assemble


@dataclass(frozen=True)
class Result:
    """The answer for one clip; plain data, which pickles.

    Attributes:
        path: the clip: its file, or what else it is called.
        text: the answer, in the form that was asked for; empty where there is an error.
        parts: of each task its answer, where the answer could be taken apart.
        task: the task's name, or the names of a plan's tasks with THEN between; empty where there is none.
        mode: `one-pass`, `parallel`, `plan`, `prompt` or `unprompted`.
        mask: the mask's name, or the masks' with + between; empty for none.
        heads_on: of the mask, where there is one.
        instruction: what was asked in words.
        prompt: what the model was told; None with a mask.
        confidence: of a label its probability among the task's labels; of several parts the least; None where nothing is known.
        warnings: what is odd about the audio or the answer.
        error: why there is no answer.
        duration: seconds of audio.
        segments: how many the clip was answered in.
        seconds: that answering took, its share of the batch.
        truncated: whether an answer reached the token limit.
        steps: of a plan, for each segment each step's task and answer; None where it was not asked.
        format: the form that was asked for beyond the task's own, if any.
    """

    path: str
    text: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)
    task: str = ""
    mode: str = ""
    mask: str = ""
    heads_on: int | None = None
    instruction: str | None = None
    prompt: str | None = None
    confidence: float | None = None
    warnings: tuple[str, ...] = ()
    error: str = ""
    duration: float = 0.0
    segments: int = 0
    seconds: float = 0.0
    truncated: bool = False
    steps: tuple[tuple[tuple[str, str | None], ...], ...] = ()
    format: AnswerFormat | None = None

    def __str__(self) -> str:
        """The answer's text."""
        return self.text

    def as_row(self) -> dict[str, Any]:
        """The result as a row of JSON; what there is none of is null."""
        row = asdict(self) | {"task": self.task or None, "mask": self.mask or None, "warnings": list(self.warnings)}
        row["format"] = self.format.as_dict() if self.format else None
        steps = [[{"task": task, "text": text} for task, text in segment] for segment in row.pop("steps")]
        del row["error"]
        return row | ({"steps": steps} if self.mode == "plan" else {})


@dataclass(frozen=True)
class SegmentAnswer:
    """The answer for one segment of a clip.

    Attributes:
        text: what was said, in the task's form.
        parts: of each task its answer; empty where what was said does not follow the form.
        confidences: of each task how sure the model is of its answer, where that is known.
        truncated: whether an answer reached the token limit.
        incomplete: whether an answer did not come to the end of its form.
        steps: of a plan, what each step said; None where it was not asked.
        probabilities: of each task with labels that was answered by itself, how probable each label is.
        positions: of the segment's audio in the model, where they were counted.
    """

    text: str
    parts: Mapping[str, str] = field(default_factory=dict)
    confidences: Mapping[str, float] = field(default_factory=dict)
    truncated: bool = False
    incomplete: bool = False
    steps: tuple[str | None, ...] = ()
    probabilities: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    positions: int = 0


def join_parts(tasks: Sequence[Task], answers: Sequence[SegmentAnswer], weights: Sequence[float]) -> dict[str, str]:
    """One answer for each task of the segments' answers: text is joined, labels are voted for.

    Args:
        tasks: the tasks.
        answers: the segments', in order.
        weights: how much each segment's label counts, such as its seconds.
    """
    return {task.name: _join_part(task, answers, weights) for task in tasks}


def _join_part(task: Task, answers: Sequence[SegmentAnswer], weights: Sequence[float]) -> str:
    texts = [answer.parts.get(task.name, "") for answer in answers]
    if not task.labels:
        return " ".join(filter(None, texts))
    votes: dict[str, float] = {}
    for text, weight in zip(texts, weights, strict=True):
        votes[text] = votes.get(text, 0.0) + weight
    return max(votes, key=votes.__getitem__)


def join_answers(task: TaskSpec | None, answers: Sequence[SegmentAnswer], weights: Sequence[float]) -> tuple[str, dict[str, str]]:
    """One answer of the answers for a clip's segments, and its parts.

    Args:
        task: what was asked for; None joins as text.
        answers: the segments' answers, in order.
        weights: how much each segment's label counts.
    """
    if task is None:
        return " ".join(answer.text for answer in answers if answer.text), {}
    if not all(set(task.names) <= set(answer.parts) for answer in answers):
        return "\n".join(answer.text for answer in answers), {}  # an answer out of form belongs to no part
    parts = join_parts(task.parts, answers, weights)
    return answers[0].text if len(answers) == 1 else assemble(task, parts), parts


def shape_answer(text: str, parts: Mapping[str, str], answer_format: AnswerFormat | None) -> str:
    """An answer in the form that was asked for.

    Args:
        text: the answer in its task's own form.
        parts: of each task its answer; empty where it cannot be taken apart, and then the text is one part.
        answer_format: the form; None leaves the text as it is.

    Raises:
        DataError: the form is for another number of parts.
    """
    return answer_format.shape(parts or {"text": text}) if answer_format else text


def join_confidence(
    tasks: Sequence[Task], parts: Mapping[str, str], answers: Sequence[SegmentAnswer], weights: Sequence[float]
) -> float | None:
    """How sure the model is of the least sure part, over segments weighed by their length; None where that is not known of one.

    Args:
        tasks: the tasks.
        parts: the answer for the whole clip.
        answers: the segments'; one that gives another label than the whole counts nothing.
        weights: their length.
    """
    found = []
    for task in tasks:
        if task.name not in parts or any(task.name not in answer.confidences for answer in answers):
            return None
        agrees = [not task.labels or answer.parts[task.name] == parts[task.name] for answer in answers]
        sure = sum(
            answer.confidences[task.name] * weight * same for answer, weight, same in zip(answers, weights, agrees, strict=True)
        )
        found.append(sure / sum(weights))
    return round(min(found), 4) if found else None
