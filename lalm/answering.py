"""The one loop that answers many clips, a batch at a time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

from ..errors import ModelError
from .batching import AudioFeatures
from .constrained_decoding import Constraint, Constraints
from .gating import GatesLike, HasGates, as_gates

MAX_NEW_TOKENS = 200
"""Tokens after which an answer is truncated, unless the caller says otherwise; some 150 English words."""


@dataclass(frozen=True)
class Answer:
    """What a model says of one clip.

    Attributes:
        text: without special tokens.
        truncated: whether it had not come to its end when the token limit was reached.
        confidence: of an answer from a closed set, its probability among all of them; of any other, the mean probability of
            its tokens, where that was asked for.
        probabilities: of an answer from a closed set, that of each of them.
    """

    text: str
    truncated: bool = False
    confidence: float | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class Answering(Protocol):
    """What answers one batch: a `LALM`."""

    def answer(
        self,
        features: AudioFeatures,
        gates: GatesLike,
        prompts: str | Sequence[str] | None,
        *,
        max_new_tokens: int,
        beams: int,
        constraints: Constraints = None,
        confidence: bool = False,
    ) -> list[Answer]:
        """See `LALM.answer`."""


def texts(answers: Iterable[Answer]) -> list[str]:
    """What some answers say."""
    return [answer.text for answer in answers]


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
    gates: GatesLike = None,
    prompts: str | Sequence[str] | None = None,
    *,
    max_new_tokens: int = MAX_NEW_TOKENS,
    beams: int = 1,
    constraint: Constraint | None = None,
    confidence: bool = False,
) -> Iterator[Answer]:
    """Answer clips batch by batch; nothing is encoded or answered before its answer is asked for.

    Args:
        model: a `LALM`.
        batches: encoded clips, such as `in_batches(features, 16)`, or a generator that reads and encodes them as it goes.
        gates: head gates between 0 and 1, for all clips, or for each clip of all batches in their order.
        prompts: one for all clips, one for each clip of all batches, or none.
        max_new_tokens: where an answer is truncated; an `Answer` says whether it was.
        beams: 1 for greedy search.
        constraint: the constraint that all answers are held to; None for unconstrained ones.
        confidence: whether open answers get one, see `Answer`.

    Yields:
        An answer for each clip, in order.

    Raises:
        ModelError: gates or prompts are not as many as the clips, or gates do not fit the model.
    """
    if not isinstance(gates, HasGates):  # a mask is left to the model, which knows whether it is its own
        gates = as_gates(gates)
    own_gates = gates if isinstance(gates, Tensor) and gates.dim() == 3 else None
    own_words = None if isinstance(prompts, str | None) else prompts
    done = 0
    for features in batches:
        rows = slice(done, done + len(features))
        some = gates if own_gates is None else own_gates[rows]
        words = prompts if own_words is None else own_words[rows]
        yield from model.answer(
            features,
            some,
            words,
            max_new_tokens=max_new_tokens,
            beams=beams,
            constraints=[constraint] * len(features) if constraint else None,
            confidence=confidence,
        )
        done = rows.stop
    for given, kind in ((own_gates, "gates"), (own_words, "prompts")):
        if given is not None and len(given) != done:
            raise ModelError(f"got {kind} for {len(given)} clips and audio of {done}; give one for all or one a clip")
