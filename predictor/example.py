"""One request with its reading, and where in it each part is spoken of."""

import re
from dataclasses import dataclass
from functools import cached_property

from .reading import SLOTS, Reading

MARKS = tuple(chr(0xE000 + slot) for slot in range(SLOTS))  # private letters, which nobody types


@dataclass(frozen=True)
class Example:
    """A request and what it asks for.

    Attributes:
        marked: the request; what speaks of the answer's part k stands between two of `MARKS[k]`.
        reading: what it asks for.
        told: whether the marks tell everything: what is not marked asks for nothing.
        about: what each marked part is about, None for what no task gives; of a reading with parts these.
    """

    marked: str
    reading: Reading
    told: bool = False
    about: tuple[str | None, ...] = ()

    @property
    def spoken(self) -> tuple[str | None, ...]:
        """What each marked part is about."""
        return self.about or self.reading.parts

    @cached_property
    def text(self) -> str:
        """The request as it is read."""
        return self.marked.translate(dict.fromkeys(map(ord, MARKS)))

    @cached_property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Where each part of the answer is spoken of in `text`: its first letter and the one behind its last."""
        pieces = re.split(f"([{''.join(MARKS)}])", self.marked)
        at, ends = 0, {}
        for piece in pieces:
            if piece in MARKS:
                ends.setdefault(piece, []).append(at)
            else:
                at += len(piece)
        return tuple((ends[mark][0], ends[mark][1]) for mark in MARKS if mark in ends)
