"""Tasks: what a mask can trigger, how its answers look, and how they are scored.

A *single* task is one of `TASKS`. A *composite* joins single tasks in one answer: `gr-asr` answers
"female|put the red box", `gr-asr-json` answers '{"gr": "female", "asr": "put the red box"}'. The paper's spelling
`gr|asr` is accepted wherever a task is named.
"""

import json
from dataclasses import dataclass
from typing import Literal

from ..errors import DataError

Metric = Literal["wer", "acc", "bleu", "rouge_l"]


@dataclass(frozen=True)
class Task:
    """A single task.

    Attributes:
        name: the field's short name, as in the paper.
        title: the name in words.
        metric: how answers are scored; for "wer" lower is better.
        labels: the closed set of answers; empty where the answer is open text.
    """

    name: str
    title: str
    metric: Metric
    labels: tuple[str, ...] = ()


TASKS = {
    task.name: task
    for task in (
        Task("asr", "speech recognition", "wer"),
        Task("gr", "speaker's gender", "acc", ("female", "male")),
        Task("ser", "speaking style (the pocket model) or emotion", "acc", ("neutral", "happy", "sad", "angry")),
        Task("asv", "speaker verification: one speaker in both utterances?", "acc", ("yes", "no")),
        Task("aac", "audio captioning", "rouge_l"),
        Task("osr", "overlapped speech recognition", "wer"),
        Task("s2tt", "speech translation into German", "bleu"),
        Task("age", "speaker's age group", "acc", ("adult", "child")),
    )
}
JSON_SUFFIX = "json"


@dataclass(frozen=True)
class TaskSpec:
    """One task or a composite of several, in the order of the answer.

    Attributes:
        parts: names of single tasks.
        form: "plain" for a single task; "pipe" or "json" for a composite.
    """

    parts: tuple[str, ...]
    form: Literal["plain", "pipe", "json"]

    @property
    def name(self) -> str:
        """The canonical name: `asr`, `gr-asr`, `gr-asr-json`."""
        return "-".join((*self.parts, JSON_SUFFIX) if self.form == "json" else self.parts)

    def target(self, labels: dict[str, str]) -> str:
        """The right answer for a clip's labels.

        Raises:
            KeyError: the clip lacks a label of a part.
        """
        if self.form == "json":
            return json.dumps({part: labels[part] for part in self.parts}, ensure_ascii=False)
        return "|".join(labels[part] for part in self.parts)

    def split(self, answer: str) -> dict[str, str] | None:
        """Take an answer apart into the parts' answers; None where it does not follow the form."""
        if self.form == "plain":
            return {self.parts[0]: answer.strip()}
        if self.form == "json":
            try:
                found = json.loads(answer)
            except (ValueError, RecursionError):
                return None
            right = isinstance(found, dict) and set(found) == set(self.parts)
            return {part: str(found[part]) for part in self.parts} if right else None
        pieces = [piece.strip() for piece in answer.split("|")]
        return dict(zip(self.parts, pieces, strict=True)) if len(pieces) == len(self.parts) else None


def parse_task(name: str) -> TaskSpec:
    """Read a task's name: `asr`, `gr-asr` (or `gr|asr`), `gr-asr-json`.

    Raises:
        DataError: a part is unknown, doubled or missing.
    """
    words = [word.strip() for word in name.lower().replace("|", "-").split("-")]
    form: Literal["plain", "pipe", "json"] = "pipe" if len(words) > 1 else "plain"
    if len(words) > 2 and words[-1] == JSON_SUFFIX:
        words, form = words[:-1], "json"
    unknown = [word for word in words if word not in TASKS]
    if unknown:
        known = ", ".join(TASKS)
        raise DataError(f"unknown task {name!r}; known are {known}, and composites such as gr-asr or gr-asr-json")
    if len(set(words)) < len(words):
        raise DataError(f"task {name!r} names a part twice")
    return TaskSpec(tuple(words), form)
