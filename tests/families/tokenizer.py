"""A tiny tokenizer in the manner of the released ones: byte-level BPE, special tokens of choice."""

from functools import cache
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

# What the merges are learnt from, so that words are more than bytes and where a text is cut matters, as in real life.
LINES = [
    "Transcribe the audio.",
    "What is the gender of the speaker?",
    "the words that the speaker says",
    "user\nassistant\n",
] * 2


@cache
def _trained(first: tuple[str, ...]) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    size = 300 + len(first)
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, special_tokens=list(first), show_progress=False)
    tokenizer.train_from_iterator(LINES, trainer)
    return tokenizer.to_str()


def tiny_tokenizer(
    *special_tokens: str,
    pad: str = "<|pad|>",
    eos: str = "<|end|>",
    cls: type[PreTrainedTokenizerBase] = PreTrainedTokenizerFast,
    first: bool = False,
    **extra: Any,
) -> PreTrainedTokenizerBase:
    """Build a tokenizer of 300 ordinary tokens (all bytes and some merges) and the special ones.

    Args:
        special_tokens: the family's, in the order of their ids, which start at 300; pad and eos come last unless named here.
        pad: the token that fills rows up.
        eos: the token that ends an answer.
        cls: what a processor insists on; any class over the `tokenizers` library.
        first: give the special tokens the ids from 0 on instead, as Mistral's tokenizers do.
        extra: what else the class takes: `chat_template`, `padding_side`, `bos_token`, or named tokens that processors look
            for as attributes, `audio_token="<|AUDIO|>"` (a special token, too).
    """
    tokens = list(dict.fromkeys([*special_tokens, pad, eos]))
    backend = Tokenizer.from_str(_trained(tuple(tokens) if first else ()))
    backend.add_special_tokens(tokens)
    return cls(tokenizer_object=backend, pad_token=pad, eos_token=eos, extra_special_tokens=tokens, **extra)


def chat_template(audio: str, system: str = "") -> str:
    """A template of `<|im_start|>` turns: in each, audio comes first and text after it.

    Args:
        audio: what stands for a clip.
        system: said first where a chat has no system turn of its own.
    """
    default = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    return (
        "{% if messages[0].role != 'system' %}" + default + "{% endif %}"
        "{% for message in messages %}<|im_start|>{{ message.role }}\n"
        "{% if message.content is string %}{{ message.content }}{% else %}"
        "{% for part in message.content if part.type == 'audio' %}" + audio + "{% endfor %}"
        "{% for part in message.content if part.type == 'text' %}{{ part.text }}{% endfor %}"
        "{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
