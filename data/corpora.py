"""Corpora by name: recipes as data (`corpora.toml`) that make a manifest of a well-known corpus in its usual layout.

`librispeech:test-clean` is looked for in the folder of AMASK_CORPORA; `librispeech:test-clean@FOLDER` says where it is, and
`…@hub` takes it from the Hugging Face Hub. Nothing is downloaded unasked: what is missing is named, with where to get it.
"""

import csv
import json
import os
import re
import string
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import pydantic

from ..errors import DataError
from .manifest import Clip, Manifest, Split, draw_splits

FOLDER_VARIABLE = "AMASK_CORPORA"
HUB = "hub"
SOURCE = re.compile(r"([A-Za-z0-9_]+)(?::([^@]*))?(?:@(.+))?")

Row = dict[str, str]


class _Frozen(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class Part(_Frozen):
    """A part of a corpus.

    Attributes:
        split: which of ours it is.
        hub: its configuration and split on the Hub; empty where it is not there.
        pattern: what `{part}` in the recipe's pattern stands for; the part's name by default.
        values: of the recipe's `where` field those that belong to it.
    """

    split: Split
    hub: tuple[str, ...] = ()
    pattern: str = ""
    values: tuple[str, ...] = ()


class Lookup(_Frozen):
    """A field that stands in other text files: the group `value` of the line whose group `key` is this row's."""

    files: str
    pattern: str
    key: str


class SplitField(_Frozen):
    """A field that is several, with a mark between."""

    field: str
    at: str
    into: tuple[str, ...]


class Where(_Frozen):
    """The field that says which part a row belongs to."""

    field: str


class Recipe(_Frozen):
    """How a corpus becomes clips; the head of `corpora.toml` says what each field means."""

    title: str
    home: str
    licence: str
    read: Literal["lines", "table", "names", "hub"]
    parts: dict[str, Part]
    folders: tuple[str, ...] = ()
    hub: str = ""
    files: str = ""
    pattern: str = ""
    header: tuple[str, ...] = ()
    audio: str = ""
    more: tuple[str, ...] = ()
    speaker: str = ""
    lower: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    values: dict[str, dict[str, str]] = {}
    lookups: dict[str, Lookup] = {}
    split_field: SplitField | None = None
    where: Where | None = None
    draw_splits: bool = False


@cache
def recipes() -> Mapping[str, Recipe]:
    """All recipes, by name."""
    text = files(__package__).joinpath("corpora.toml").read_text(encoding="utf-8")
    return MappingProxyType({name: Recipe.model_validate(table) for name, table in tomllib.loads(text).items()})


def is_corpus(source: str) -> bool:
    """Whether a corpus is named, and not a file or a folder of that name."""
    found = SOURCE.fullmatch(source)
    return found is not None and found[1].lower() in recipes() and not Path(source).exists()


def read_corpus(source: str) -> Manifest:
    """Make a manifest of a corpus.

    Args:
        source: `NAME`, `NAME:PART` (or several with commas between), either with `@FOLDER` or `@hub` behind it.

    Raises:
        DataError: the corpus or a part is unknown or not there, or its files are not as they should be.
    """
    found = SOURCE.fullmatch(source)
    if found is None or found[1].lower() not in recipes():
        raise DataError(f"there is no corpus {source!r}; known are {', '.join(recipes())}")
    name, place = found[1].lower(), found[3]
    recipe = recipes()[name]
    asked = [part.strip() for part in found[2].split(",")] if found[2] else list(recipe.parts)
    unknown = [part for part in asked if part not in recipe.parts]
    if unknown:
        raise DataError(f"{recipe.title} has no part {unknown[0]!r}; expected one of {', '.join(recipe.parts)}")
    if place == HUB:
        return _from_hub(name, recipe, asked)
    root = _find(name, recipe, place)
    clips: list[Clip] = []
    for part in asked:
        clips += _clips(recipe, part, root)
    there = [clip for clip in clips if (root / clip.path).is_file()]
    if not there:
        raise DataError(f"{recipe.title}: nothing of {', '.join(asked)} is in {root}; {_advice(name, recipe, asked)}")
    if recipe.draw_splits:
        return Manifest(draw_splits(there), root, splits_drawn=True)
    return Manifest(tuple(there), root)


def _from_hub(name: str, recipe: Recipe, asked: Iterable[str]) -> Manifest:
    from .hub import read_dataset  # noqa: PLC0415 (a second to import)

    clips: list[Clip] = []
    folder = Path()
    for part in asked:
        if not recipe.hub or not recipe.parts[part].hub:
            raise DataError(f"{recipe.title} ({part}) is not on the Hub; get it from {recipe.home}, and say {name}:{part}@FOLDER")
        read = read_dataset(":".join(("hf", recipe.hub, *recipe.parts[part].hub)))
        folder = read.folder
        clips += [clip.model_copy(update={"split": recipe.parts[part].split}) for clip in read]
    return Manifest(tuple(clips), folder)


def _advice(name: str, recipe: Recipe, asked: Iterable[str]) -> str:
    """Where a corpus is had, and how to say where it lies."""
    part = next(iter(asked))
    hub = f", or say {name}:{part}@{HUB} to load it from the Hub ({recipe.hub})" if recipe.hub else ""
    if recipe.read == HUB:
        return f"say {name}:{part}@{HUB} to load it from the Hub ({recipe.hub}); {recipe.home} has its terms"
    folder = recipe.folders[0]
    return (
        f"get it from {recipe.home} ({recipe.licence}), and put it at {folder} in the folder of {FOLDER_VARIABLE}, "
        f"or say {name}:{part}@FOLDER{hub}"
    )


def _find(name: str, recipe: Recipe, place: str | None) -> Path:
    """The corpus' folder."""
    if recipe.read == HUB:
        raise DataError(f"{recipe.title} has no layout of its own on disk; {_advice(name, recipe, recipe.parts)}")
    chosen = Path(place) if place else Path(os.environ.get(FOLDER_VARIABLE, ""))
    candidates = [chosen / folder for folder in recipe.folders] + ([chosen] if place else [])
    for folder in candidates:
        if (place or os.environ.get(FOLDER_VARIABLE)) and folder.is_dir():
            return folder
    where = f"is not in {chosen}" if place or os.environ.get(FOLDER_VARIABLE) else "is not at hand"
    raise DataError(f"{recipe.title} {where}; {_advice(name, recipe, recipe.parts)}")


def _clips(recipe: Recipe, part: str, root: Path) -> Iterator[Clip]:
    tables = {field: _lookup_table(lookup, part, root) for field, lookup in recipe.lookups.items()}
    for row in _rows(recipe, part, root):
        fields = row | {"part": part}
        if recipe.split_field:
            pieces = fields[recipe.split_field.field].split(recipe.split_field.at)
            fields |= dict(zip(recipe.split_field.into, pieces, strict=False))
        for field, table in tables.items():
            fields[field] = table.get(_fill(recipe.lookups[field].key, fields), "")
        for field in recipe.lower:
            fields[field] = fields.get(field, "").lower()
        for field, values in recipe.values.items():
            fields[field] = values.get(fields.get(field, ""), "")
        texts = {task: _fill(template, fields) for task, template in recipe.labels.items()}
        whole = {task: text for task, text in texts.items() if all(fields.get(name) for name in _names(recipe.labels[task]))}
        yield Clip(
            path=_fill(recipe.audio, fields) if recipe.read != "names" else row["file"],
            more=tuple(_fill(more, fields) for more in recipe.more),
            labels=whole,
            split=recipe.parts[part].split,
            speaker=_fill(recipe.speaker, fields) if all(fields.get(name) for name in _names(recipe.speaker)) else "",
        )


def _names(template: str) -> list[str]:
    """The fields of a template."""
    return [name for _, name, _, _ in string.Formatter().parse(template) if name]


def _fill(template: str, fields: Mapping[str, str]) -> str:
    return template.format_map({name: fields.get(name, "") for name in _names(template)}).strip()


def _rows(recipe: Recipe, part: str, root: Path) -> Iterator[Row]:
    """The rows of a part, as fields."""
    found = sorted(root.glob(recipe.files.format(part=part)))
    pattern = re.compile(recipe.pattern.replace("{part}", recipe.parts[part].pattern or re.escape(part)))
    for file in found:
        relative = file.relative_to(root).as_posix()
        if recipe.read == "names":
            match = pattern.fullmatch(file.stem)
            if match:
                yield match.groupdict() | {"file": relative}
        elif recipe.read == "lines":
            folder = file.parent.relative_to(root).as_posix()
            matches = (pattern.fullmatch(line.rstrip()) for line in _lines(file))
            yield from (match.groupdict() | {"folder": folder} for match in matches if match)
        else:
            rows = _table(file, recipe.header)
            where, values = recipe.where, recipe.parts[part].values
            yield from (row for row in rows if where is None or row.get(where.field, "") in values)


def _lookup_table(lookup: Lookup, part: str, root: Path) -> dict[str, str]:
    pattern = re.compile(lookup.pattern)
    found: dict[str, str] = {}
    for file in sorted(root.glob(lookup.files.format(part=part)) if ".." not in lookup.files else _beside(lookup.files, root)):
        for line in _lines(file):
            if match := pattern.match(line):
                found[match["key"]] = match["value"].strip()
    return found


def _beside(pattern: str, root: Path) -> Iterator[Path]:
    """Files by a pattern that begins beside the root; `Path.glob` takes no `..`."""
    yield from root.parent.glob(pattern.removeprefix("../"))


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror or error}; check its permissions") from None


def _table(file: Path, header: tuple[str, ...]) -> Iterator[Row]:
    """Rows of a CSV, TSV or JSON-lines file."""
    lines = _lines(file)
    if file.suffix in (".json", ".jsonl"):
        try:
            yield from ({key: str(value) for key, value in json.loads(line).items()} for line in lines if line.strip())
        except (ValueError, AttributeError) as error:
            raise DataError(f"cannot read {file}: {error}; expected a JSON object a line") from None
        return
    tabs = file.suffix == ".tsv"
    reader = csv.reader(lines, delimiter="\t" if tabs else ",", quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL)
    names = list(header) or next(reader, [])
    yield from (dict(zip(names, row, strict=False)) for row in reader if row)
