"""Literals of an instruction: what stands in quotes, tags, brackets and JSON. They are never evidence for a task."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal as OneOf

Kind = OneOf["quote", "json", "template", "tag", "bracket", "starred"]
FIRST_MARK = 0xE100
"""Private characters from here on stand for the literals in a masked text."""

_PLACEHOLDER = r"(?:<[^<>]{1,40}>|\([^()]{1,40}\)|\[[^\[\]]{1,40}\]|\{[^{}:\"]{1,40}\})"
_BETWEEN = r"(?:\s?[^\w\s<(\[{]{1,3}\s?)"
_TEMPLATE = re.compile(rf"{_PLACEHOLDER}(?:{_BETWEEN}{_PLACEHOLDER})+")
# A quote may hold a quote mark alone: \"\"\". Doubled marks are those of CSV.
_QUOTES = (
    re.compile(r'"(")"|"(\')"'),
    re.compile(r'""([^"\n]{1,80})""'),
    re.compile(r'"([^"\n]{0,120})"'),
    re.compile(r"[“„«»]([^“”„«»\n]{0,120})[”“»«]"),
    re.compile(r"(?<![\w`])`([^`\n]{1,80})`"),
    re.compile(r"(?<![^\s(\[,:=])[‘']([^'’‘\n]{1,80})['’](?!\w)"),
)
_TAG = re.compile(r"</?[^\s<>][^<>\n]{0,40}>|<>")
_BRACKET = re.compile(r"(?!.\s*(?:,|and|und)\s*[\])}])\[[^\[\]\n]{0,60}\]|(?!.\s*(?:,|and|und)\s*[\])}])\{[^{}\n]{0,60}\}")
_STARRED = re.compile(r"(?<![\w*])(\*{1,3})(?=[^\s*])[^*\n]{1,60}(?<!\s)\1(?![\w*])")


@dataclass(frozen=True)
class Literal:
    """A literal of an instruction.

    Attributes:
        text: what it says, without quote marks.
        kind: a quote, a JSON object, a template such as `<gender>/<words>`, a tag, a bracket, or a word in stars.
        start, end: where it is in the instruction, quote marks included.
    """

    text: str
    kind: Kind
    start: int
    end: int


@dataclass(frozen=True)
class Masked:
    """An instruction with a private character for each literal.

    Attributes:
        text: the masked instruction.
        literals: what the characters stand for, in order.
    """

    text: str
    literals: tuple[Literal, ...]

    def literals_in(self, text: str) -> list[Literal]:
        """The literals that marks of a piece of the masked text stand for."""
        return [self.literals[ord(letter) - FIRST_MARK] for letter in text if is_mark(letter)]

    def shown(self, item: str) -> str:
        """A word as it was written: of a mark, the literal's text."""
        return self.literals[ord(item) - FIRST_MARK].text if is_mark(item) else item


def is_mark(letter: str) -> bool:
    """Whether a character of a masked text stands for a literal."""
    return len(letter) == 1 and FIRST_MARK <= ord(letter) < FIRST_MARK + 256


def mask_literals(text: str) -> Masked:
    """Find the literals of an instruction, from its beginning; of those that begin at one place the first kind counts."""
    found: list[Literal] = []
    at = 0
    while at < len(text) and len(found) < 250:
        literal = _literal_at(text, at) if text[at] in "{\"'“„«»`‘<([*" else None
        if literal is None:
            at += 1
            continue
        found.append(literal)
        at = literal.end
    pieces, last = [], 0
    for number, literal in enumerate(found):
        pieces += [text[last : literal.start], chr(FIRST_MARK + number)]
        last = literal.end
    return Masked("".join([*pieces, text[last:]]), tuple(found))


def _literal_at(text: str, at: int) -> Literal | None:
    if text[at] == "{" and (end := _json_end(text, at)):
        return Literal(text[at:end], "json", at, end)
    if match := _TEMPLATE.match(text, at):
        return Literal(match[0], "template", at, match.end())
    for pattern in _QUOTES:
        if match := pattern.match(text, at):
            content = next(group for group in match.groups() if group is not None)
            inner = content.strip()
            kind: Kind = "template" if _TEMPLATE.fullmatch(inner) else "quote"
            return Literal(inner if kind == "template" else content, kind, at, match.end())
    for pattern, kind in ((_TAG, "tag"), (_BRACKET, "bracket"), (_STARRED, "starred")):
        if match := pattern.match(text, at):
            return Literal(match[0], kind, at, match.end())
    return None


def _json_end(text: str, at: int) -> int:
    """Where an object that has keys ends; 0 where there is none."""
    depth = 0
    for place in range(at, min(len(text), at + 600)):
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            inner = text[at + 1 : place]
            return place + 1 if json_keys_of(inner) and ":" in inner else 0
    return 0


def json_keys_of(text: str) -> tuple[str, ...]:
    """The keys of an object as it may be typed: JSON, or with whatever quotes, or none."""
    try:
        found = json.loads(text if text.startswith("{") else f"{{{text}}}")
        if isinstance(found, dict):
            return tuple(found)
    except (ValueError, RecursionError):
        pass
    inner = text.strip().removeprefix("{").removesuffix("}")
    keys = re.findall(r"(?:^|[,;{]|(?<=[\"'”’]))\s*[\"'“”„‘’]{0,2}([^\"'“”„‘’:,{}]{1,40}?)[\"'“”„‘’]{0,2}\s*:", inner)
    return tuple(key.strip() for key in keys if key.strip())


def template_parts(text: str) -> tuple[tuple[str, ...], str | None]:
    """What a template names, and the separator between; None where it has several."""
    places = re.findall(_PLACEHOLDER, text)
    between = [piece for piece in re.split(_PLACEHOLDER, text)[1:-1]]
    separators: Sequence[str] = sorted(set(between))
    return tuple(place[1:-1].strip() for place in places), separators[0] if len(separators) == 1 else None
