"""Boolean expressions over masks: `gr AND asr`, `gr | asr`, `asr MINUS gr`, `NOT gr`, `2 OF (gr, asr, ser)`."""

from collections.abc import Callable
from functools import cache, reduce
from itertools import combinations
from operator import and_, or_
from typing import Any

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedInput, VisitError

from ..errors import MaskError
from ..mask_bank.mask import HeadMask

GRAMMAR = r"""
?start: either
?either: exclusive | either _OR exclusive -> union
?exclusive: both | exclusive _XOR both -> difference
?both: term | both _AND term -> intersection | both _MINUS term -> without
?term: NAME -> mask | _NOT term -> complement | "(" either ")" | COUNT _OF "(" either ("," either)+ ")" -> votes
_OR.2: /OR\b/i | "|"
_XOR.2: /XOR\b/i | "^"
_AND.2: /AND\b/i | "&"
_MINUS.2: /MINUS\b/i
_NOT.2: /NOT\b/i | "~"
_OF.2: /OF\b/i
COUNT.2: /[0-9]+(?=\s+OF\b)/i
NAME: /[a-z0-9][a-z0-9._+-]*(@[0-9]+)?/i
%ignore /\s+/
"""


@cache
def _parser() -> Lark:
    return Lark(GRAMMAR, parser="lalr")


class _Evaluate(Transformer):
    """Evaluates an expression's tree; each operator is the mask operation of that name."""

    def __init__(self, lookup: Callable[[str], HeadMask]) -> None:
        super().__init__()
        self.lookup = lookup

    def mask(self, children: list[Token]) -> HeadMask:
        return self.lookup(str(children[0]))

    def union(self, children: list[HeadMask]) -> HeadMask:
        return children[0] | children[1]

    def difference(self, children: list[HeadMask]) -> HeadMask:
        return children[0] ^ children[1]

    def intersection(self, children: list[HeadMask]) -> HeadMask:
        return children[0] & children[1]

    def without(self, children: list[HeadMask]) -> HeadMask:
        return children[0] - children[1]

    def complement(self, children: list[HeadMask]) -> HeadMask:
        return ~children[0]

    def votes(self, children: list[Any]) -> HeadMask:
        return at_least(int(children[0]), children[1:])


def at_least(count: int, masks: list[HeadMask]) -> HeadMask:
    """Heads that are on in at least `count` of some masks.

    Raises:
        MaskError: the count is not between 1 and the number of masks.
    """
    if not 1 <= count <= len(masks):
        raise MaskError(f"'{count} OF' {len(masks)} masks: the count must be from 1 to {len(masks)}")
    several = reduce(or_, (reduce(and_, chosen) for chosen in combinations(masks, count)))
    lineage = {"operation": f"{count} of", "parents": [mask.reference() for mask in masks]}
    return several.with_(lineage=lineage)


def evaluate(expression: str, lookup: Callable[[str], HeadMask]) -> HeadMask:
    """The mask that an expression stands for.

    NOT binds most, then AND and MINUS, then XOR, then OR; words may be small or capital letters.

    Args:
        expression: e.g. `gr AND asr`.
        lookup: name → mask; called once for each name in the expression.

    Raises:
        MaskError: the expression cannot be read, or masks of different models meet.
    """
    try:
        tree = _parser().parse(expression)
    except UnexpectedInput as error:
        column = getattr(error, "column", -1)
        place = f"at column {column}" if column > 0 else "at its end"
        example = "write it like 'gr AND asr' or 'NOT (gr OR ser)'"
        raise MaskError(f"cannot read the expression {expression!r} {place}; {example}") from None
    try:
        return _Evaluate(lookup).transform(tree)
    except VisitError as error:
        raise error.orig_exc from None


def names_in(expression: str) -> list[str]:
    """The mask names of an expression, in order, each once."""
    found: list[str] = []

    class Collect(Transformer):
        def mask(self, children: list[Token]) -> None:
            if str(children[0]) not in found:
                found.append(str(children[0]))

    try:
        Collect().transform(_parser().parse(expression))
    except UnexpectedInput:
        return []
    return found
