"""What several of the tiny models are made of: a small decoder, turns of chat, and stand-ins for absent packages."""

from typing import Any, ClassVar, TypeVar
from unittest.mock import patch

from transformers import PreTrainedTokenizerBase, ProcessorMixin

Processor = TypeVar("Processor", bound=ProcessorMixin)


class _NoEyes(dict):
    """Stands for an image processor; a dictionary, so that a processor with it can be written as JSON."""

    model_input_names: ClassVar[list[str]] = []


NO_EYES = _NoEyes(images=False)


def small_decoder(tokenizer: PreTrainedTokenizerBase, **extra: Any) -> dict[str, Any]:
    """A small decoder's settings: three layers, four heads over two of keys and values, each wider than width over heads.

    Args:
        tokenizer: its length is the vocabulary.
        extra: what differs.
    """
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "max_position_embeddings": 4096,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **extra,
    }


def turn_template(start: str, end: str, audio: str, reply: str = "", names: str = "message.role", before: str = "") -> str:
    """A chat template of turns in which audio comes first and text after it; content may be a text with marks in it, too.

    Args:
        start: what begins a turn; holds `ROLE`, where its role goes.
        end: what ends a turn.
        audio: what stands for a clip.
        reply: what begins the model's turn where it is to answer.
        names: the role's name, as an expression over `message`.
        before: what stands before all turns.
    """
    return (
        before
        + "{% for message in messages %}"
        + start.replace("ROLE", "{{ " + names + " }}")
        + "{% if message.content is string %}"
        "{{ message.content }}{% else %}"
        "{% for part in message.content if part.type == 'audio' %}" + audio + "{% endfor %}"
        "{% for part in message.content if part.type == 'text' %}{{ part.text }}{% endfor %}"
        "{% endif %}" + end + "{% endfor %}{% if add_generation_prompt %}" + reply + "{% endif %}"
    )


def sightless(kind: type[Processor], **parts: Any) -> Processor:
    """A processor of images, too, without what processes them: that takes torchvision, and no test shows a picture."""
    blind = {name: NO_EYES for name in kind.get_attributes() if name in {"image_processor", "video_processor"}}
    with patch.object(kind, "check_argument_for_proper_class"):
        return kind(**blind, **parts)
