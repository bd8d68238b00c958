"""Answers that keep a form: labels of a closed set, parts separated by bars, JSON objects.

A form is a grammar that llguidance holds decoding to, token by token. Open text within a form ends where the token budget
does: then only what leads to the end of the form is allowed, so an answer is never a broken object.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import llguidance
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from llguidance.hf import from_tokenizer
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedTokenizerBase

from ..data.tasks import BAR, TaskSpec
from ..errors import ModelError

# A JSON string's content: any character but quote, backslash and controls, or an escape that is no half of a pair.
JSON_TEXT = r'([^"\\\x00-\x1f\x7f]|\\["\\/bfnrt]|\\u([0-9a-cefA-CEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}))*'
PIPE_TEXT = r"[^|\n\r]*"
Endings = tuple[tuple[str, str], ...]
"""Marks that lead to the end, in the order of preference: what a token begins with, and what else may be in it."""
JSON_ENDINGS: Endings = (('"', '"]}'), ("]}", "]}"), (",", ", "))
PIPE_ENDINGS: Endings = ((BAR, BAR),)


@dataclass(frozen=True)
class AnswerForm:
    """The form that an answer is held to.

    Attributes:
        grammar: as llguidance reads it.
        endings: what leads to the end.
        room: tokens that labels, keys and marks need at most beyond open text.
    """

    grammar: str
    endings: Endings
    room: int

    def is_whole(self, answer: str) -> bool:
        """Whether an answer came to its end; JSON that a schema wants longer than there was room for did not."""
        if self.endings != JSON_ENDINGS:
            return True
        try:
            json.loads(answer)
        except (ValueError, RecursionError):
            return False
        return True


Forms = Sequence[AnswerForm | None] | None
_HELD: ContextVar[tuple[Sequence[AnswerForm | None], int] | None] = ContextVar("amask_forms", default=None)


@contextmanager
def held_to(forms: Forms, budget: int) -> Iterator[None]:
    """Within this context, and in this thread only, generations are held to these forms; see `processors`."""
    token = _HELD.set(None if forms is None or not any(forms) else (forms, budget))
    try:
        yield
    finally:
        _HELD.reset(token)


def processors(tokenizer: PreTrainedTokenizerBase, prompt: int, ends: Sequence[int]) -> LogitsProcessorList:
    """What transformers is given so that a generation keeps the forms of its context; nothing where there are none.

    Args:
        tokenizer: the model's.
        prompt: positions of the prompt in what transformers hands to processors.
        ends: the tokens that end an answer.
    """
    held = _HELD.get()
    return LogitsProcessorList([FormProcessor(tokenizer, held[0], prompt, held[1], ends)] if held else [])


def form_of(spec: TaskSpec) -> AnswerForm | None:
    """The form of a task's answers; None for a single task with open text, which has none."""
    if spec.form == "plain" and not spec.parts[0].labels:
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
    return AnswerForm(llguidance.LLMatcher.grammar_from_regex(pattern), endings, sum(longest) + marks)


def schema_form(schema: dict[str, Any], room: int = 256) -> AnswerForm:
    """The form of a JSON schema.

    Args:
        schema: as json-schema.org has it.
        room: tokens that an answer may take beyond its budget to come to its end, besides those that the schema spells out.

    Raises:
        ModelError: llguidance cannot follow it; the message says why.
    """
    plain = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    spelled = json.dumps(schema)
    grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema | {"x-guidance": plain}))
    wrong = llguidance.LLMatcher.validate_grammar(grammar)
    if wrong:
        raise ModelError(f"cannot hold answers to this schema: {wrong.splitlines()[0]}")
    return AnswerForm(grammar, JSON_ENDINGS, room + len(spelled.encode()))


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
        return from_tokenizer(cast(Any, tokenizer), n_vocab=width, eos_token=list(ends))
    except (ValueError, TypeError) as error:
        raise ModelError(f"answers of this model's tokenizer cannot be held to a form: {error}; say --free") from None


@lru_cache(maxsize=16)
def _made_of(tokenizer: Any, first: str, marks: str) -> Bool[np.ndarray, " token"]:  # noqa: ANN401
    """Which of a tokenizer's tokens begin with some marks and have no others: `", "` would end one text and begin another."""
    pieces = (tokenizer.decode_bytes([token]) for token in range(tokenizer.vocab_size))
    return np.array([bool(piece) and piece[0] in first.encode() and set(piece) <= set(marks.encode()) for piece in pieces])


class FormProcessor(LogitsProcessor):
    """Holds each row of a generation to its own form, beams included.

    A row without a form just ends at the budget, so that rows with and without one may share a batch.

    Args:
        tokenizer: the model's.
        forms: one a row; None for no form.
        prompt: positions of `input_ids` that belong to the prompt.
        budget: tokens of an answer after which open text ends.
        ends: the tokens that end an answer.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        forms: Sequence[AnswerForm | None],
        prompt: int,
        budget: int,
        ends: Sequence[int],
    ) -> None:
        self.tokenizer, self.forms, self.prompt, self.budget, self.ends = tokenizer, tuple(forms), prompt, budget, tuple(ends)
        self._matchers: dict[tuple[int, ...], Any] = {}  # (row, tokens of its answer so far) → llguidance's state

    def __call__(self, input_ids: Int[Tensor, "beam position"], scores: Float[Tensor, "beam token"]) -> Tensor:
        """The scores with minus infinity where a token would leave a row's form."""
        beams, width = len(input_ids) // len(self.forms), scores.shape[1]
        kept: dict[tuple[int, ...], Any] = {}
        ended = set(self.ends)
        allowed = np.ones((len(input_ids), width), bool)
        for at, tokens in enumerate(input_ids[:, self.prompt :].tolist()):
            form, spent = self.forms[at // beams], len(tokens) >= self.budget
            if not ended.isdisjoint(tokens) or (form is None and spent):
                allowed[at] = self._stops(width)
            elif form is not None:
                key = (at // beams, *tokens)
                kept[key] = self._matcher(form, key, width)
                allowed[at] = self._allowed(kept[key], width, form.endings if spent else ())
        self._matchers = kept
        return scores.masked_fill(~torch.from_numpy(allowed).to(scores.device), -torch.inf)

    def _stops(self, width: int) -> Bool[np.ndarray, " token"]:
        """The tokens that end an answer."""
        stops = np.zeros(width, bool)
        stops[list(self.ends)] = True
        return stops

    def _matcher(self, form: AnswerForm, key: tuple[int, ...], width: int) -> Any:  # noqa: ANN401 - llguidance's
        if len(key) == 1:
            return llguidance.LLMatcher(_tokens(self.tokenizer, width, self.ends), form.grammar)
        matcher = self._matchers[key[:-1]].deep_copy()
        matcher.consume_token(key[-1])
        return matcher

    def _allowed(self, matcher: Any, width: int, endings: Endings) -> Bool[np.ndarray, " token"]:  # noqa: ANN401
        """The tokens that keep the form; where endings are named, the answer must end: those that lead there soonest."""
        stops = self._stops(width)
        if matcher.is_stopped():  # the form is complete
            return stops
        bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(bits, bitorder="little")[:width].astype(bool)
        allowed = np.pad(allowed, (0, width - len(allowed)))
        held = _tokens(self.tokenizer, width, self.ends)
        for way in (stops, *(_made_of(held, *ending) for ending in endings)) if endings else ():
            if (allowed & way).any():
                return allowed & way
        return allowed
