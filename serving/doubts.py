"""What makes an answer doubtful: an unlikely label, an answer in another task's voice, a segment without any."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float32

from ..data.silence import is_silent
from ..data.tasks import BAR, Task
from .results import SegmentAnswer

UNSURE_LABEL = 0.6  # probability among a task's labels below which a label is doubtful
UNSURE_TEXT = 0.5  # mean probability of its tokens below which open text is


def doubts(tasks: Sequence[Task], parts: Mapping[str, str], confidence: float | None, known: Iterable[Task]) -> Iterator[str]:
    """Sentences on why an answer may be wrong.

    Args:
        tasks: what was asked for.
        parts: of each task its answer.
        confidence: how sure the model is of the least sure part.
        known: all single tasks that there are.
    """
    known = tuple(known)
    for task in tasks:
        if task.name in parts and not task.labels:
            yield from _other_voice(task, parts[task.name], known)
    limit = UNSURE_LABEL if any(task.labels for task in tasks) else UNSURE_TEXT
    if confidence is not None and confidence < limit:
        yield f"unsure: the answer has a confidence of {confidence:.0%}"


def _other_voice(task: Task, text: str, known: Sequence[Task]) -> Iterator[str]:
    """Whether open text is a label of another task, or in a composite's form."""
    plain = text.strip().casefold().rstrip(".")
    for other in known:
        if other.name != task.name and plain in {label.casefold() for label in other.labels}:
            yield f"{text!r} is an answer of {other.name}, not of {task.name}; the mask may do another task here"
            return
    labels = {label.casefold() for other in known for label in other.labels}
    if _is_json(text) or (BAR in text and text.partition(BAR)[0].strip().casefold() in labels):
        yield f"the answer has the form of several tasks; the mask of {task.name} may do another task here"


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def silent_segments(
    tasks: Sequence[Task], answers: Sequence[SegmentAnswer], segments: Sequence[Float32[np.ndarray, " _"]], rate: int
) -> Iterator[str]:
    """Sentences on segments of a long clip that have sound and no words in the answer.

    Args:
        tasks: what was asked for; none where that is not known.
        answers: of the segments.
        segments: their samples.
        rate: Hz.
    """
    if len(answers) < 2 or (tasks and all(task.labels for task in tasks)):
        return
    end = 0.0
    for answer, segment in zip(answers, segments, strict=True):
        start, end = end, end + len(segment) / rate
        texts = [answer.parts.get(task.name, "") for task in tasks if not task.labels] or [answer.text]
        if not all(text.strip() for text in texts) and not is_silent(segment, rate):
            yield f"nothing is answered for {start:.1f} to {end:.1f} s, where there is sound"
