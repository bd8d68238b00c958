"""The text around the audio, read from a model's own chat format.

What a chat template writes is not all that reaches a model: processors put marks around the audio, some write its length
behind it, tokenizers put a token in front of everything. So the format is rendered with two silent clips of different
length: what is the same in both is the text around the audio, what differs belongs to the clip.
"""

import re
from collections.abc import Callable
from itertools import takewhile
from typing import Any

from transformers import PreTrainedTokenizerBase, ProcessorMixin

from ..errors import ModelError
from .batching import PromptTemplate

MARK = "INSTRUCTION"
REPLY = "REPLY"
# The date is part of some formats; a fixed one, so that the fingerprint is the same every day.
TODAY, SOME_DAY = re.compile(r"strftime_now\([^)]*\)"), "January 1, 2025"
SECONDS = (1.23, 1.87)  # two lengths that share no digit in any place


def render_chat(processor: ProcessorMixin, audio: str, reply: str | None = None) -> str:
    """A user's turn with audio and `MARK` for a prompt, and the model's reply or the beginning of its turn.

    A processor's chat template takes parts, a tokenizer's takes text; without either it is the audio and then the words.

    Args:
        processor: the model's.
        audio: the token that stands for audio.
        reply: the model's reply; None for the beginning of its turn.
    """
    content: Any = audio + MARK
    answer: Any = reply
    source: Any = processor.tokenizer
    if getattr(processor, "chat_template", None):
        content = [{"type": "audio", "audio": "clip.wav"}, {"type": "text", "text": MARK}]
        answer, source = [{"type": "text", "text": reply}], processor
    elif not getattr(processor.tokenizer, "chat_template", None):
        return audio + MARK + (reply or "")
    turns = [{"role": "user", "content": content}]
    if reply is not None:
        turns.append({"role": "assistant", "content": answer})
    template = source.chat_template
    if isinstance(template, str):
        template = TODAY.sub(repr(SOME_DAY), template)
    return source.apply_chat_template(turns, template, tokenize=False, add_generation_prompt=reply is None)


class ChatFormat:
    """A user's turn with audio and a prompt, and the beginning of the model's turn.

    Args:
        render: reply or None → a turn as text, as `render_chat` makes it.
        tokens: text → token ids.
        prepare: a text with one placeholder, seconds → the ids that the processor makes of it and so much audio.
        tokenizer: names special tokens.
        placeholder: id of the token that stands for audio.

    Attributes:
        before, after: the ids that are the same for all clips without prompt.
        template: the turn as the model sees it, around the audio, with a place for the prompt if there is one.
        end_token: what the format writes behind an answer; else the tokenizer's end token.

    Raises:
        ModelError: the format has audio not once, or after the words, or its tokens depend on what stands beside them.
    """

    def __init__(
        self,
        render: Callable[[str | None], str],
        tokens: Callable[[str], list[int]],
        prepare: Callable[[str, float], list[int]],
        tokenizer: PreTrainedTokenizerBase,
        placeholder: int,
    ) -> None:
        self._audio = str(tokenizer.convert_ids_to_tokens(placeholder))
        self._before, found, self._after = render(None).partition(self._audio)
        if not found or self._audio in self._after or MARK in self._before:
            raise ModelError(f"the chat format does not write {self._audio} once and then the words: {render(None)!r}")
        one, other = (prepare(self.frame(), seconds) for seconds in SECONDS)
        self.before = one[: one.index(placeholder)]
        behind = takewhile(lambda pair: pair[0] == pair[1] != placeholder, zip(one[::-1], other[::-1], strict=False))
        self.after = [token for token, _ in behind][::-1]
        closing = tokens(render(REPLY).rpartition(REPLY)[2].lstrip())
        self.end_token = int(closing[0] if closing and closing[0] in tokenizer.all_special_ids else tokenizer.eos_token_id)
        end = str(tokenizer.convert_ids_to_tokens(self.end_token))
        before, after = (_text(ids, tokens, tokenizer) for ids in (self.before, self.after))
        self.template = PromptTemplate(before, self._behind(after), end)

    def frame(self, prompt: str = "") -> str:
        """What the processor is given for a clip: the turn with one placeholder."""
        return self._before + self._audio + self._after.replace(MARK, prompt)

    def _behind(self, text: str) -> str:
        """What follows the audio, and what its processor put there, with a place for the prompt."""
        plain = self._after.replace(MARK, "")
        if text.endswith(plain):
            behind = text.removesuffix(plain) + self._after
        else:  # the clip's own part reaches into the text
            behind = self._after[len(plain) - len(text) :]
            if behind.replace(MARK, "") != text:
                raise ModelError(f"the chat format's {self._after!r} reaches the model as {text!r}")
        return behind.replace("{", "{{").replace("}", "}}").replace(MARK, "{}")


def _text(ids: list[int], tokens: Callable[[str], list[int]], tokenizer: PreTrainedTokenizerBase) -> str:
    """The text that becomes these tokens, special ones too."""
    text = str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
    if tokens(text) != ids:
        raise ModelError(f"the chat format's {text!r} becomes other tokens beside audio than alone")
    return text
