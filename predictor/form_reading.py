"""What is read of an instruction's form: `FormReading`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Demand:
    """A demand that also names an answer: dropped where what is left asks for one of these tasks, or where it names none.

    Attributes:
        text: the demand without its form.
        tasks: the tasks whose answers it names.
    """

    text: str
    tasks: frozenset[str]


@dataclass(frozen=True)
class FormReading:
    """What an instruction says of the form, and what else it says.

    Attributes:
        format: the fields of an `AnswerFormat` that were asked for.
        content: the instruction without demands.
        soft: demands that also name an answer, in their order.
        whole: content and soft demands, in their order.
        json: whether JSON is asked for.
        labels: a task's name → our label → the user's name; for tasks that may be asked for.
        labelled: the task whose labels are the only answers that are allowed; empty where none are listed in full.
        parts: a task's name → fields that are for its answer alone, of several tasks.
        order: what a template of the answer names, in its order.
        unsupported: names of forms that cannot be had.
        unread: literals that a demand speaks of and that have no role in the format.
    """

    format: Mapping[str, Any]
    content: str
    soft: tuple[Demand, ...] = ()
    whole: str = ""
    json: bool = False
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    labelled: str = ""
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
