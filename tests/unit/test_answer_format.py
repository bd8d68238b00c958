"""Answers are put into a form and taken apart again, whatever their texts contain."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

NAMES = ("gr", "asr", "ser")
TRICKY = st.sampled_from(list("|/,;:\\^~\"'{}[]()<>- \n\t") + ["--", ", ", "ß", "ǆ", "é", "word", "🙂", "- ", '": "'])
TEXTS = st.one_of(st.lists(TRICKY, max_size=8).map("".join), st.text(st.characters(exclude_categories=["Cs"]), max_size=12))


@st.composite
def formats(draw, count):
    from amask.data.answer_format import AnswerFormat

    layout = draw(st.sampled_from([None, "joined", "json", "lines", "list", *(["plain"] if count == 1 else [])]))
    keyed = layout not in ("joined", "plain") and draw(st.booleans())
    separable = layout == "joined" or (layout is None and not keyed)
    return AnswerFormat(
        prefix=draw(TEXTS),
        suffix=draw(TEXTS),
        wrap=draw(st.none() | st.tuples(TEXTS, TEXTS)),
        case=draw(st.sampled_from([None, "upper", "lower", "title"])),
        separator=draw(st.none() | TEXTS.filter(bool)) if separable else None,
        keys=tuple(draw(st.lists(TEXTS.filter(bool), min_size=count, max_size=count, unique=True))) if keyed else (),
        layout=layout,
        parts={name: draw(text_formats()) for name in draw(st.sets(st.sampled_from(NAMES)))},
    )


@st.composite
def text_formats(draw):
    from amask.data.answer_format import TextFormat

    wrap, case = st.none() | st.tuples(TEXTS, TEXTS), st.sampled_from([None, "upper", "lower", "title"])
    return TextFormat(prefix=draw(TEXTS), suffix=draw(TEXTS), wrap=draw(wrap), case=draw(case))


def cased(text, case):
    if case == "title":
        import re

        return re.sub(r"\S+", lambda word: word[0][:1].upper() + word[0][1:].lower(), text)
    return getattr(text, case)() if case else text


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_what_was_shaped_parses_back_into_its_parts(data):
    from amask.data.answer_format import AnswerFormat

    count = data.draw(st.integers(1, 3))
    form = data.draw(formats(count))
    parts = {name: data.draw(TEXTS) for name in NAMES[:count]}
    shaped = form.shape(parts)
    cases = {name: form.parts[name].case if name in form.parts else None for name in parts}
    assert form.parse(shaped, NAMES[:count]) == {name: cased(text, cases[name] or form.case) for name, text in parts.items()}
    assert AnswerFormat.model_validate(json.loads(json.dumps(form.as_dict()))) == form


@pytest.mark.parametrize(
    ("given_format", "parts", "shaped"),
    [
        ({}, {"gr": "female"}, "female"),
        ({}, {"gr": "female", "asr": "a|b"}, "female|a|b"),
        ({}, {"asr": "a|b", "gr": "female"}, "a\\|b|female"),
        ({"separator": "\\"}, {"asr": "a\\b", "gr": "male"}, "a^\\b\\male"),
        ({"separator": "--"}, {"asr": "a-", "gr": "male"}, "a\\---male"),
        ({"prefix": "The transcript is: "}, {"asr": "put it down"}, "The transcript is: put it down"),
        ({"prefix": "The transcript is:"}, {"asr": "put it down"}, "The transcript is: put it down"),
        ({"prefix": "<T>", "suffix": "<END>", "wrap": ("[", "]")}, {"asr": "x"}, "<T>[x]<END>"),
        ({"suffix": "over"}, {"asr": "x"}, "x over"),
        ({"case": "upper"}, {"asr": "straße"}, "STRASSE"),
        ({"case": "title"}, {"asr": "don't go"}, "Don't Go"),
        ({"keys": ("sex",)}, {"gr": "male"}, '{"sex": "male"}'),
        ({"keys": ("a", "b")}, {"gr": "male", "asr": 'say "x" \\ ü'}, '{"a": "male", "b": "say \\"x\\" \\\\ ü"}'),
        ({"layout": "json", "case": "upper"}, {"gr": "male"}, '{"gr": "MALE"}'),
        ({"layout": "lines"}, {"gr": "male", "asr": "x"}, "male\nx"),
        ({"layout": "list"}, {"gr": "male", "asr": "x"}, "- male\n- x"),
        ({"layout": "lines", "keys": ("Gender", "Text")}, {"gr": "male", "asr": "x"}, "Gender: male\nText: x"),
        ({"labels": {"gr": {"female": "F", "male": "M"}}}, {"gr": "male", "asr": "male"}, "M|male"),
        ({"labels": {"ser": {"neutral": "0"}}}, {"ser": "happy"}, "happy"),
        ({"parts": {"gr": {"case": "upper"}}}, {"gr": "male", "asr": "x"}, "MALE|x"),
        ({"case": "upper", "parts": {"asr": {"case": "lower"}}}, {"gr": "male", "asr": "X"}, "MALE|x"),
        (
            {"wrap": ("<", ">"), "parts": {"asr": {"wrap": ("[", "]"), "prefix": "T:"}}},
            {"gr": "male", "asr": "x"},
            "<male|T: [x]>",
        ),
        ({"separator": "]", "parts": {"gr": {"wrap": ("[", "]")}}}, {"gr": "male", "asr": "x"}, "[male\\]]x"),
    ],
)
def test_forms_by_hand(given_format, parts, shaped):
    from amask.data.answer_format import AnswerFormat

    assert AnswerFormat(**given_format).shape(parts) == shaped


def test_the_users_labels_become_ours_again():
    from amask.data.answer_format import AnswerFormat

    form = AnswerFormat(labels={"gr": {"female": "weiblich", "male": "männlich"}}, case="upper", layout="json")
    shaped = form.shape({"gr": "male"})
    assert shaped == '{"gr": "MÄNNLICH"}'
    assert form.parse(shaped, ["gr"]) == {"gr": "male"}


@pytest.mark.parametrize(
    ("given_format", "text"),
    [
        ({"prefix": "A: "}, "B: x"),
        ({"suffix": "!"}, "x"),
        ({"wrap": ("[", "]")}, "[x"),
        ({"wrap": ("aa", "aa")}, "aaa"),
        ({"layout": "json"}, '{"asr": "x"'),
        ({"layout": "json"}, '{"sex": "x"}'),
        ({"layout": "json"}, '{"asr": 1}'),
        ({"layout": "json"}, '["x"]'),
    ],
)
def test_what_is_out_of_form_is_none(given_format, text):
    from amask.data.answer_format import AnswerFormat

    assert AnswerFormat(**given_format).parse(text, ["asr"]) is None


def test_too_few_parts_are_out_of_form():
    from amask.data.answer_format import AnswerFormat

    assert AnswerFormat(separator="/").parse("female", ["gr", "asr"]) is None
    assert AnswerFormat(layout="list").parse("- female\nx", ["gr", "asr"]) is None


def test_options_and_files_say_the_same(tmp_path):
    from amask.data.answer_format import AnswerFormat, read_format

    options = ["prefix=Is: ", "wrap=<|>", "case=upper", "separator=tab", "labels.gr=female:F, male:M", "labels.ser=sad:0"]
    found = read_format(options)
    assert found == AnswerFormat(
        prefix="Is: ",
        wrap=("<", ">"),
        case="upper",
        separator="\t",
        labels={"gr": {"female": "F", "male": "M"}, "ser": {"sad": "0"}},
    )
    (tmp_path / "f.json").write_text(json.dumps(found.as_dict()), encoding="utf-8")
    assert read_format([str(tmp_path / "f.json")]) == found
    assert read_format([str(tmp_path / "f.json"), "case=lower"]).case == "lower"
    assert read_format(["keys=sex, said"]).keys == ("sex", "said")
    assert read_format(["separator=\\n"]).separator == "\n"
    parts = read_format(["parts.gr.case=upper", "parts.asr.wrap=[|]", "parts.gr.prefix=Is:"]).parts
    assert {name: part.model_dump(exclude_defaults=True) for name, part in parts.items()} == {
        "gr": {"case": "upper", "prefix": "Is:"},
        "asr": {"wrap": ("[", "]")},
    }


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("colour=red", "there is no 'colour'; there are prefix, suffix"),
        ("case=loud", "--format case: Input should be"),
        ("wrap=<>", "expected left and right with a bar between"),
        ("labels=female:F", "labels.gr=female:F"),
        ("parts=upper", "parts.gr.case=upper"),
        ("parts.gr=upper", "parts.gr.case=upper"),
        ("parts.gr.colour=red", "there is no 'parts.gr.colour'"),
        ("parts.gr.keys=a", "there is no 'parts.gr.keys'"),
        ("labels.gr=female", "expected our label, a colon"),
        ("labels.gr=female:X,male:X", "must all be different"),
        ("keys=a,a", "keys must all be different"),
        ("separator=", "at least 1 character"),
        ("nothere.json", "cannot read format nothere.json"),
    ],
)
def test_what_is_no_format_is_named(option, message):
    from amask.data.answer_format import read_format
    from amask.errors import DataError

    with pytest.raises(DataError) as raised:
        read_format([option])
    assert message in str(raised.value)


def test_a_format_goes_with_its_parts():
    from amask.data.answer_format import AnswerFormat
    from amask.errors import DataError

    with pytest.raises(DataError, match=r"2 keys \(a, b\), the answer 1 parts"):
        AnswerFormat(keys=("a", "b")).shape({"gr": "male"})
    with pytest.raises(DataError, match="cannot be plain"):
        AnswerFormat(layout="plain").shape({"gr": "male", "asr": "x"})


def test_formats_are_values(tmp_path):
    import pickle

    from amask.data.answer_format import AnswerFormat

    one, other = (AnswerFormat(prefix="a", labels={"gr": {"male": "M"}}) for _ in range(2))
    assert (one, hash(one), bool(one)) == (other, hash(other), True)
    assert pickle.loads(pickle.dumps(one)) == one
    assert not AnswerFormat()
    assert one.as_dict() == {"prefix": "a", "labels": {"gr": {"male": "M"}}}
