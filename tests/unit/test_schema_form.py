"""Schemas that code fills: whatever the answers are, they validate; what would be a guess is left to decoding."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ENUM = {"enum": ["Male", "Female"]}
TEXT = {"type": "string", "description": "what is said"}


@pytest.fixture(scope="module")
def fill():
    """The form for a task's name and properties; None where there is none."""
    from amask.data.tasks import builtin_tasks, parse_task
    from amask.serving.routing import Parallel
    from amask.serving.schema_form import fill_schema

    def form(task: str, properties: object, **more: object):
        schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False} | more
        found = fill_schema(Parallel(parse_task(task, builtin_tasks()), ()), schema)
        return found and found.answer_format

    return form


def test_each_part_gets_its_property(fill):
    assert fill("gr", {"sex": ENUM}).keys == ("sex",)
    assert fill("asr-gr", {"a": ENUM, "b": TEXT}).keys == ("b", "a")
    assert fill("asr-gr", {"gender": TEXT, "words": TEXT}).keys == ("words", "gender")
    assert fill("gr", {"x": ENUM}).shape({"gr": "female"}) == '{"x": "Female"}'


@pytest.mark.parametrize(
    ("task", "properties", "more"),
    [
        ("asr-gr", {"a": TEXT, "b": TEXT}, {}),  # which is which would be a guess
        ("gr", {"sex": {"enum": ["m", "f"]}}, {}),
        ("gr", {"sex": ENUM, "age": TEXT}, {}),
        ("asr", {"said": ENUM}, {}),
        ("asr", {"said": {"type": "string", "maxLength": 5}}, {}),
        ("asr", {"said": {}}, {}),
        ("asr", {"n": {"type": "integer"}}, {}),
        ("asr", {"said": TEXT}, {"required": ["said", "more"]}),
        ("asr", {"said": TEXT}, {"type": "array"}),
        ("asr", {"said": TEXT}, {"minProperties": 2}),
        ("asr", {"said": TEXT}, {"required": 3}),
        ("asr", {"said": True}, {}),
    ],
)
def test_other_schemas_are_left_to_decoding(fill, task, properties, more):
    assert fill(task, properties, **more) is None


@settings(deadline=None)
@given(
    text=st.text(),
    label=st.sampled_from(("male", "female")),
    keys=st.lists(st.text(min_size=1), min_size=2, max_size=2, unique=True),
)
def test_what_is_filled_validates(fill, text, label, keys):
    jsonschema = pytest.importorskip("jsonschema")
    properties = dict(zip(keys, (ENUM, TEXT), strict=True))
    answer = json.loads(fill("asr-gr", properties).shape({"asr": text, "gr": label}))
    jsonschema.validate(answer, {"type": "object", "properties": properties, "required": keys, "additionalProperties": False})
    assert answer[keys[0]].casefold() == label
