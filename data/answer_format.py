"""The form that an answer is put into: shaped by code from the parts' answers, and taken apart again.

`AnswerFormat` is data: everything that words can ask for can be written as JSON or as `key=value`s. Nothing of it is left to
the language model, so a form always holds, whatever the texts contain:

    AnswerFormat(prefix="Mood: ", case="upper").shape({"ser": "happy"})              'Mood: HAPPY'
    AnswerFormat(separator="/").shape({"gr": "female", "asr": "and/or"})             'female/and/or'
    AnswerFormat(layout="json", keys=("sex", "said")).shape({"gr": "male", …})       '{"sex": "male", "said": "…"}'
    AnswerFormat(parts={"gr": TextFormat(case="upper")}).shape({"gr": "male", …})    'MALE|…'
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from ..errors import DataError
from .tasks import BAR

Case = Literal["upper", "lower", "title"]
Layout = Literal["plain", "joined", "json", "lines", "list"]
ESCAPES = "\\^~"
"""A mark before a separator that belongs to a text; the first that the separator itself does not have."""
BULLET = "- "
SEPARATORS = {
    "comma": ",",
    "semicolon": ";",
    "colon": ":",
    "slash": "/",
    "backslash": "\\",
    "bar": "|",
    "pipe": "|",
    "dash": "-",
    "hyphen": "-",
    "underscore": "_",
    "tab": "\t",
    "newline": "\n",
    "space": " ",
}
"""Separators by name, as `--format separator=tab` takes them."""


def _title(text: str) -> str:
    return re.sub(r"\S+", lambda word: word[0][:1].upper() + word[0][1:].lower(), text)


_CASES: Mapping[str, Callable[[str], str]] = {"upper": str.upper, "lower": str.lower, "title": _title}


class TextFormat(pydantic.BaseModel):
    """What stands around a text, and its case. What is not given is left as it is.

    Attributes:
        prefix: what it begins with, to the letter; a space follows it where it ends in a letter, digit or one of `:,.;`.
        suffix: what it ends with, likewise.
        wrap: what stands to the left and to the right of it, within prefix and suffix.
        case: of the text; prefix, suffix and wrapping are as given.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    prefix: str = ""
    suffix: str = ""
    wrap: tuple[str, str] | None = None
    case: Case | None = None

    def cased(self, text: str) -> str:
        """The text in the case asked for."""
        return _CASES[self.case](text) if self.case else text

    def around(self, text: str) -> str:
        """The text with what stands around it."""
        before, after = self._ends()
        return f"{before}{text}{after}"

    def inside(self, text: str) -> str | None:
        """The text without what stands around it; None where that is not there."""
        before, after = self._ends()
        if len(text) < len(before) + len(after) or not text.startswith(before) or not text.endswith(after):
            return None
        return text[len(before) : len(text) - len(after)]

    def _ends(self) -> tuple[str, str]:
        """What stands before and behind, with a space where a word of prefix or suffix would touch the text."""
        head, tail = self.prefix, self.suffix
        head += " " if head and (head[-1].isalnum() or head[-1] in ":,.;") else ""
        left, right = self.wrap or ("", "")
        return head + left, right + (f" {tail}" if tail and tail[0].isalnum() else tail)


