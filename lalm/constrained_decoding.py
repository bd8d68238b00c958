"""Constrained decoding: labels of a closed set, parts separated by bars, JSON objects.

A constraint is a grammar that llguidance applies to decoding, token by token. Open text within it ends where the token
budget does: then only what leads to the end of the grammar is allowed, so an answer is never a broken object.
"""

import itertools
import json
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import llguidance
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from llguidance.hf import from_tokenizer
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedTokenizerBase

from ..data.tasks import BAR, TaskSpec
from ..errors import DataError, ModelError
from .text_follower import TextFollower

# A JSON string's content: any character but quote, backslash and controls, or an escape that is no half of a pair.
JSON_TEXT = r'([^"\\\x00-\x1f\x7f]|\\["\\/bfnrt]|\\u([0-9a-cefA-CEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}))*'
PIPE_TEXT = r"[^|\n\r]*"
MAX_ANSWERS = 64  # of a closed set whose likelihoods are compared
Endings = tuple[tuple[str, str], ...]
"""Marks that lead to the end, in the order of preference: what a token begins with, and what else may be in it."""
JSON_ENDINGS: Endings = (('"', '"]}'), ("]}", "]}"), (",", ", "))
PIPE_ENDINGS: Endings = ((BAR, BAR),)


@dataclass(frozen=True)
class Constraint:
    """What an answer is constrained to.

    Attributes:
        grammar: as llguidance reads it.
        endings: what leads to the end.
        extra_tokens: tokens that labels, keys and marks need at most beyond open text.
        answers: all that the grammar allows, where it is a closed set of at most `MAX_ANSWERS`; the likeliest of them is then
            the answer, and the grammar is not needed.
    """

    grammar: str
    endings: Endings
    extra_tokens: int
    answers: tuple[str, ...] = ()

    def is_complete(self, answer: str) -> bool:
        """Whether an answer came to its end; JSON that a schema wants longer than there were tokens for did not."""
        if self.endings != JSON_ENDINGS:
            return True
        try:
            json.loads(answer)
        except (ValueError, RecursionError):
            return False
        return True


Constraints = Sequence[Constraint | None] | None


@dataclass(frozen=True)
class _Active:
    """What holds for the generations of a context."""

    constraints: Sequence[Constraint | None]
    budget: int
    recorder: "ProbabilityRecorder | None"
    follower: TextFollower | None


_ACTIVE: ContextVar[_Active | None] = ContextVar("amask_constraints", default=None)


@contextmanager
def constrained_to(
    constraints: Constraints,
    budget: int,
    recorder: "ProbabilityRecorder | None" = None,
    follower: TextFollower | None = None,
) -> Iterator[None]:
    """Within this context, and in this thread only, generations are held to these constraints; see `logits_processors`.

    Args:
        constraints: one a row; None for none.
        budget: tokens of an answer after which open text ends.
        recorder: takes down the probabilities of greedily chosen tokens.
        follower: tells answers while they are decoded.
    """
    token = _ACTIVE.set(_Active(tuple(constraints or ()), budget, recorder, follower))
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def is_constrained() -> bool:
    """Whether generations of this context are held to any constraint."""
    active = _ACTIVE.get()
    return active is not None and any(active.constraints)


def logits_processors(tokenizer: PreTrainedTokenizerBase, prompt: int, ends: Sequence[int]) -> LogitsProcessorList:
    """What transformers is given so that a generation keeps the constraints of its context; nothing where there are none.

    Args:
        tokenizer: the model's.
        prompt: positions of the prompt in what transformers hands to processors.
        ends: the tokens that end an answer.
    """
    active = _ACTIVE.get()
    found = LogitsProcessorList()
    if active and any(active.constraints):
        found.append(ConstraintProcessor(tokenizer, active.constraints, prompt, active.budget, ends))
    if active and active.follower:
        active.follower.prompt = prompt
        found.append(active.follower)
    if active and active.recorder:
        active.recorder.inner = found
        return LogitsProcessorList([active.recorder])
    return found


class ProbabilityRecorder(LogitsProcessor):
    """Takes down how probable the model finds each token that greedy search chooses, before any constraint.

    Attributes:
        inner: the processors whose result is chosen from.
    """

    def __init__(self) -> None:
        self.inner = LogitsProcessorList()
        self._steps: list[Float[Tensor, " row"]] = []

    def __call__(self, input_ids: Int[Tensor, "row position"], scores: Float[Tensor, "row token"]) -> Tensor:
        """What the inner processors make of the scores."""
        found = self.inner(cast(torch.LongTensor, input_ids), scores)
        chosen = scores.gather(1, found.argmax(1, keepdim=True))[:, 0]
        self._steps.append((chosen.float() - scores.float().logsumexp(1)).exp())
        return found

    def means(self, ids: Int[Tensor, "row token"], ends: Sequence[int]) -> list[float | None]:
        """The mean probability of each row's tokens, its end included; None where nothing was taken down.

        Args:
            ids: the generated tokens.
            ends: those that end an answer; what stands behind one is padding.
        """
        if len(self._steps) != ids.shape[1]:
            return [None] * len(ids)
        over = torch.isin(ids, torch.tensor(list(ends), device=ids.device)).long()
        real = (over.cumsum(1) - over) == 0
        probabilities = torch.stack(self._steps, 1).to(ids.device)
        return ((probabilities * real).sum(1) / real.sum(1)).tolist()


