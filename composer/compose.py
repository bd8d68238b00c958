"""Composing from words: an expression over the names of a bank's masks."""

from ..lalm.identity import Identified, Identity
from ..mask_bank.bank import MaskBank
from ..mask_bank.mask import HeadMask
from .algebra import evaluate
from .expression import parse


def compose(expression: str, bank: MaskBank, model: Identity | Identified) -> HeadMask:
    """The mask that an expression stands for, such as `gr AND asr` or `2 OF (gr, asr, ser)`.

    Args:
        expression: see `composer.expression`.
        bank: where the names are looked up.
        model: the model that the masks belong to.

    Raises:
        MaskError: the expression cannot be read; the message names the column.
        BankError: a name is not in the bank.

    Example:
        >>> bank, model = amask.MaskBank.default(), amask.load_model("pocket")
        >>> mask = amask.compose("gr AND NOT asr", bank, model)
        >>> mask.heads_on == (bank.get("gr", model) - bank.get("asr", model)).heads_on
        True
    """
    return evaluate(parse(expression), lambda name: bank.get(name, model))
