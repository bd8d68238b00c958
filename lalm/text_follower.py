"""Answers while they are decoded: each row's text so far, for whoever streams it."""

from collections.abc import Callable, Sequence
from os.path import commonprefix

from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessor

Listener = Callable[[str], object]
"""Is told the text so far, whenever there is more of it; that is a beginning of the answer's text."""
Listeners = Sequence[Listener | None] | None


class TextFollower(LogitsProcessor):
    """Tells listeners the text of their rows at each step of a greedy generation, and changes no score.

    What is told is what the last two steps have in common, as the next token may change the end of a text: bytes of one
    letter, spaces before punctuation.

    Args:
        decode: tokens of rows → their texts.
        listeners: one a row; None for none.
    """

    prompt = 0  # positions of `input_ids` that belong to the prompt

    def __init__(self, decode: Callable[[Tensor], list[str]], listeners: Sequence[Listener | None]) -> None:
        self.decode = decode
        self._listeners = {row: listener for row, listener in enumerate(listeners) if listener is not None}
        self._before: dict[int, str] = {}
        self._told: dict[int, str] = {}

    def __call__(self, input_ids: Int[Tensor, "row position"], scores: Float[Tensor, "row token"]) -> Tensor:
        """The scores as they are."""
        rows = list(self._listeners)
        for row, text in zip(rows, self.decode(input_ids[rows, self.prompt :]), strict=True):
            now = text.strip()
            sure = commonprefix([self._before.get(row, ""), now]).rstrip("\ufffd").rstrip()
            self._before[row] = now
            if len(sure) > len(self._told.get(row, "")):
                self._told[row] = sure
                self._listeners[row](sure)
        return scores
