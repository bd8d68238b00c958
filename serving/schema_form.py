"""JSON schemas that a route's answers fit: code writes the object, and only the answers are the model's.

A mask that was trained on labels says them well by themselves and poorly between braces. So where a schema is an object with a
property for each of the route's tasks, the answers are put into it, as for any other form; else decoding is held to the schema.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..data.answer_format import AnswerFormat
from ..data.tasks import Task
from .routing import ByMask, Parallel, Route

ABOUT = frozenset({"title", "description", "$schema", "$id", "$comment"})
OBJECT = ABOUT | {"type", "properties", "required", "additionalProperties"}
PROPERTY = ABOUT | {"type", "enum"}


def fill_schema(route: Route, schema: Mapping[str, Any]) -> Route | None:
    """The same route with the form of a schema that its answers fit; None where decoding must be held to the schema.

    Args:
        route: what is done; the form that it had is given up, and a warning says so.
        schema: as json-schema.org has it.
    """
    if not isinstance(route, ByMask | Parallel) or route.task is None:
        return None
    properties = _properties(schema)
    chosen = _assign(route.task.parts, properties) if properties else None
    if chosen is None:
        return None
    pairs = list(zip(route.task.parts, chosen, strict=True))
    labels = {part.name: found for part, key in pairs if (found := _renamed(part, properties[key]))}
    asked = route.answer_format
    lost = asked is not None and bool(asked.model_copy(update={"layout": None, "keys": ()}))
    told = ("the schema decides the form: what the words say of it was not used",) if lost else ()
    form = AnswerFormat(layout="json", keys=chosen, labels=labels)
    return replace(route, answer_format=form, warnings=(*route.warnings, *told))


def _properties(schema: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The properties of an object of which each is a text or one of some texts; none for any other schema."""
    found, required = schema.get("properties"), schema.get("required", [])
    if schema.keys() - OBJECT or schema.get("type") != "object" or not isinstance(found, Mapping):
        return {}
    whole = isinstance(required, list) and set(map(str, required)) <= found.keys()
    if not whole or not isinstance(schema.get("additionalProperties", True), bool):
        return {}
    texts = all(key and isinstance(value, Mapping) and _is_text(value) for key, value in found.items())
    return dict(found) if texts else {}


def _is_text(value: Mapping[str, Any]) -> bool:
    choices = value.get("enum", [""])
    if value.keys() - PROPERTY or not value.keys() & {"type", "enum"} or not isinstance(choices, list):
        return False
    return value.get("type", "string") == "string" and all(isinstance(choice, str) for choice in choices)


def _renamed(task: Task, value: Mapping[str, Any]) -> dict[str, str]:
    """A task's labels → a property's names for them, whatever their case; empty where they are not all there or the same."""
    names = {choice.casefold(): choice for choice in value.get("enum", ())}
    found = {label: names[label.casefold()] for label in task.labels if label.casefold() in names}
    return found if len(found) == len(task.labels) else {}


def _fits(task: Task, value: Mapping[str, Any]) -> bool:
    return "enum" not in value or bool(_renamed(task, value))


def _assign(parts: Sequence[Task], properties: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...] | None:
    """Each part's property, where that is no guess: there is one way, or one whose names say most of the parts."""
    if len(parts) != len(properties) or len(parts) > 4:
        return None
    ways = [
        way
        for way in itertools.permutations(properties)
        if all(_fits(part, properties[key]) for part, key in zip(parts, way, strict=True))
    ]
    ranked = sorted(((_said(parts, way), way) for way in ways), reverse=True)
    if not ranked or (len(ranked) > 1 and ranked[0][0] == ranked[1][0]):
        return None
    return ranked[0][1]


def _said(parts: Sequence[Task], keys: Sequence[str]) -> int:
    """How many keys have a word of their part's name or phrases."""
    named = ((_words(part.name, part.column, *part.phrases), _words(key)) for part, key in zip(parts, keys, strict=True))
    return sum(bool(own & key) for own, key in named)


def _words(*texts: str) -> set[str]:
    return set(re.findall(r"[a-z]{3,}", " ".join(texts).casefold()))
