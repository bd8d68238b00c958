"""One request with its intent, and where in it each part is spoken of."""

import re
from dataclasses import dataclass
from functools import cached_property

from .intent import SLOTS, Intent

MARKS = tuple(chr(0xE000 + slot) for slot in range(SLOTS))  # private letters, which nobody types


@dataclass(frozen=True)
class Example:
    """A request and what it asks for.

    Attributes:
        marked_text: the request; what speaks of the answer's part k stands between two of `MARKS[k]`.
        intent: what it asks for.
        fully_labelled: whether the marks tell everything: what is not marked asks for nothing.
        part_tasks: what each marked part is about, None for what no task gives; of an intent with parts these.
    """

    marked_text: str
    intent: Intent
    fully_labelled: bool = False
    part_tasks: tuple[str | None, ...] = ()

    @property
    def span_tasks(self) -> tuple[str | None, ...]:
        """What each marked part is about."""
        return self.part_tasks or self.intent.parts

    @cached_property
    def text(self) -> str:
        """The request as it is read."""
        return self.marked_text.translate(dict.fromkeys(map(ord, MARKS)))

    @cached_property
    def part_spans(self) -> tuple[tuple[int, int], ...]:
        """Where each part of the answer is spoken of in `text`: its first letter and the one behind its last."""
        pieces = re.split(f"([{''.join(MARKS)}])", self.marked_text)
        at = 0
        ends: dict[str, list[int]] = {}
        for piece in pieces:
            if piece in MARKS:
                ends.setdefault(piece, []).append(at)
            else:
                at += len(piece)
        return tuple((ends[mark][0], ends[mark][1]) for mark in MARKS if mark in ends)
