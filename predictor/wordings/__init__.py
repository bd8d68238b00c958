"""What people say: requests for each task, for several tasks at once, and for what no task does.

All were written by hand, in the TOML files beside this module. What is held out is for tests only: nothing is ever
trained on it.
"""

import string
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated

import pydantic
from pydantic.dataclasses import dataclass

from ...data.tasks import Form, TaskSpec, builtin_tasks
from ...errors import DataError

Text = Annotated[str, pydantic.StringConstraints(pattern=r"^\S(.*\S)?$")]
Texts = tuple[Text, ...]
PLACES = {"pipe2": 2, "pipe3": 3, "json2": 2, "json3": 3, "single_with_exclusion": 2}
_STRICT = pydantic.ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class TaskWordings:
    """Requests for one task.

    Attributes:
        train: whole requests.
        held_out: whole requests that are never trained on.
        phrases: what the task gives ("the gender"), to be put into templates.
        phrases_held_out: phrases that are never trained on.
        phrases_de: phrases for German templates, in the accusative.
        imperatives: what the task does, as one asks for it ("tell me the gender"), to be put together with others.
        imperatives_de: the same in German.
    """

    train: Texts
    held_out: Texts
    phrases: Texts
    phrases_held_out: Texts
    phrases_de: Texts
    imperatives: Texts
    imperatives_de: Texts


@dataclass(frozen=True, config=_STRICT)
class Templates:
    """Requests over phrases; `{0}` is the answer's first part wherever the text mentions it, `{1}` the second.

    Attributes:
        train: templates for `TaskWordings.phrases`.
        held_out: templates that are never trained on.
        train_de: templates for `TaskWordings.phrases_de`.
        held_out_de: German ones that are never trained on.
    """

    train: Texts
    held_out: Texts
    train_de: Texts
    held_out_de: Texts


@dataclass(frozen=True, config=_STRICT)
class Request:
    """A whole request for several tasks.

    Attributes:
        text: the request.
        parts: names of tasks, in the order of the answer.
        form: "pipe" or "json".
        keys: what the user calls the parts of the JSON, in the same order; empty for the tasks' names.
    """

    text: Text
    parts: tuple[str, ...]
    form: Form
    keys: Texts = ()

    @pydantic.model_validator(mode="after")
    def _check(self) -> "Request":
        unknown = [part for part in self.parts if part not in builtin_tasks()]
        if unknown:
            raise ValueError(f"{self.text!r} has unknown parts: {', '.join(unknown)}")
        _ = self.spec
        return self

    @property
    def spec(self) -> TaskSpec:
        """What is asked for."""
        return TaskSpec(parts=tuple(builtin_tasks()[part] for part in self.parts), form=self.form, keys=self.keys)


@dataclass(frozen=True, config=_STRICT)
class Requests:
    """Whole requests for several tasks, with their intents."""

    train: tuple[Request, ...]
    held_out: tuple[Request, ...]


@dataclass(frozen=True, config=_STRICT)
class Composites:
    """Requests for several tasks in one answer, and for one task to the exclusion of another.

    Attributes:
        pipe2: templates for two parts joined by a bar; also where no form is named.
        pipe3: the same for three parts.
        json2: templates for JSON of two parts.
        json3: the same for three parts.
        single_with_exclusion: templates that ask for `{0}` alone and name `{1}` as unwanted.
        requests: whole requests.
    """

    pipe2: Templates
    pipe3: Templates
    json2: Templates
    json3: Templates
    single_with_exclusion: Templates
    requests: Requests

    @pydantic.model_validator(mode="after")
    def _check(self) -> "Composites":
        for kind, count in PLACES.items():
            templates: Templates = getattr(self, kind)
            for text in (*templates.train, *templates.held_out, *templates.train_de, *templates.held_out_de):
                found = sorted(field for _, field, _, _ in string.Formatter().parse(text) if field is not None)
                if found != [str(place) for place in range(count)]:
                    raise ValueError(f"{kind}: {text!r} must have each of {count} places once")
        return self


@dataclass(frozen=True, config=_STRICT)
class Unsupported:
    """Requests that no task serves.

    Attributes:
        far: requests that have nothing to do with speech and sound.
        far_held_out: such requests that are never trained on.
        near: requests that share words with a task, forbid one, or ask for a task and for more than any task gives.
        near_held_out: such requests that are never trained on.
    """

    far: Texts
    far_held_out: Texts
    near: Texts
    near_held_out: Texts


@dataclass(frozen=True, config=_STRICT)
class Wordings:
    """All requests.

    Attributes:
        tasks: a task's name → requests for it.
        composites: requests for several tasks.
        unsupported: requests that no task serves.
    """

    tasks: Mapping[str, TaskWordings]
    composites: Composites
    unsupported: Unsupported


@cache
def read_wordings() -> Wordings:
    """All requests that ship with amask; treat them as read-only.

    Raises:
        DataError: a file is not what it should be; the message names file and field.
    """
    tables = {"tasks": {name: _table(name) for name in builtin_tasks()}}
    tables |= {name: _table(name) for name in ("composites", "unsupported")}
    try:
        return pydantic.TypeAdapter(Wordings).validate_python(tables)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"amask's wordings, {where}: {first['msg'].removeprefix('Value error, ')}; fix the TOML file") from None


def _table(name: str) -> dict:
    try:
        return tomllib.loads(files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"amask's wordings, {name}.toml cannot be read: {error}; reinstall amask") from None
