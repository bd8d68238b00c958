"""Composing from words: an expression over the names of a bank's masks, and the search for a mask that does all of its tasks."""

from typing import overload

from ..data.manifest import Manifest
from ..errors import MaskError
from ..lalm.base import LALM
from ..lalm.identity import Identified, Identity
from ..mask_bank.bank import MaskBank
from ..mask_bank.mask import HeadMask
from .algebra import evaluate
from .composite import CompositeResult, Events, SearchOptions, Train, compose_task
from .expression import parse


@overload
def compose(expression: str, bank: MaskBank, model: Identity | Identified) -> HeadMask: ...


@overload
def compose(
    expression: str,
    bank: MaskBank,
    model: LALM,
    *,
    search: SearchOptions,
    data: Manifest,
    train: Train | None = None,
    events: Events | None = None,
) -> CompositeResult: ...


def compose(
    expression: str,
    bank: MaskBank,
    model: Identity | Identified,
    *,
    search: SearchOptions | None = None,
    data: Manifest | None = None,
    train: Train | None = None,
    events: Events | None = None,
) -> HeadMask | CompositeResult:
    """The mask that an expression stands for, such as `gr AND asr` or `2 OF (gr, asr, ser)`; or one that does all of its tasks.

    Args:
        expression: see `composer.expression`.
        bank: where the names are looked up.
        model: the model that the masks belong to; to search, a loaded one.
        search: look for a mask that does all tasks of the expression in one answer: in which form, on how many clips, and so on.
        data: clips with labels, to search.
        train: trains a mask from the best candidate where none reaches the target; None takes the best.
        events: called as the search goes on.

    Raises:
        MaskError: the expression cannot be read (the message names the column), or the tasks make no composite.
        BankError: a name is not in the bank.
        DataError: the data have no clips for the search.

    Example:
        >>> bank, model = amask.MaskBank.default(), amask.load_model("pocket")
        >>> mask = amask.compose("gr AND NOT asr", bank, model)
        >>> mask.heads_on == (bank.get("gr", model) - bank.get("asr", model)).heads_on
        True
    """
    tree = parse(expression)
    if search is None:
        return evaluate(tree, lambda name: bank.get(name, model))
    if not isinstance(model, LALM) or data is None:
        raise MaskError("a search answers clips; pass a loaded model, and clips with labels as data")
    return compose_task(model, bank, tree, data, search, train=train, events=events)