class AnswerFormat(TextFormat):
    """The form of an answer. What is not given is left as it is; the case is that of the parts' answers, not of keys.

    Attributes:
        separator: between the parts of the layout "joined"; a bar by default.
        keys: what the parts are called, in their order: keys of JSON, and before a colon in lines and lists.
        layout: "plain" for one part, "joined" for several in one line, "json", "lines" (a part a line), or "list" (with bullets);
            None for JSON where there are keys, else for plain or joined.
        labels: a task's name → our label → the user's name for it.
        parts: a task's name → the form of its answer alone, within the whole; its case comes before that of the whole.
    """

    separator: Annotated[str, pydantic.Field(min_length=1)] | None = None
    keys: tuple[Annotated[str, pydantic.Field(min_length=1)], ...] = ()
    layout: Layout | None = None
    labels: dict[str, dict[str, str]] = {}
    parts: dict[str, TextFormat] = {}

    @pydantic.model_validator(mode="after")
    def _check(self) -> "AnswerFormat":
        if len(set(self.keys)) < len(self.keys):
            raise ValueError("keys must all be different")
        if self.layout in ("plain", "joined") and self.keys:
            raise ValueError(f"keys do not go with the layout {self.layout!r}")
        if self.separator is not None and self.layout not in (None, "joined"):
            raise ValueError(f"a separator does not go with the layout {self.layout!r}")
        for task, names in self.labels.items():
            if len({self._cased(task, name) for name in names.values()}) < len(names):
                raise ValueError(f"labels of {task!r} must all be different")
        return self

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    def __bool__(self) -> bool:
        """Whether anything is asked for."""
        return bool(self.model_dump(exclude_defaults=True))

    def as_dict(self) -> dict[str, Any]:
        """What was asked for, and nothing else, as JSON has it."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def __str__(self) -> str:
        """What was asked for, as `--format` has it: `case=upper, parts.gr.wrap=[|]`."""
        return ", ".join(_flat(self.as_dict()))

    def shape(self, parts: Mapping[str, str]) -> str:
        """The answer of its parts.

        Args:
            parts: a task's name → its answer, in the order of the answer.

        Raises:
            DataError: there are not as many parts as keys, or several for the layout "plain".
        """
        names = tuple(parts)
        self._require_parts(names)
        return self.around(self._body(names, [self._value(name, text) for name, text in parts.items()]))

    def parse(self, text: str, names: Sequence[str]) -> dict[str, str] | None:
        """Take an answer apart: a task's name → its answer, in our labels and the case asked for; None where it is out of form.

        Args:
            text: the answer.
            names: the parts, in the order of the answer.

        Raises:
            DataError: there are not as many parts as keys, or several for the layout "plain".
        """
        self._require_parts(names)
        body = self.inside(text)
        values = None if body is None else self._split(body, tuple(names))
        if values is None:
            return None
        found: dict[str, str] = {}
        for name, value in zip(names, values, strict=True):
            inner = self._part(name).inside(value)
            if inner is None:
                return None
            found[name] = self._our_label(name, inner)
        return found

    def layout_of(self, count: int) -> Layout:
        """The layout of an answer of so many parts."""
        if self.layout is None:
            return "json" if self.keys else "plain" if count == 1 else "joined"
        return "plain" if self.layout == "joined" and count == 1 else self.layout

    def _require_parts(self, names: Sequence[str]) -> None:
        if self.keys and len(self.keys) != len(names):
            raise DataError(f"the format has {len(self.keys)} keys ({', '.join(self.keys)}), the answer {len(names)} parts")
        if not names or (self.layout == "plain" and len(names) > 1):
            raise DataError(f"an answer of {len(names)} parts cannot be plain; ask for joined, json, lines or list")

    def _part(self, name: str) -> TextFormat:
        return self.parts.get(name, TextFormat())

    def _cased(self, name: str, text: str) -> str:
        part = self._part(name)
        return part.cased(text) if part.case else self.cased(text)

    def _value(self, name: str, text: str) -> str:
        return self._part(name).around(self._cased(name, self.labels.get(name, {}).get(text, text)))

    def _our_label(self, name: str, value: str) -> str:
        theirs = {self._cased(name, shown): label for label, shown in self.labels.get(name, {}).items()}
        return theirs.get(value, value)

    def _body(self, names: Sequence[str], values: Sequence[str]) -> str:
        layout = self.layout_of(len(names))
        if layout == "plain":
            return values[0]
        if layout == "json":
            return json.dumps(dict(zip(self.keys or names, values, strict=True)), ensure_ascii=False)
        marks = self._line_marks(layout, len(names))
        return _join([mark + value for mark, value in zip(marks, values, strict=True)], self._between(layout))

    def _split(self, body: str, names: Sequence[str]) -> list[str] | None:
        layout = self.layout_of(len(names))
        if layout == "plain":
            return [body]
        if layout == "json":
            return _json_values(body, self.keys or names)
        pieces = _split(body, self._between(layout), len(names))
        marks = self._line_marks(layout, len(names))
        if pieces is None or not all(piece.startswith(mark) for piece, mark in zip(pieces, marks, strict=True)):
            return None
        return [piece.removeprefix(mark) for piece, mark in zip(pieces, marks, strict=True)]

    def _between(self, layout: Layout) -> str:
        return (self.separator or BAR) if layout == "joined" else "\n"

    def _line_marks(self, layout: Layout, count: int) -> list[str]:
        """What stands before each part on its line."""
        bullet = BULLET if layout == "list" else ""
        return [f"{bullet}{key}: " for key in self.keys] if self.keys else [bullet] * count


def _flat(found: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Fields as options, those of `labels` and `parts` by their tasks."""
    for key, value in found.items():
        if key == "parts" or before == "parts.":
            yield from _flat(value, f"{before}{key}.")
        elif key == "labels":
            yield from (f"labels.{task}={','.join(map(':'.join, names.items()))}" for task, names in value.items())
        else:
            said = value if isinstance(value, str) else (BAR if key == "wrap" else ",").join(value)
            yield f"{before}{key}={said if said == said.strip() else repr(said)}"


