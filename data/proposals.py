"""A task for labels that no task is defined for: proposed from the data, and said so."""

import difflib
import json
from collections import Counter
from collections.abc import Mapping

from ..errors import DataError
from .manifest import Manifest
from .tasks import Metric, Task

MAX_LABELS = 50
MAX_LABEL_CHARS = 40  # characters
MIN_REPEATS = 2  # times that a label of a closed set is there, on average


def propose_task(name: str, manifest: Manifest) -> Task:
    """A task for a label column: a closed set where few short values come again and again, else open text.

    Raises:
        DataError: the manifest has no such labels, or one value only; the message lists those that it has.
    """
    values = Counter(clip.labels[name] for clip in manifest if clip.labels.get(name))
    if not values:
        there = sorted({label for clip in manifest for label in clip.labels})
        near = difflib.get_close_matches(name, there, n=2)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise DataError(
            f"{name!r} is neither a task nor a label of the data; {hint}the data has {', '.join(there) or 'no labels'}"
        )
    title = name.replace("_", " ")
    about = {
        "name": name.lower(),
        "title": title,
        "column": name if name != name.lower() else "",
        "wordings": (
            f"what is the {title}",
            f"tell me the {title}",
            f"which {title} do you hear",
            f"recognize the {title}",
            title,
        ),
        "phrases": (f"the {title}",),
    }
    closed = len(values) <= MAX_LABELS and max(map(len, values)) <= MAX_LABEL_CHARS
    if closed and sum(values.values()) >= MIN_REPEATS * len(values):
        if len(values) == 1:
            raise DataError(f"all clips have the label {name} = {next(iter(values))!r}; a task needs two labels or more")
        return Task(metric="acc", labels=tuple(sorted(values)), **about)
    return Task(metric=_open_metric(values), **about)


def _open_metric(values: Mapping[str, int]) -> Metric:
    """Slots and other JSON are right as a whole or not; text without spaces counts characters, other text words."""
    if all(_is_table(value) for value in values):
        return "exact"
    return "wer" if any(" " in value for value in values) or all(value.isascii() for value in values) else "cer"


def _is_table(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def describe_proposal(task: Task) -> str:
    """One line that says what was taken for granted, and how to say otherwise."""
    answers = f"one of {', '.join(task.labels)}" if task.labels else "open text"
    return (
        f"{task.name!r} is taken from the data: answers are {answers}, scored by {task.metric}; "
        "to change that, or to add wordings, define it in a tasks.toml (docs/tasks.md)"
    )
