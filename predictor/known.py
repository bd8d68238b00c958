"""Instructions that need no guess, and no library for one: the wordings that amask has as data."""

import re
from collections.abc import Iterable

from ..data.tasks import TaskSpec
from ..data.wordings import wordings


def normalise(instruction: str) -> str:
    """Lower-case, without marks, single spaces."""
    return " ".join(re.sub(r"[^\w\s']", " ", instruction.lower()).split())


def known_task(instruction: str, tasks: Iterable[TaskSpec]) -> TaskSpec | None:
    """The one of `tasks` that has this very wording, politeness aside; none if no task has it, or several have."""

    def plain(text: str) -> str:
        return normalise(text).removeprefix("please ").removesuffix(" please")

    said = plain(instruction)
    having = [task for task in tasks if said in map(plain, wordings(task))]
    return having[0] if len(having) == 1 else None
