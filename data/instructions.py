"""Instruction wordings: what people say when they want a task done.

They are data (`instructions.toml`): some were used to train the pocket model, others are withheld for tests.
"""

import tomllib
from functools import cache
from importlib.resources import files
from itertools import product
from typing import Literal

from .tasks import TaskSpec

Part = Literal["train", "withheld"]


@cache
def _table() -> dict:
    return tomllib.loads(files(__package__).joinpath("instructions.toml").read_text(encoding="utf-8"))


def wordings(task: TaskSpec, part: Part = "train") -> list[str]:
    """All wordings of a task, in a fixed order.

    For a composite: each form of words with each combination of the parts' phrases, so that their number grows with
    the parts. Composites of three have one form of words only, and it is never trained.
    """
    table = _table()
    if task.form == "plain":
        return list(table[task.parts[0]][part])
    forms = table["composite"][task.form]
    templates = [forms["three"]] if len(task.parts) == 3 else forms[part]
    phrases = list(product(*(table[name]["phrases"] for name in task.parts)))
    return [template.format(*chosen) for template in templates for chosen in phrases]


def short_requests(task: str) -> list[str]:
    """A single task's phrases by themselves and as a plain request: for a classifier, never used to train a model."""
    frames = ("{}", "give {}", "tell me {}", "what is {}", "i want only {}")
    return [frame.format(phrase) for phrase in _table()[task]["phrases"] for frame in frames]


def out_of_scope(part: Part = "train") -> list[str]:
    """Requests that no task serves."""
    return list(_table()["out_of_scope"][part])
