"""What is read again or written otherwise first: means, numbered parts, labels of one task, marks without quotes."""

import pytest


@pytest.fixture(scope="module")
def router():
    from amask.mask_bank.bank import BUNDLED, MaskBank
    from amask.predictor.predictor import Predictor
    from amask.predictor.router import InstructionRouter

    return InstructionRouter(Predictor.load(), MaskBank(BUNDLED).list())


@pytest.mark.parametrize(
    ("said", "intent", "form"),
    [
        ('Please return the speaker\'s emotion in JSON with the key "mood"', "ser", {"layout": "json", "keys": ["mood"]}),
        ('Please return the speaker\'s gender in JSON with the key "sex"', "gr", {"layout": "json", "keys": ["sex"]}),
        ("Hear the utterance and report its emotion", "ser", {}),
        ("Please work out the emotion behind these words, only happy, sad, angry or neutral", "ser", {}),
        ("Considering the words and how they are said, name the emotion and the gender", "ser|gr", {}),
        ("Transcribe the speech and tell the emotion, only happy, sad, angry or neutral", "asr|ser", {}),
        ('What is the mood? Select one from [happy, sad, angry, neutral] and start with "Mood: "', "ser", {"prefix": "Mood: "}),
        ("third the mood; first the words; second the age", "asr|age|ser", {}),
        ("1) emotion 2) gender 3) transcript", "ser|gr|asr", {}),
        ("words;gender;mood", "asr|gr|ser", {}),
        ("is it a he or she?", "gr", {}),
        ("the gender, answer he or she", "gr", {"labels": {"gr": {"male": "he", "female": "she"}}}),
    ],
)
def test_intent_and_form(router, said, intent, form):
    route = router.route([said], neighbours=False)[0].as_row()
    assert (route["task"], route["format"], route["warnings"]) == (intent, form, [])


def test_an_excerpt_is_no_suffix_and_is_named():
    from amask.predictor.form_reader import read_form

    read = read_form('transcribe what he says after "hello"')
    assert (dict(read.format), read.content, read.unread) == ({}, "transcribe what he says", ("hello",))
    assert dict(read_form('add "over" after what he says').format) == {"suffix": "over"}


@pytest.mark.parametrize(
    ("said", "form", "content"),
    [
        ("the emotion in double square brackets: [[ and ]]", {"wrap": ("[[", "]]")}, "the emotion"),
        ("the gender, in double square brackets", {"wrap": ("[[", "]]")}, "the gender"),
        ("the mood in triple backticks", {"wrap": ("```", "```")}, "the mood"),
        ("the emotion, wrap: ((, ))", {"wrap": ("((", "))")}, "the emotion"),
        ("gender and words with => in between", {"separator": "=>"}, "gender and words"),
        ("emotion, prefix: >>", {"prefix": ">>"}, "emotion"),
        ("age with $ before and after", {"wrap": ("$", "$")}, "age"),
        ('the mood; end the mood with "#END"', {"suffix": "#END"}, "the mood"),
        ('what is the mood? => begin with "M: "', {"prefix": "M: "}, "what is the mood?"),
    ],
)
def test_marks_without_quotes(said, form, content):
    from amask.predictor.form_reader import read_form

    read = read_form(said)
    assert dict(read.format) == form
    assert {"double", "square", "triple", "wrap", "prefix", "end", "begin"}.isdisjoint(read.content.split()), read.content
    assert all(word.strip("?") in read.content for word in content.split() if word not in ("the", "and")), read.content


@pytest.mark.parametrize("said", ["second caller = first caller?", "the first one talks while the second butts in", "1) mood"])
def test_ranks_that_number_no_parts(said):
    from amask.predictor.clauses import numbered_items

    assert numbered_items(said) == []
