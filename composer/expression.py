"""Boolean expressions over masks as data: text → tree → text, and the name that the bank keeps a composed mask by.

What can be written, from what binds most to what binds least:

    gr, gr@2, "and", (…)    a mask of the bank; brackets
    2 OF (gr, asr, ser)     heads that are on in at least two
    NOT gr, ~gr             heads that are off
    gr AND asr, gr & asr    heads that are on in both
    gr MINUS asr, gr - asr  the same as gr AND NOT asr
    gr XOR asr, gr ^ asr    heads that are on in exactly one; of several, in an odd number
    gr OR asr, gr | asr     heads that are on in one or more

AND and MINUS bind alike and are read from the left. Words may be small or capital. A hyphen inside a word belongs to the
name: `gr-asr` is a mask, `gr - asr` is MINUS. Quotes, single or double, make a name of anything else: `"and"`, `'or'`.

Nothing here needs a mask or torch; `algebra.py` evaluates the tree.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import groupby
from typing import ClassVar

from lark import Lark, Token, Transformer_NonRecursive, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken, VisitError
from lark.tree import Meta

from ..errors import MaskError

MAX_DEPTH = 64  # NOTs and brackets within each other; comparing, printing, copying and evaluating may then simply recurse
NAME_LENGTH = 100  # of the bank's names

GRAMMAR = r"""
?start: either
?either: unlike | unlike (_OR unlike)+ -> union
?unlike: both | both (_XOR both)+ -> difference
?both: term | term (_AND term | minus)+ -> intersection
minus: _MINUS term -> complement
?term: NAME -> name | QUOTED -> quoted | "(" either ")"
    | _NOT term -> complement
    | COUNT _OF "(" either ("," either)* ")" -> votes
