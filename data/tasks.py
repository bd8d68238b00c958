"""Tasks are data: what a mask can trigger, how its answers look, how they are scored, and what people say for it.

A *single* task is a table of a TOML file: `tasks.toml` beside this module has the paper's tasks, users have files of their
own. A *composite* joins single tasks in one answer: `gr-asr` answers "female|put the red box", `gr-asr-json` answers
'{"gr": "female", "asr": "put the red box"}'. The paper's spelling `gr|asr` is accepted wherever a task is named.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import pydantic

from ..errors import DataError

Metric = Literal["wer", "cer", "acc", "eer", "bleu", "chrf", "rouge_l", "meteor", "exact"]
Form = Literal["plain", "pipe", "json"]
JSON_SUFFIX = "json"
BAR = "|"
TASKS_FILE = "tasks.toml"
_NAME = re.compile(r"[a-z0-9_]{1,40}")

Words = Annotated[str, pydantic.StringConstraints(strip_whitespace=True, min_length=1)]


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name) or name == JSON_SUFFIX:
        raise ValueError(f"a task's name is of small letters, digits and _, and not '{JSON_SUFFIX}'; got {name!r}")
    return name


class Task(pydantic.BaseModel):
    """A single task.

    Attributes:
        name: the field's short name, as in the paper.
        title: the name in words.
        metric: how answers are scored, see `metrics`.
        labels: the closed set of answers; empty where the answer is open text.
        wordings: instructions that ask for it, for prompts and to find the task that an instruction means.
        phrases: what it is called within a composite's instruction: "the gender".
        column: what a manifest's column of its labels is called; empty for the task's name.
        kind: the kind of clips that measures it, in manifests where every clip has a kind (`Clip.kind`).
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, pydantic.AfterValidator(_check_name)]
    title: str = ""
    metric: Metric
    labels: tuple[Words, ...] = ()
    wordings: tuple[Words, ...] = ()
    phrases: tuple[Words, ...] = ()
    column: str = ""
    kind: str = "speech"

    @pydantic.model_validator(mode="after")
    def _check_labels(self) -> "Task":
        if (self.metric in ("acc", "eer")) != bool(self.labels):
            raise ValueError(f"metric {self.metric!r} goes {'with labels' if not self.labels else 'without labels'}")
        if len({label.casefold() for label in self.labels}) < len(self.labels) or len(self.labels) == 1:
            raise ValueError("labels must be two or more, all different")
        return self


class TaskSpec(pydantic.BaseModel):
    """One task or a composite of several, in the order of the answer.

    Attributes:
        parts: single tasks.
        form: "plain" for a single task; "pipe" or "json" for a composite.
        keys: what JSON answers call the parts; empty for the tasks' names.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    parts: tuple[Task, ...] = pydantic.Field(min_length=1)
    form: Form = "plain"
    keys: tuple[Words, ...] = ()

    @pydantic.model_validator(mode="after")
    def _check(self) -> "TaskSpec":
        if (len(self.parts) == 1) != (self.form == "plain"):
            raise ValueError(f"{len(self.parts)} parts do not go with the form {self.form!r}")
        if len(set(self.names)) < len(self.parts):
            raise ValueError(f"task {self.name!r} names a part twice")
        if self.keys and (self.form != "json" or len(set(self.keys)) != len(self.parts)):
            raise ValueError(f"keys {', '.join(self.keys)} must be as many as the parts of a JSON answer, all different")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The parts' names, in order."""
        return tuple(part.name for part in self.parts)

    @property
    def name(self) -> str:
        """The canonical name: `asr`, `gr-asr`, `gr-asr-json`."""
        return "-".join((*self.names, JSON_SUFFIX) if self.form == "json" else self.names)

    @property
    def json_keys(self) -> tuple[str, ...]:
        """What a JSON answer calls the parts, in order."""
        return self.keys or self.names

    @property
    def labels(self) -> tuple[str, ...]:
        """The closed set of answers of a single task; empty for open text and for composites."""
        return self.parts[0].labels if self.form == "plain" else ()

    def target(self, labels: Mapping[str, str]) -> str:
        """The right answer for a clip's labels, by task name.

        Raises:
            KeyError: the clip lacks a label of a part.
            DataError: a label holds the bar that separates the parts of a pipe.
        """
        values = [labels[name] for name in self.names]
        if self.form == "json":
            return json.dumps(dict(zip(self.json_keys, values, strict=True)), ensure_ascii=False)
        barred = [value for value in values if BAR in value] if self.form == "pipe" else []
        if barred:
            raise DataError(f"{barred[0]!r} cannot be part of {self.name}: it holds the bar between parts; use the JSON form")
        return BAR.join(values)

    def split(self, answer: str) -> dict[str, str] | None:
        """Take an answer apart: part's name → its answer; None where it does not follow the form.

        A JSON answer follows it with exactly the right keys, and text as each value.
        """
        if self.form == "plain":
            return {self.names[0]: answer.strip()}
        if self.form == "json":
            try:
                found = json.loads(answer)
            except (ValueError, RecursionError):
                return None
            right = isinstance(found, dict) and set(found) == set(self.json_keys)
            if not right or not all(isinstance(value, str) for value in found.values()):
                return None
            return {name: found[key].strip() for name, key in zip(self.names, self.json_keys, strict=True)}
        pieces = [piece.strip() for piece in answer.split(BAR)]
        return dict(zip(self.names, pieces, strict=True)) if len(pieces) == len(self.parts) else None


