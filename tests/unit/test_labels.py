"""Which label of a closed set an answer gives, and which clips' labels are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

GENDERS = ("female", "male")
MOODS = ("angry", "very angry", "happy")
ANSWERS = ("yes", "no")


@pytest.fixture(scope="module")
def find():
    from amask.data.labels import find_label

    return find_label


@pytest.mark.parametrize(
    ("answer", "labels", "label"),
    [
        ("female", GENDERS, "female"),
        ('"Female."', GENDERS, "female"),
        ("The speaker is female.", GENDERS, "female"),
        ("female, I am sure the speaker is female", GENDERS, "female"),
        ("The gender is: MALE!", GENDERS, "male"),
        ("It is a fe-male voice", GENDERS, "male"),  # a hyphen parts words
        ("The speaker is very angry", MOODS, "very angry"),
        ("not happy, but angry", MOODS, None),
        ("No, it's not the same speaker.", ANSWERS, "no"),
        ("Yes, there can be no doubt", ANSWERS, None),
        ("not sure, maybe female", GENDERS, "female"),  # a negation in another clause
        ("说话人是女性。", ("男性", "女性"), "女性"),
        ("说话人不是女性。", ("男性", "女性"), None),
        ("Die Sprecherin ist nicht weiblich", ("weiblich", "männlich"), None),
        ("In New York City", ("york", "new york"), "new york"),
        ("a cat (loud)", ("cat", "loud dog"), "cat"),
        ("c++", ("c", "c++"), "c++"),
        ("it is c++", ("c", "c++"), None),  # its words are those of c
        ("+", ("+", "-"), "+"),
        ("", GENDERS, None),
        ("woman", GENDERS, None),
        ("females", GENDERS, None),
        ("male or female", GENDERS, None),
        ("not female", GENDERS, None),
        ("not a female speaker", GENDERS, None),
        ("The speaker isn’t male", GENDERS, None),
        ("non-female", GENDERS, None),
        ("neither", GENDERS, None),
        ("put the red box|female", GENDERS, None),
        ('{"gr": "female", "asr": "put the red box"}', GENDERS, None),
        ("a|b", ("a|b", "c"), "a|b"),
    ],
)
def test_exactly_one_label_without_negation(find, answer, labels, label):
    assert find(answer, labels) == label


@given(st.sampled_from(GENDERS), st.sampled_from(["{}", "{}.", "It is {}", "a {} voice", "the voice of a {} person, I think"]))
def test_a_label_in_a_sentence_is_found_in_any_case(find, label, sentence):
    assert find(sentence.format(label), GENDERS) == label
    assert find(sentence.format(label).upper(), GENDERS[::-1]) == label


@given(st.text(), st.lists(st.text(min_size=1), min_size=2, max_size=4, unique=True))
def test_any_text_is_read(find, answer, labels):
    assert find(answer, labels) in (None, *labels)


@pytest.mark.parametrize(
    ("name", "labels", "message"),
    [
        ("gr", {"gr": "F"}, "clip a.wav: 'F' is not a label of gr; expected one of female, male"),
        ("gr-asr", {"gr": "female"}, "clip a.wav has no label for asr"),
        ("gr-asr", {"gr": "female", "asr": "a|b"}, "clip a.wav: 'a|b' cannot be part of gr-asr: it holds the bar"),
    ],
)
def test_labels_that_no_answer_can_be_are_refused(name, labels, message):
    from amask.data.labels import require_labels
    from amask.data.tasks import parse_task
    from amask.errors import DataError

    with pytest.raises(DataError) as caught:
        require_labels(parse_task(name), labels, "clip a.wav")
    assert str(caught.value).startswith(message)


def test_labels_that_can_be_answers_give_the_right_one():
    from amask.data.labels import require_labels
    from amask.data.tasks import parse_task

    assert require_labels(parse_task("gr-asr-json"), {"gr": "Female", "asr": "a|b"}, "") == '{"gr": "Female", "asr": "a|b"}'
