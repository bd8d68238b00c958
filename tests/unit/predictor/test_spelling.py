"""Misspelt words: mended to what wordings have, and only these; literals and names are never touched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

TEXT = st.text("abcdeimnorst ßü'\"<>_-1é", max_size=40)


@pytest.fixture(scope="module")
def mender():
    from amask.predictor.predictor import Predictor

    return Predictor.load().mender


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("transcrbie the adio", "transcribe the audio"),
        ("wich emotoin is in the vocie?", "which emotion is in the voice?"),
        ("Whcih Gedner, PLAESE", "Which Gender, PLEASE"),
        ("the trasncirption", "the transcription"),
        ("was ist die Übersetzng", "was ist die Übersetzung"),
        ("the barista is knitting", "the barista is knitting"),
        ("", ""),
    ],
)
def test_slips_are_mended(mender, written, meant):
    assert mender(written) == meant


def test_every_frequent_word_stays(mender):
    from amask.predictor.spelling import MIN_COUNT, word_counts

    text = " ".join(word for word, count in word_counts().items() if count >= MIN_COUNT)
    assert mender(text) == text


@given(TEXT)
def test_mending_keeps_all_but_letters_and_is_done_once(mender, text):
    mended = mender(text)
    assert mender(mended) == mended
    assert [letter for letter in mended if not letter.isalpha()] == [letter for letter in text if not letter.isalpha()]


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ('the emotoin, begin with "Resutl: "', {"prefix": "Resutl: "}),
        ("the gendr as json under <spekaer>", {"layout": "json", "keys": ("<spekaer>",)}),
        ("gendr and txet as json, the keys are geschlcht and txet", {"layout": "json", "keys": ("geschlcht", "txet")}),
        ("trascribe, begin with Trascript: and end with the word ovre", {"prefix": "Trascript:", "suffix": "ovre"}),
        ("gendr and txet as json with grout and txet as keys", {"layout": "json", "keys": ("grout", "txet")}),
        ("gendr and txet as json, under grout and txet", {"layout": "json", "keys": ("grout", "txet")}),
        ("the gendr in uper case", {"case": "upper"}),
    ],
)
def test_literals_stay_to_the_letter(mender, text, form):
    from amask.predictor.form_reader import read_form

    assert dict(read_form(text, mender).format) == form


def test_names_of_labels_stay(mender):
    from amask.predictor.form_reader import read_form

    read = read_form("the gendr: femal for female, mael for male", mender)
    assert read.labels == {"gr": {"female": "femal", "male": "mael"}}


def test_the_vocabulary_is_made_of_the_wordings():
    from amask.predictor.making.vocabulary import vocabulary
    from amask.predictor.spelling import word_counts

    made = dict(line.split() for line in vocabulary().splitlines())
    shipped = {word: str(count) for word, count in word_counts().items()}
    assert made == shipped, "run 'python -m amask.predictor.making.vocabulary'"


def test_misspelt_requests_are_read(mender):
    from amask.mask_bank.bank import BUNDLED, MaskBank
    from amask.predictor.predictor import Predictor
    from amask.predictor.router import InstructionRouter

    router = InstructionRouter(Predictor.load(), MaskBank(BUNDLED).list())
    said = {
        "trasncribe teh speach plaese": "asr",
        "waht is teh emotoin of teh speker": "ser",
        "traslate it into Germn": "s2tt",
        "is teh speeker a wman or a mna": "gr",
    }
    assert {text: str(router.route([text])[0].intent) for text in said} == said