def _escape_mark(separator: str) -> str:
    return next(mark for mark in (*ESCAPES, *map(chr, range(0x2200, 0x2300))) if mark not in separator)


def _join(texts: Sequence[str], separator: str) -> str:
    """Texts with a separator between; where one of them holds it, or would with what follows, a mark stands before it.

    What follows the last separator is read as it is, so the last text needs no marks.
    """
    mark = _escape_mark(separator)

    def escaped(text: str) -> str:
        whole = text + separator
        special = (at for at, letter in enumerate(text) if letter == mark or whole.startswith(separator, at))
        found, last = [], 0
        for at in special:
            found += [text[last:at], mark]
            last = at
        return "".join([*found, text[last:]])

    return separator.join([*map(escaped, texts[:-1]), texts[-1]])


def _split(text: str, separator: str, count: int) -> list[str] | None:
    """The texts that `_join` put together; None where there are fewer."""
    mark, at = _escape_mark(separator), 0
    found: list[str] = []
    current: list[str] = []
    while len(found) < count - 1:
        if at >= len(text):
            return None
        if text[at] == mark and at + 1 < len(text):
            current.append(text[at + 1])
            at += 2
        elif text.startswith(separator, at):
            found.append("".join(current))
            current, at = [], at + len(separator)
        else:
            current.append(text[at])
            at += 1
    return [*found, text[at:]]


def _json_values(body: str, keys: Sequence[str]) -> list[str] | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or set(found) != set(keys) or not all(isinstance(value, str) for value in found.values()):
        return None
    return [found[key] for key in keys]


def read_format(options: Sequence[str]) -> AnswerFormat:
    r"""A format of JSON files and `key=value`s; the last of a key counts.

    `keys=sex,said`, `wrap=[|]`, `labels.gr=female:F,male:M`, `separator=tab` (by name or as it is, `\n` and `\t` too), and for
    one part alone `parts.gr.case=upper`.

    Raises:
        DataError: a file cannot be read, or something is no format; the message names it.
    """
    found: dict[str, Any] = {}
    for option in options:
        key, equals, value = option.partition("=")
        match = re.fullmatch(r"(?:([a-z]+)|labels\.(\w+)|parts\.(\w+)\.([a-z]+))", key)
        if not equals or not (match or re.fullmatch(r"[a-z.]+", key)):
            found |= _read_file(Path(option))
            continue
        if not match or match[1] in ("labels", "parts"):
            such = "case=upper, labels.gr=female:F,male:M or parts.gr.case=upper"
            raise DataError(f"--format {option}: expected a JSON file, or such as {such}")
        field, task, part, of_part = match.groups()
        if task:
            found["labels"] = dict(found.get("labels", {})) | {task: _read_labels(value, option)}
        elif part:
            before = dict(found.get("parts", {}))
            found["parts"] = before | {part: dict(before.get(part, {})) | {of_part: _read_value(of_part, value, option)}}
        else:
            found[field] = _read_value(field, value, option)
    try:
        return AnswerFormat.model_validate(found)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        known = ", ".join((TextFormat if first["loc"][:1] == ("parts",) else AnswerFormat).model_fields)
        why = f"there is no {where!r}; there are {known}" if first["type"] == "extra_forbidden" else first["msg"]
        raise DataError(f"--format {where}: {why.removeprefix('Value error, ')}") from None


def _read_value(field: str, value: str, option: str) -> Any:  # noqa: ANN401
    if field == "keys":
        return tuple(key.strip() for key in value.split(",") if key.strip())
    if field == "wrap":
        left, bar, right = value.partition(BAR)
        if not bar:
            raise DataError(f"--format {option}: expected left and right with a bar between, such as wrap=<|>")
        return left, right
    if field == "separator":
        value = SEPARATORS.get(value.casefold(), value)
    return value.replace("\\n", "\n").replace("\\t", "\t")


def _read_labels(value: str, option: str) -> dict[str, str]:
    pairs = [pair.partition(":") for pair in value.split(",")]
    if not all(ours.strip() and colon and theirs.strip() for ours, colon, theirs in pairs):
        raise DataError(f"--format {option}: expected our label, a colon, your name for it, such as female:F,male:M")
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}


def _read_file(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"cannot read format {path}: {error.strerror or error}; expected a JSON file or key=value") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"cannot read format {path}: it is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise DataError(f"cannot read format {path}: expected a JSON object, got {type(found).__name__}")
    return found
