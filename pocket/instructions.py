"""The wordings that the pocket model was trained with, and others that are withheld for tests (`instructions.toml`)."""

import tomllib
from functools import cache
from importlib.resources import files
from itertools import product
from typing import Literal

from ..data.tasks import TaskSpec

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
        return list(table[task.names[0]][part])
    forms = table["composite"][task.form]
    templates = [forms["three"]] if len(task.parts) == 3 else forms[part]
    phrases = list(product(*(table[name]["phrases"] for name in task.names)))
    return [template.format(*chosen) for template in templates for chosen in phrases]