def task_constraint(spec: TaskSpec) -> Constraint | None:
    """The constraint of a task's answers; None for a single task with open text, which has none."""
    if spec.form == "plain" and not spec.labels:
        return None
    values = [_value(part.labels, spec.form) for part in spec.parts]
    if spec.form == "json":
        keys = [re.escape(_quoted(key)) for key in spec.json_keys]
        pairs = [f"{key}: {value}" for key, value in zip(keys, values, strict=True)]
        pattern = r"\{" + ", ".join(pairs) + r"\}"
    else:
        pattern = re.escape(BAR).join(values)
    longest = [max((len(_quoted(label).encode()) for label in part.labels), default=2) for part in spec.parts]
    marks = sum(len(_quoted(key).encode()) + 4 for key in spec.json_keys) + 8
    endings = JSON_ENDINGS if spec.form == "json" else PIPE_ENDINGS
    # Many tokenizers begin a text with a space, and a word's token without one is another.
    return Constraint(llguidance.LLMatcher.grammar_from_regex(" ?" + pattern), endings, sum(longest) + marks, _closed_set(spec))


def _closed_set(spec: TaskSpec) -> tuple[str, ...]:
    """All answers of a task whose parts all have labels; none where they are too many or one part is open."""
    if not 0 < math.prod(len(part.labels) for part in spec.parts) <= MAX_ANSWERS:
        return ()
    choices = itertools.product(*(part.labels for part in spec.parts))
    return tuple(spec.target(dict(zip(spec.names, labels, strict=True))) for labels in choices)


def schema_constraint(schema: dict[str, Any], extra_tokens: int = 256) -> Constraint:
    """The constraint of a JSON schema.

    Args:
        schema: as json-schema.org has it.
        extra_tokens: tokens that an answer may take beyond its budget to come to its end, besides those
            that the schema spells out.

    Raises:
        ModelError: llguidance cannot follow it; the message says why.
    """
    loose = _unanchored(schema)
    if loose:
        raise ModelError(
            f"cannot hold answers to this schema: its pattern {loose!r} may match anywhere in a text, and decoding cannot be led "
            f"to that; anchor it: '^{loose}$'"
        )
    plain = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    spelled = json.dumps(schema)
    grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema | {"x-guidance": plain}))
    wrong = llguidance.LLMatcher.validate_grammar(grammar)
    if wrong:
        reason = "oneOf cannot be followed; write anyOf" if "one_of" in wrong else wrong.splitlines()[0]
        raise ModelError(f"cannot hold answers to this schema: {reason}")
    return Constraint(grammar, JSON_ENDINGS, extra_tokens + len(spelled.encode()))


def parse_schema(text: bytes, source: str) -> dict[str, Any]:
    """A JSON schema from a file's content, with or without a byte order mark.

    Args:
        text: the content.
        source: what messages call it.

    Raises:
        DataError: it is no JSON, or no object.
    """
    try:
        schema = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source} is no JSON: {error}; expected a JSON schema") from None
    if not isinstance(schema, dict):
        raise DataError(f"{source} holds a {type(schema).__name__}; expected a JSON schema, which is an object")
    return schema


def _unanchored(schema: object) -> str:
    """The first pattern in a schema that may match anywhere in a text; empty where there is none."""
    if isinstance(schema, dict):
        pattern = schema.get("pattern")
        if isinstance(pattern, str) and not (pattern.startswith("^") and pattern.endswith("$")):
            return pattern
    inner = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    return next((found for found in map(_unanchored, inner) if found), "")


def _quoted(label: str) -> str:
    return json.dumps(label, ensure_ascii=False)


def _value(labels: Sequence[str], form: str) -> str:
    """The pattern of one part's answer."""
    if not labels:
        return f'"{JSON_TEXT}"' if form == "json" else PIPE_TEXT
    spelled = [_quoted(label) if form == "json" else label for label in labels]
    return f"({'|'.join(map(re.escape, spelled))})"


