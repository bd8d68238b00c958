"""The one loop that answers many clips, a batch at a time."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from ..errors import ModelError
from .assembly import AudioFeatures
from .forms import AnswerForm, Forms

MAX_NEW_TOKENS = 200
"""Tokens after which an answer is cut, unless the caller says otherwise; some 150 English words."""


@dataclass(frozen=True)
class Answer:
    """What a model says of one clip.

    Attributes:
        text: without special tokens.
        cut: whether the model had not come to an end when it had no tokens left.
    """

    text: str
    cut: bool = False


@runtime_checkable
class Answering(Protocol):
    """What answers one batch: a `LALM`."""

    def answer(
        self,
        features: AudioFeatures,
        gates: Float[Tensor, "layer head"] | Float[Tensor, "row layer head"] | None,
        instructions: str | Sequence[str] | None,
        *,
        max_new_tokens: int,
        beams: int,
        forms: Forms = None,
    ) -> list[Answer]:
        """See `LALM.answer`."""


@runtime_checkable
class Rows(Protocol):
    """Features of clips by their numbers, such as `AudioFeatures`."""

    def __len__(self) -> int:
        """How many clips there are."""

    def rows(self, chosen: list[int]) -> AudioFeatures:
        """Those of some clips, in the given order."""


def in_batches(features: Rows, size: int) -> Iterator[AudioFeatures]:
    """All rows in order, some at a time; none is asked for before its turn."""
    for start in range(0, len(features), size):
        yield features.rows(list(range(start, min(start + size, len(features)))))


def answers(
    model: Answering,
    batches: Iterable[AudioFeatures],
    gates: Float[Tensor, "layer head"] | Float[Tensor, "clip layer head"] | None = None,
    instructions: str | Sequence[str] | None = None,
    *,
    max_new_tokens: int = MAX_NEW_TOKENS,
    beams: int = 1,
    form: AnswerForm | None = None,
) -> Iterator[Answer]:
    """Answer clips batch by batch; nothing is encoded or answered before its answer is asked for.

    Args:
        model: a `LALM`.
        batches: encoded clips, such as `in_batches(features, 16)`, or a generator that reads and encodes them as it goes.
        gates: head gates between 0 and 1, for all clips, or for each clip of all batches in their order.
        instructions: one for all clips, one for each clip of all batches, or none.
        max_new_tokens: where an answer is cut; an `Answer` says whether it was.
        beams: 1 for greedy search.
        form: the form that all answers are held to; None for what the model says by itself.

    Yields:
        An answer for each clip, in order.

    Raises:
        ModelError: gates or instructions are not as many as the clips, or gates do not fit the model.
    """
    own_gates = gates if gates is not None and gates.dim() == 3 else None
    own_words = None if isinstance(instructions, str | None) else instructions
    done = 0
    for features in batches:
        rows = slice(done, done + len(features))
        some = gates if own_gates is None else own_gates[rows]
        words = instructions if own_words is None else own_words[rows]
        held = {"forms": [form] * len(features)} if form else {}
        yield from model.answer(features, some, words, max_new_tokens=max_new_tokens, beams=beams, **held)
        done = rows.stop
    for given, kind in ((own_gates, "gates"), (own_words, "instructions")):
        if given is not None and len(given) != done:
            raise ModelError(f"got {kind} for {len(given)} clips and audio of {done}; give one for all or one a clip")
