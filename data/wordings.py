"""Instruction wordings: what people say when they want a task done. Prompts are measured with them."""

import tomllib
from functools import cache
from importlib.resources import files

from .tasks import TaskSpec


@cache
def _templates() -> dict[str, list[str]]:
    return tomllib.loads(files(__package__).joinpath("composites.toml").read_text(encoding="utf-8"))


def wordings(spec: TaskSpec) -> list[str]:
    """All wordings of a task, in a fixed order, each once; none for a task that was given none.

    For a composite every template goes with the parts' phrases, turn by turn; parts without phrases are called by their
    titles, or else their names.
    """
    if spec.form == "plain":
        return list(dict.fromkeys(spec.parts[0].wordings))
    called = [part.phrases or (part.title or part.name,) for part in spec.parts]
    found = []
    for turn in range(max(map(len, called))):
        phrases = [each[(turn + at) % len(each)] for at, each in enumerate(called)]
        listed = f"{', '.join(phrases[:-1])} and {phrases[-1]}"
        found += [text.format(list=listed, then=", then ".join(phrases)) for text in _templates()[spec.form]]
    return list(dict.fromkeys(found))