_OR.2: /OR(?![A-Za-z0-9._+@-])/i | "|"
_XOR.2: /XOR(?![A-Za-z0-9._+@-])/i | "^"
_AND.2: /AND(?![A-Za-z0-9._+@-])/i | "&"
_MINUS.2: /MINUS(?![A-Za-z0-9._+@-])/i | "-"
_NOT.2: /NOT(?![A-Za-z0-9._+@-])/i | "~"
_OF.2: /OF(?![A-Za-z0-9._+@-])/i
COUNT.2: /[0-9]{1,9}(?=\s+OF(?![A-Za-z0-9._+@-]))/i
NAME: /[A-Za-z0-9][A-Za-z0-9._+-]*(@[0-9]+)?/
QUOTED: /"[^"]*"|'[^']*'/
%ignore /\s+/
"""
_RESERVED = {"and", "or", "xor", "minus", "not", "of"}
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(@[0-9]+)?")
_EXAMPLE = "write it like 'gr AND asr' or 'NOT (gr OR ser)', with a name such as \"and\" in quotes"


@dataclass(frozen=True)
class Span:
    """Where a part of an expression stands in the text that it was read from: text[start - 1 : end - 1].

    Attributes:
        start: column of the first character; the text's first is 1.
        end: column after the last character.
        text: the whole text.
    """

    start: int
    end: int
    text: str = field(repr=False)

    def __str__(self) -> str:
        """`column 8 of 'gr AND asr'`; of a long text, what is near."""
        first, last = max(0, self.start - 31), self.start + 29
        shown = "…" * (first > 0) + self.text[first:last] + "…" * (last < len(self.text))
        return f"column {self.start} of {shown!r}"


@dataclass(frozen=True, kw_only=True)
class Expression:
    """A node of the tree. Trees are equal when they say the same, wherever they stood.

    Attributes:
        span: where it was read; None for what was made by hand.
        depth: how many nodes are within each other, at most `MAX_DEPTH`.

    Raises:
        MaskError: it is nested too deep, or holds what its kind cannot.
    """

    span: Span | None = field(default=None, compare=False, repr=False)
    depth: int = field(default=1, init=False, compare=False, repr=False)

    @property
    def parts(self) -> "tuple[Expression, ...]":
        """The nodes right below."""
        return ()

    def __post_init__(self) -> None:
        """Check the depth."""
        depth = 1 + max((part.depth for part in self.parts), default=0)
        if depth > MAX_DEPTH:
            raise self.error(f"an expression may be nested {MAX_DEPTH} deep; this one is deeper", "use fewer NOTs and brackets")
        object.__setattr__(self, "depth", depth)

    def error(self, what: str, remedy: str) -> MaskError:
        """An error about this node, with its column."""
        return MaskError(f"{what}{f', at {self.span}' if self.span else ''}; {remedy}")


@dataclass(frozen=True)
class Name(Expression):
    """A mask by its name or name@version, as whoever looks it up knows it."""

    name: str

    def __post_init__(self) -> None:
        """Check that quotes can hold the name."""
        super().__post_init__()
        if not self.name or not self.name.isprintable() or {"'", '"'} <= set(self.name):
            raise self.error(f"{self.name!r} cannot be a mask's name", "use printable characters, and not both kinds of quotes")


@dataclass(frozen=True)
class Not(Expression):
    """Heads that are off in the operand."""

    operand: Expression

    @property
    def parts(self) -> tuple[Expression, ...]:
        """The operand."""
        return (self.operand,)


@dataclass(frozen=True)
class _Several(Expression):
    """An operator between two operands or more; since grouping makes no difference, no operand is of the same kind."""

    operands: tuple[Expression, ...]
    word: ClassVar[str]

    def __post_init__(self) -> None:
        """Take operands of the same kind apart."""
        flat = (part.operands if isinstance(part, type(self)) else (part,) for part in self.operands)
        object.__setattr__(self, "operands", tuple(part for group in flat for part in group))
        super().__post_init__()
        if len(self.operands) < 2:
            raise self.error(f"{self.word} takes two operands or more; got {len(self.operands)}", "add one")

    @property
    def parts(self) -> tuple[Expression, ...]:
        """The operands."""
        return self.operands


class And(_Several):
    """Heads that are on in all operands; `a MINUS b` is `And((a, Not(b)))`."""

    word = "AND"


class Xor(_Several):
    """Heads that are on in an odd number of operands."""

    word = "XOR"


class Or(_Several):
    """Heads that are on in one operand or more."""

    word = "OR"


@dataclass(frozen=True)
class AtLeast(Expression):
    """Heads that are on in at least `count` of the operands: 1 is OR, all is AND."""

    count: int
    operands: tuple[Expression, ...]

    def __post_init__(self) -> None:
        """Check the count."""
        super().__post_init__()
        if not 1 <= self.count <= len(self.operands):
            raise self.error(f"cannot count {self.count} of {len(self.operands)}", f"say 1 to {len(self.operands)} OF")

    @property
    def parts(self) -> tuple[Expression, ...]:
        """The operands."""
        return self.operands


@v_args(meta=True)
class _Build(Transformer_NonRecursive):
    """Turns lark's tree into ours."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def _span(self, meta: Meta) -> Span:
        return Span(meta.start_pos + 1, meta.end_pos + 1, self.text)

    def name(self, meta: Meta, children: list[Token]) -> Name:
        return Name(str(children[0]), span=self._span(meta))

    def quoted(self, meta: Meta, children: list[Token]) -> Name:
        return Name(str(children[0])[1:-1], span=self._span(meta))

    def complement(self, meta: Meta, children: list[Expression]) -> Not:
        return Not(children[0], span=self._span(meta))

    def intersection(self, meta: Meta, children: list[Expression]) -> And:
        return And(tuple(children), span=self._span(meta))

    def difference(self, meta: Meta, children: list[Expression]) -> Xor:
        return Xor(tuple(children), span=self._span(meta))

    def union(self, meta: Meta, children: list[Expression]) -> Or:
        return Or(tuple(children), span=self._span(meta))

    def votes(self, meta: Meta, children: list) -> AtLeast:
        return AtLeast(int(children[0]), tuple(children[1:]), span=self._span(meta))


@cache
def _parser() -> Lark:
    return Lark(GRAMMAR, parser="lalr", lexer="basic", propagate_positions=True)


