"""The text around the audio, read from a processor's own chat format.

What a chat template writes is not all that reaches a model: processors put marks around the audio, tokenizers put a
token in front of everything. So the format is rendered once with a silent clip, and template and tokens must agree.
"""

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

from ..errors import ModelError
from .assembly import PromptTemplate

MARK = "INSTRUCTION"
REPLY = "REPLY"
Ask = Callable[[list[str], Sequence[np.ndarray]], BatchFeature]


class Turns:
    """A user's turn with audio and an instruction, and the beginning of the model's turn.

    Attributes:
        template: the turn as the model sees it, around the audio, with a place for the instruction.
    """

    def __init__(self, processor: ProcessorMixin, tokenizer: PreTrainedTokenizerBase, placeholder: int, ask: Ask) -> None:
        self.processor, self.tokenizer, self.placeholder = processor, tokenizer, placeholder
        self.token = tokenizer.convert_ids_to_tokens(placeholder)
        self._before, found, self._after = self._render().partition(self.token)
        if not found or self.token in self._after or MARK not in self._after:
            raise ModelError(f"{type(processor).__name__}: its chat template does not write {self.token} once, then the words")
        rate = getattr(getattr(processor, "feature_extractor", None), "sampling_rate", 16_000)
        ids = ask([self.frame()], [np.zeros(rate, np.float32)])["input_ids"][0].tolist()
        first, last = ids.index(placeholder), len(ids) - ids[::-1].index(placeholder)
        plain = self._after.replace(MARK, "")
        start, end = self._around(ids[:first], self._before), self._around(ids[last:], plain)
        behind = _braced(end.removesuffix(plain) + self._after).replace(MARK, "{}")
        self.template = PromptTemplate(start, behind, self._convert(self.end_token))

    def frame(self, instruction: str = "") -> str:
        """What the processor is given for a clip: the turn with one placeholder."""
        return self._before + self.token + self._after.replace(MARK, instruction)

    def _render(self, reply: str | None = None) -> str:
        """A turn of the user's, and perhaps the model's reply; without a chat template the audio and then the words."""
        if not getattr(self.processor, "chat_template", None):
            return self.token + MARK + (reply or "")
        parts = [{"type": "audio", "audio": "clip.wav"}, {"type": "text", "text": MARK}]
        turns = [{"role": "user", "content": parts}]
        if reply is not None:
            turns.append({"role": "assistant", "content": [{"type": "text", "text": reply}]})
        return self.processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=reply is None)

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _convert(self, token: int) -> str:
        return self.tokenizer.convert_ids_to_tokens(token)

    def _around(self, ids: list[int], text: str) -> str:
        """A text together with the special tokens that were put on either side of it."""
        inner = self._ids(text)
        at = next((at for at in range(len(ids) - len(inner) + 1) if ids[at : at + len(inner)] == inner), None)
        whole = text
        if at is not None:
            left, right = ids[:at], ids[at + len(inner) :]
            whole = "".join(map(self._convert, left)) + text + "".join(map(self._convert, right))
        if at is None or self._ids(whole) != ids:
            raise ModelError(f"{type(self.processor).__name__}: {text!r} becomes other tokens beside audio than alone")
        return whole

    @cached_property
    def end_token(self) -> int:
        """The token behind the model's reply, as its chat template writes it; else the tokenizer's end token."""
        _, _, behind = self._render(REPLY).rpartition(REPLY)
        ids = self._ids(behind.lstrip())
        special = ids[0] if ids and ids[0] in self.tokenizer.all_special_ids else self.tokenizer.eos_token_id
        return int(special)


def _braced(text: str) -> str:
    """Literal braces, as `str.format` wants them."""
    return text.replace("{", "{{").replace("}", "}}")