def _from_toml(text: str, where: str) -> dict[str, Task]:
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{where} is not TOML: {error}") from None
    found = {}
    for name, table in tables.items():
        about: Any = {"name": name} | table if isinstance(table, dict) else {}
        try:
            found[name] = Task.model_validate(about)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "table"
            raise DataError(f"{where}, task {name!r}: {field}: {first['msg'].removeprefix('Value error, ')}") from None
    return found


@cache
def builtin_tasks() -> Mapping[str, Task]:
    """The paper's tasks, by name; every model family knows what they mean, though not every model can do them."""
    text = files(__package__).joinpath(TASKS_FILE).read_text(encoding="utf-8")
    return MappingProxyType(_from_toml(text, f"amask's {TASKS_FILE}"))


def read_tasks(path: Path) -> dict[str, Task]:
    """The tasks of a user's TOML file, by name; a table a task, its fields those of `Task`.

    Raises:
        DataError: the file cannot be read, or a task is not what it should be; the message names task and field.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read tasks {path}: {getattr(error, 'strerror', None) or error}") from None
    return _from_toml(text, str(path))


def collect_tasks(*folders: Path | None, file: Path | None = None) -> dict[str, Task]:
    """All tasks that are known: the built-in ones, then those of folders, then those of a file; the last of a name counts.

    Args:
        folders: where a `tasks.toml` may lie; None and folders without one add nothing.
        file: a TOML file of any name, which must be there.

    Raises:
        DataError: a file cannot be read, or a task in it is not what it should be.
    """
    known = dict(builtin_tasks())
    for folder in filter(None, folders):
        if (folder / TASKS_FILE).is_file():
            known |= read_tasks(folder / TASKS_FILE)
    return known if file is None else known | read_tasks(file)


def _tells(task: Task, word: str) -> bool:
    """Whether a word is one of what a task is called in words, such as "gender" for `gr`."""
    words = re.findall(r"[^\W_]+", " ".join((task.title, *task.phrases)).casefold())
    return len(word) > 3 and (word in words or bool(difflib.get_close_matches(word, words, n=1, cutoff=0.8)))


def parse_task(name: str, known: Mapping[str, Task] | None = None, keys: Iterable[str] = ()) -> TaskSpec:
    """Read a task's name: `asr`, `gr-asr` (or `gr|asr`), `gr-asr-json`.

    Args:
        name: the name.
        known: the single tasks that there are, by name; the built-in ones by default.
        keys: what a JSON answer calls the parts, in order.

    Raises:
        DataError: a part is unknown, doubled or missing; the message lists near names.

    Example:
        >>> spec = amask.parse_task("gr|asr")
        >>> spec.name, spec.target({"gr": "female", "asr": "put the red box"})
        ('gr-asr', 'female|put the red box')
    """
    known = builtin_tasks() if known is None else known
    words = [word.strip() for word in name.lower().replace(BAR, "-").split("-")]
    form: Form = "pipe" if len(words) > 1 else "plain"
    if len(words) > 2 and words[-1] == JSON_SUFFIX:
        words, form = words[:-1], "json"
    for word in words:
        if word not in known:
            near = difflib.get_close_matches(word, known, n=2) or [name for name, task in known.items() if _tells(task, word)]
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise DataError(f"unknown task {name!r}; {hint}known are {', '.join(known)}, and composites such as gr-asr-json")
    try:
        return TaskSpec(parts=tuple(known[word] for word in words), form=form, keys=tuple(keys))
    except pydantic.ValidationError as error:
        raise DataError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