def _unreadable(text: str, error: UnexpectedInput) -> MaskError:
    """What the parser stumbled over, and what it could have read instead."""
    if not text.strip():
        return MaskError(f"the expression is empty; {_EXAMPLE}")
    at, got, expected = len(text.rstrip()), "its end", "a mask's name or an operator"
    if isinstance(error, UnexpectedCharacters):
        at = error.pos_in_stream or 0
        got = repr(text[at])
        expected = f"another {got} further on" if text[at] in "'\"" else expected
    elif isinstance(error, UnexpectedToken):
        if error.token.type != "$END":
            at, got = error.token.start_pos or 0, repr(str(error.token))
        if "NAME" in error.expected:
            expected = "a mask's name, NOT, '2 OF (…)' or '('"
        else:
            expected = "'('" if "LPAR" in error.expected else "AND, MINUS, XOR, OR, ')' or the end"
    return MaskError(f"cannot read the expression at {Span(at + 1, at + 2, text)}; got {got}, expected {expected}; {_EXAMPLE}")


def parse(text: str) -> Expression:
    """Read an expression, in a time that grows with its length alone.

    Raises:
        MaskError: it cannot be read, a count is out of range, or it is nested deeper than `MAX_DEPTH`.
    """
    try:
        return _Build(text).transform(_parser().parse(text))
    except UnexpectedInput as error:
        raise _unreadable(text, error) from None
    except VisitError as error:
        raise error.orig_exc from None


def _leaves(expression: Expression) -> Iterator[Name]:
    if isinstance(expression, Name):
        yield expression
    for part in expression.parts:
        yield from _leaves(part)


def names_in(expression: Expression) -> tuple[Name, ...]:
    """The names of an expression from left to right, each where it comes first."""
    return tuple(dict.fromkeys(_leaves(expression)))


def _spelled(name: str) -> str:
    """A name as it must be written: in quotes where it would read as something else."""
    if _PLAIN.fullmatch(name) and name.lower() not in _RESERVED:
        return name
    return f"'{name}'" if '"' in name else f'"{name}"'


_BINDS: dict[type[Expression], int] = {Or: 1, Xor: 2, And: 3, Not: 4}


def to_text(expression: Expression, binds: int = 0) -> str:
    """The expression in words, with no more brackets than it needs; parsed again it is the same tree.

    Args:
        expression: the tree.
        binds: how tightly what stands around it binds (0: nothing does); what binds less gets brackets.
    """
    mine = _BINDS.get(type(expression), 5)
    if mine < binds:
        return f"({to_text(expression)})"
    inner = partial(to_text, binds=mine + (mine < 4))
    match expression:
        case Name(name=name):
            return _spelled(name)
        case Not(operand=operand):
            return f"NOT {inner(operand)}"
        case AtLeast(count=count, operands=operands):
            return f"{count} OF ({', '.join(to_text(part) for part in operands)})"
        case And(operands=(first, *others)):
            rest = [f"MINUS {inner(part.operand)}" if isinstance(part, Not) else f"AND {inner(part)}" for part in others]
            return " ".join([inner(first), *rest])
        case _Several(operands=operands, word=word):
            return f" {word} ".join(inner(part) for part in operands)
    raise AssertionError(expression)


def _read_name(name: str) -> str:
    """What a name seems to say: `gr-asr-and-ser` → `gr-asr and ser`."""
    runs = groupby(name.split("-"), _RESERVED.__contains__)
    return " ".join((" " if reserved else "-").join(words) for reserved, words in runs)


def name_of(expression: Expression) -> str:
    """The name that the bank keeps an expression's mask by: another one for every other tree.

    `gr AND NOT asr` is `gr-minus-asr`. Where words joined by hyphens do not say which tree it is (brackets, versions, names
    that hold such words) or grow too long, `--` and a hash of the text follow; a name without `--` says the tree itself.
    """
    text = to_text(expression)
    name = re.sub(r"[^a-z0-9._+-]+", "-", text.lower().replace("@", ".")).strip("-._+") or "mask"
    if len(name) <= NAME_LENGTH and "--" not in name and not name.endswith(".safetensors"):
        try:
            if parse(_read_name(name)) == expression:
                return name
        except MaskError:
            pass
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{name[: NAME_LENGTH - 10].rstrip('-._+')}--{digest}"