@lru_cache(maxsize=4)
def _tokens(tokenizer: PreTrainedTokenizerBase, width: int, ends: tuple[int, ...]) -> Any:  # noqa: ANN401 - llguidance's
    """A tokenizer as llguidance has it."""
    try:
        return from_tokenizer(cast(Any, _without_prefix_space(tokenizer)), n_vocab=width, eos_token=list(ends))
    except (ValueError, TypeError) as error:
        raise ModelError(f"answers of this model's tokenizer cannot be constrained: {error}; use --unconstrained") from None


def _without_prefix_space(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer, or a copy that puts no space before a text.

    llguidance tokenizes what a grammar allows only one spelling of, in the middle of an answer, and would allow a token with
    a space there, which the grammar then refuses.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = json.loads(backend.to_str()) if backend else {}
    whole = content.get("pre_tokenizer") or {}
    spaced = [part for part in (whole, *whole.get("pretokenizers", ())) if part.get("add_prefix_space")]
    if not spaced:
        return tokenizer
    for part in spaced:
        part["add_prefix_space"] = False
    found = deepcopy(tokenizer)
    cast(Any, found)._tokenizer = Tokenizer.from_str(json.dumps(content))
    return found


@lru_cache(maxsize=16)
def _made_of(tokenizer: Any, first: str, marks: str) -> Bool[np.ndarray, " token"]:  # noqa: ANN401
    """Which of a tokenizer's tokens begin with some marks and have no others: `", "` would end one text and begin another."""
    pieces = (tokenizer.decode_bytes([token]) for token in range(tokenizer.vocab_size))
    return np.array([bool(piece) and piece[0] in first.encode() and set(piece) <= set(marks.encode()) for piece in pieces])


class ConstraintProcessor(LogitsProcessor):
    """Holds each row of a generation to its own constraint, beams included.

    A row without a constraint just ends at the budget, so that rows with and without one may share a batch.

    Args:
        tokenizer: the model's.
        constraints: one a row; None for none.
        prompt: positions of `input_ids` that belong to the prompt.
        budget: tokens of an answer after which open text ends.
        ends: the tokens that end an answer.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        constraints: Sequence[Constraint | None],
        prompt: int,
        budget: int,
        ends: Sequence[int],
    ) -> None:
        self.tokenizer, self.constraints, self.prompt, self.budget, self.ends = (
            tokenizer,
            tuple(constraints),
            prompt,
            budget,
            tuple(ends),
        )
        self._matchers: dict[tuple[int, ...], Any] = {}  # (row, tokens of its answer so far) → llguidance's state

    def __call__(self, input_ids: Int[Tensor, "beam position"], scores: Float[Tensor, "beam token"]) -> Tensor:
        """The scores with minus infinity where a token would violate a row's constraint."""
        beams, width = len(input_ids) // len(self.constraints), scores.shape[1]
        kept: dict[tuple[int, ...], Any] = {}
        ended = set(self.ends)
        allowed = np.ones((len(input_ids), width), bool)
        for at, tokens in enumerate(input_ids[:, self.prompt :].tolist()):
            constraint, spent = self.constraints[at // beams], len(tokens) >= self.budget
            if not ended.isdisjoint(tokens) or (constraint is None and spent):
                allowed[at] = self._stops(width)
            elif constraint is not None:
                key = (at // beams, *tokens)
                kept[key] = self._matcher(constraint, key, width)
                allowed[at] = self._allowed(kept[key], width, constraint.endings if spent else ())
        self._matchers = kept
        return scores.masked_fill(~torch.from_numpy(allowed).to(scores.device), -torch.inf)

    def _stops(self, width: int) -> Bool[np.ndarray, " token"]:
        """The tokens that end an answer."""
        stops = np.zeros(width, bool)
        stops[list(self.ends)] = True
        return stops

    def _matcher(self, constraint: Constraint, key: tuple[int, ...], width: int) -> Any:  # noqa: ANN401 - llguidance's
        if len(key) == 1:
            return llguidance.LLMatcher(_tokens(self.tokenizer, width, self.ends), constraint.grammar)
        matcher = self._matchers[key[:-1]].deep_copy()
        matcher.consume_token(key[-1])
        return matcher

    def _allowed(self, matcher: Any, width: int, endings: Endings) -> Bool[np.ndarray, " token"]:  # noqa: ANN401
        """The tokens that the grammar allows; where endings are named, the answer must end: those that lead there soonest."""
        stops = self._stops(width)
        if matcher.is_stopped():  # the grammar is complete
            return stops
        bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(bits, bitorder="little")[:width].astype(bool)
        allowed = np.pad(allowed, (0, width - len(allowed)))
        held = _tokens(self.tokenizer, width, self.ends)
        for way in (stops, *(_made_of(held, *ending) for ending in endings)) if endings else ():
            if (allowed & way).any():
                return allowed & way
        return allowed
