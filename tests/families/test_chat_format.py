"""The text around the audio, as chat formats write it."""

from collections.abc import Callable

import pytest

from amask.errors import ModelError
from amask.lalm.generic import TransformersLALM

from . import FAMILIES


@pytest.fixture
def with_format() -> Callable[[str], TransformersLALM]:
    """Audio Flamingo 3 with another chat format."""

    def build(template: str) -> TransformersLALM:
        model, processor = FAMILIES["audioflamingo3"]()
        processor.chat_template = template
        return TransformersLALM("tiny", model, processor)

    return build


TURN = "{% for part in messages[0].content %}{{ '<sound>' if part.type == 'audio' else part.text }}{% endfor %}"


def test_braces_in_the_format_are_kept(with_format: Callable[[str], TransformersLALM]) -> None:
    """They are the format's own, not places for an instruction."""
    model = with_format("<|im_start|>{{ '{' }}a{{ '}' }}" + TURN + "{{ '{' }}b{{ '}' }}<|im_end|>")
    assert model.template.before == "<|im_start|>{a}"
    assert model.template.after.format("do it") == "do it{b}<|im_end|>"


def test_the_date_stands_still(with_format: Callable[[str], TransformersLALM]) -> None:
    """A format that writes today's date gives the same model on all days."""
    model = with_format("<|im_start|>{{ strftime_now('%Y-%m-%d') }} " + TURN + "<|im_end|>")
    assert model.template.before == "<|im_start|>January 1, 2025 "


@pytest.mark.parametrize("wrong", ["no audio <|im_end|>", TURN + "<sound>", "{{ messages[0].content[1].text }}<sound>"])
def test_formats_that_cannot_be_masked_are_refused(with_format: Callable[[str], TransformersLALM], wrong: str) -> None:
    """No audio, audio twice, or the words before it."""
    with pytest.raises(ModelError, match="once and then the words"):
        with_format(wrong)


def test_the_reply_ends_where_the_format_ends_it(with_format: Callable[[str], TransformersLALM]) -> None:
    """At the special token behind the model's turn, which need not be the tokenizer's end token."""
    reply = "{% if messages|length > 1 %}{{ messages[1].content[0].text }}<|im_start|>{% endif %}"
    assert with_format(TURN + reply).template.end == "<|im_start|>"
