"""Metrics against values worked by hand and against the libraries that define them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def task():
    """A single task of some metric, as a spec."""
    from amask.data.tasks import Task, TaskSpec

    def make(metric, labels=()):
        return TaskSpec(parts=(Task(name="t", metric=metric, labels=labels),))

    return make


@pytest.fixture(scope="module")
def value(task):
    """The headline of a task of some metric."""
    from amask.data.metrics import score

    return lambda metric, answers, references, labels=(): score(task(metric, labels), answers, references)[0].value


@pytest.fixture
def score():
    """`score` by the task's name, as {name: value}; the order is kept."""
    from amask.data.metrics import score
    from amask.data.tasks import parse_task

    return lambda task, answers, references: {s.name: s.value for s in score(parse_task(task), answers, references)}


@pytest.mark.parametrize(
    ("answers", "references", "expected"),
    [
        (["put the blue box"], ["put the red box"], 25.0),  # 1 substitution in 4 words
        (["Put the red box."], ["put the red box"], 0.0),  # case and punctuation
        (["a b", "c d e"], ["a b c", "c d e"], 100 / 6),  # over the corpus, not the mean of clips
        (["", "a"], ["a b", "a"], 200 / 3),  # an empty answer is all deletions
        (["a b", "c"], ["", "c d e"], 400 / 3),  # an empty reference: 2 insertions, then 2 deletions in 3 words
        (["a b"], [""], 200.0),
        ([""], [""], 0.0),
        (["red box ; blue ball"], ["red box; blue ball"], 0.0),  # the separator of overlapping speakers
        (["red box blue ball"], ["red box; blue ball"], 0.0),
        (["four five eight"], ["four five nine"], 100 / 3),  # digit words are words, not one number
        (["4 5 8"], ["four five nine"], 100 / 3),
        (["458"], ["four five nine"], 100 / 3),
        (["459"], ["four five nine"], 0.0),
        (["call me at 9 on monday"], ["call me at nine on monday"], 0.0),
        (["the year 1984"], ["the year nineteen eighty four"], 0.0),
        (["it's uh ten"], ["it is ten"], 0.0),  # Whisper's normaliser: contractions and fillers
    ],
)
def test_wer(value, answers, references, expected):
    assert value("wer", answers, references) == pytest.approx(expected)


def test_wer_with_one_wrong_of_two_number_clips(value):
    """A clip with digits does not change how its neighbours are counted."""
    assert value("wer", ["12", "one three"], ["one two", "one two"]) == pytest.approx(25.0)


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("zero zero seven", "007"),
        ("agent double oh seven", "agent 007"),
        ("1 5 8", "one five eight"),  # Whisper's normaliser writes a lone 1 as "one"
        ("10:00 AM", "ten am"),
        ("10:00 a.m.", "ten a.m."),
        ("7 p.m. today", "seven pm today"),
        ("10:30 am", "ten thirty am"),
        ("ten oh five", "10:05"),
        ("0.5", "zero point five"),
        ("3.05", "three point zero five"),
        ("$10", "ten dollars"),
        ("I can’t, it’s John’s", "I can't, it's John's"),
        ("can not", "can’t"),
        ("１２", "12"),
    ],
)
def test_the_same_words_written_otherwise_are_no_errors(value, answer, reference):
    assert value("wer", [answer], [reference]) == 0.0
    assert value("wer", [reference], [answer]) == 0.0


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("45", "045", 100 / 3),  # 0 is missing
        ("70", "007", 200 / 3),  # 0 0 7: one deleted, one substituted at the least
        ("की", "का", 100.0),  # two Hindi words that differ in a vowel sign
        ("मैं घर जाता हूँ", "मैं घर जाती हूँ", 25.0),
        ("schon", "schön", 100.0),
        ("Иван поёт", "иван поет", 50.0),
        ("你好吗", "你好嘛", 100 / 3),  # scripts without spaces: every character is a word
        ("今日 は雨", "今日は 晴れ", 200 / 5),
        ("안녕 하세요", "안녕하세요", 200.0),  # Korean has spaces
    ],
)
def test_other_words_are_errors(value, answer, reference, expected):
    assert value("wer", [answer], [reference]) == pytest.approx(expected)


def test_exactness_and_wer_agree(score):
    assert score("gr-asr", ["male|zero zero seven"], ["male|007"])["exact"] == 100.0
    assert score("gr-asr", ["male|45"], ["male|045"])["exact"] == 0.0


WORDS = st.lists(st.sampled_from(("put", "the", "red", "box", "on", "a", "table", "now")), max_size=8).map(" ".join)
PAIRS = st.lists(st.tuples(WORDS, WORDS.filter(bool)), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(pairs=PAIRS)
def test_wer_and_cer_are_jiwers(value, pairs):
    import jiwer

    answers, references = map(list, zip(*pairs, strict=True))
    assert value("wer", answers, references) == pytest.approx(100 * jiwer.wer(references, answers))
    assert value("cer", answers, references) == pytest.approx(100 * jiwer.cer(references, answers))


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("你好。", "你 好", 0.0),
        ("你好世界", "你好吗世界", 20.0),
        ("今日は 雨です", "今日は雨です。", 0.0),
        ("में", "मैं", 100 / 3),  # म, ै, ं
        ("A cat!", "a cut", 20.0),
        ("", "abcd", 100.0),
    ],
)
def test_cer(value, answer, reference, expected):
    assert value("cer", [answer], [reference]) == pytest.approx(expected)


NUMBERS = (
    *("zero", "oh", "o", "one", "two", "ten", "eleven", "twenty", "third", "hundred", "million", "and", "a", "half", "point"),
    *("double", "dollars", "cents", "percent", "per", "minus", "0", "7", "10", "1984", "3.5", "0.0", "$5", "5%", "1st", "12:30"),
    *("-3", "1/2", "½", ".", "%", "$", "the", "٣", "²", "〇", "’", "é"),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(NUMBERS), max_size=7).map(" ".join))
def test_no_number_is_too_odd_to_be_read(value, text):
    assert value("wer", [text], [text]) == 0.0
    assert value("cer", [text], [text]) == 0.0


def test_accuracy_finds_the_label(score):
    answers = ["Female.", '"male"', " male\n", "The speaker is female.", "", "fe-male"]
    references = ["female", "male", "Male", "female", "male", "female"]
    found = score("gr", answers, references)
    assert list(found) == ["acc", "exact"]
    assert found == pytest.approx({"acc": 100 * 4 / 6, "exact": 50.0})


def test_labels_outside_the_closed_set_are_refused(score):
    from amask.errors import DataError

    expected = "cannot score 'gr': reference 'F': 'F' is not a label of gr; expected one of female, male"
    with pytest.raises(DataError, match=expected):
        score("gr", ["female", "male"], ["F", "male"])
    with pytest.raises(DataError, match="'F' is not a label of gr"):
        score("gr-asr", ["female|a"], ["F|a"])


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("Two  Lattes", "two lattes", 100.0),
        ("two lattes", "two latte", 0.0),
        ("+", "-", 0.0),
        ('{"size":"L", "drink" : "latte"}', '{"drink": "latte", "size": "l"}', 100.0),
        ('{"drink": "latte"}', '{"drink": "latte", "size": "l"}', 0.0),
        ('{"count": 1}', '{"count": true}', 0.0),
        ('{"count": 1}', '{"count": "1"}', 0.0),
        ('{"items": ["a", "b"]}', '{"items": ["b", "a"]}', 0.0),
        ('{"drink": "latte"', '{"drink": "latte"}', 0.0),
    ],
)
def test_exact_is_right_as_a_whole(value, answer, reference, expected):
    assert value("exact", [answer], [reference]) == expected


def test_eer_by_hard_decisions(value):
    """Of 4 "yes" one is missed, of 2 "no" none is taken for "yes": the ROC goes (0, 0) to (0, 0.75) to (1, 1).

    Between the last two the rate of false alarms f equals that of misses at f = 0.25 (1 − f), so f = 0.2.
    """
    answers = ["yes", "Yes, it is.", "yes", "no", "no", "no"]
    references = ["yes", "yes", "yes", "yes", "no", "no"]
    assert value("eer", answers, references, ("yes", "no")) == pytest.approx(20.0)
    assert value("eer", references, references, ("yes", "no")) == pytest.approx(0.0)
    assert value("eer", ["perhaps"] * 6, references, ("yes", "no")) == pytest.approx(50.0)


def test_eer_by_likelihoods(task):
    """Sorted by the likelihood of "yes": y y n y n n; with y y n or y y n y taken, one of three is wrong on either side."""
    from amask.data.metrics import score

    references = ["yes", "yes", "no", "yes", "no", "no"]
    likelihoods = [{"yes": p, "no": 0.9 - p} for p in (0.8, 0.7, 0.6, 0.5, 0.3, 0.1)]
    found = score(task("eer", ("yes", "no")), ["no"] * 6, references, likelihoods)
    assert found[0].value == pytest.approx(100 / 3)
    assert (found[0].better, found[1].name, found[1].value) == ("lower", "exact", 50.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=2, max_size=30))
def test_eer_is_where_sklearns_roc_crosses(task, rows):
    """Between two points of the curve, on the line that joins them."""
    from sklearn.metrics import roc_curve

    from amask.data.metrics import score

    rows = [*rows, (True, 4), (False, 5)]
    references = ["yes" if right else "no" for right, _ in rows]
    likelihoods = [{"yes": height / 9, "no": 1 - height / 9} for _, height in rows]
    found = score(task("eer", ("yes", "no")), references, references, likelihoods)[0].value / 100
    false_alarms, hits, _ = roc_curve([right for right, _ in rows], [height for _, height in rows], drop_intermediate=False)
    points = list(zip(false_alarms, 1 - hits, strict=True))
    at = next(at for at, (false_alarm, miss) in enumerate(points) if false_alarm >= miss)
    (x0, y0), (x1, y1) = points[at - 1], points[at]
    share = (y0 - x0) / ((y0 - x0) + (x1 - y1))
    assert found == pytest.approx(x0 + share * (x1 - x0))


def test_eer_needs_both_of_two_labels(value):
    from amask.errors import DataError

    with pytest.raises(DataError, match="takes clips of both labels, yes and no; got one of them only"):
        value("eer", ["yes"], ["yes"], ("yes", "no"))
    with pytest.raises(DataError, match="takes two labels, got a, b, c; use the metric acc"):
        value("eer", ["a"], ["a"], ("a", "b", "c"))


def test_bleu_is_sacrebleus(value):
    import sacrebleu

    answers = ["leg jetzt die rote kiste auf den tisch", "anna kauft drei bücher"]
    references = ["leg jetzt die rote kiste unter den tisch", "anna kauft drei blaue bücher"]
    expected = sacrebleu.corpus_bleu(answers, [references]).score
    assert 0 < expected < 100
    assert value("bleu", answers, references) == pytest.approx(expected)


def test_bleu_by_hand(value):
    """Precisions 4/5, 3/4, 2/3, 1/2 and no brevity penalty: (4/5 · 3/4 · 2/3 · 1/2) ** (1/4) = 0.2 ** 0.25."""
    assert value("bleu", ["a b c d x"], ["a b c d e"]) == pytest.approx(100 * 0.2**0.25)


def test_bleu_of_short_chinese_and_empty_answers(value):
    assert value("bleu", ["null drei"], ["null drei"]) == pytest.approx(100.0)
    assert value("bleu", ["我们走吧今天"], ["我们走吧明天"]) > 50
    assert value("bleu", [""], ["null drei"]) == 0.0


def test_rouge_l_by_hand(value):
    """LCS "a dog and rain falls" = 5; precision 5/5, recall 5/7, F1 10/12. The second clip has nothing in common."""
    answers = ["a dog and rain falls", "birds"]
    references = ["a dog barks loudly and rain falls", "an engine"]
    assert value("rouge_l", answers[:1], references[:1]) == pytest.approx(100 * 10 / 12)
    assert value("rouge_l", answers, references) == pytest.approx(50 * 10 / 12)
    assert value("rouge_l", [""], ["an engine"]) == 0.0


@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(*[st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)] * 2), min_size=1))
def test_rouge_l_of_english_is_rouge_scores_own(value, pairs):
    from rouge_score.rouge_scorer import RougeScorer

    scores = [RougeScorer(["rougeL"]).score(reference, answer)["rougeL"].fmeasure for answer, reference in pairs]
    answers, references = map(list, zip(*pairs, strict=True))
    assert value("rouge_l", answers, references) == pytest.approx(100 * np.mean(scores))


CAPTIONS = ("一只狗在叫", "Собака лает, и идёт дождь.", "犬が吠えている", "कुत्ता भौंक रहा है", "สุนัขเห่า", "Ein Hund bellt")


@pytest.mark.parametrize("caption", CAPTIONS)
@pytest.mark.parametrize("metric", ["rouge_l", "chrf", "bleu"])
def test_a_perfect_caption_in_any_language_is_100(value, metric, caption):
    assert value(metric, [caption], [caption]) == pytest.approx(100.0)


def test_a_half_right_chinese_caption_is_half_right(value):
    """LCS 一 只 在 叫 = 4 of 5 characters on either side."""
    assert value("rouge_l", ["一只猫在叫"], ["一只狗在叫"]) == pytest.approx(80.0)


def test_chrf_is_sacrebleus(value):
    import sacrebleu

    answers, references = ["leg die rote kiste weg", "drei"], ["leg die blaue kiste weg", "vier"]
    expected = sacrebleu.corpus_chrf(answers, [references]).score
    assert 0 < expected < 100
    assert value("chrf", answers, references) == pytest.approx(expected)


class NoSynonyms:
    """Stands for WordNet where only words as they are and stems count."""

    def synsets(self, _word):
        return []


def test_meteor_by_hand(value, monkeypatch):
    """Five of six words match in two chunks: P = R = 5/6 = Fmean, penalty 0.5 · (2/5)³ (Banerjee and Lavie 2005)."""
    monkeypatch.setattr("amask.data.text_metrics.open_wordnet", NoSynonyms)
    answers, references = ["The dogs bark in a garden."], ["the dog barked in one garden"]
    assert value("meteor", answers, references) == pytest.approx(100 * 5 / 6 * (1 - 0.5 * (2 / 5) ** 3))
    assert value("meteor", [""], ["a dog"]) == 0.0


def test_meteor_without_wordnet_says_what_to_run(value, monkeypatch, tmp_path):
    from amask.errors import DataError

    monkeypatch.setattr("nltk.data.path", [str(tmp_path)])
    with pytest.raises(DataError, match="METEOR needs WordNet.* run 'python -m nltk.downloader wordnet'"):
        value("meteor", ["a dog"], ["a dog"])


@pytest.mark.parametrize(
    ("metric", "better"),
    [("wer", "lower"), ("cer", "lower"), ("bleu", "higher"), ("chrf", "higher"), ("rouge_l", "higher")],
)
def test_a_single_task_has_its_metric_alone(task, metric, better):
    from amask.data.metrics import score

    (only,) = score(task(metric), ["one two three four"], ["one two three four"])
    assert (only.metric, only.part, only.name, only.better, only.interval) == (metric, "", metric, better, None)
    assert only.value == pytest.approx(0.0 if better == "lower" else 100.0)


def test_every_metric_of_a_task_can_be_scored(task, monkeypatch):
    from typing import get_args

    from amask.data.intervals import Clusters
    from amask.data.metrics import score
    from amask.data.tasks import Metric

    monkeypatch.setattr("amask.data.text_metrics.open_wordnet", NoSynonyms)
    third = dict.fromkeys(("wer", "eer", "meteor"), 100 / 3) | {"cer": 37.5}  # METEOR of a right word is a half
    for metric in get_args(Metric):
        labels = ("yes", "no") if metric in ("acc", "eer") else ()
        found = score(task(metric, labels), ["yes", "no", "no"], ["yes", "no", "yes"], clusters=Clusters.by([""] * 3))
        assert found[0].metric == metric
        assert found[0].value == pytest.approx(third.get(metric, 200 / 3), abs=9)
        for scores in found:
            low, high = scores.interval
            assert 0 <= low <= scores.value <= high, metric


@pytest.mark.parametrize(("right", "of", "low", "high"), [(81, 263, 25.5, 36.6), (15, 148, 6.2, 16.0), (0, 20, 0.0, 16.1)])
def test_intervals_of_shares_are_wilsons(task, right, of, low, high):
    """The examples of Newcombe (1998), table I, method 3."""
    from amask.data.intervals import Clusters
    from amask.data.metrics import score

    answers = ["yes"] * right + ["no"] * (of - right)
    found = score(task("acc", ("yes", "no")), answers, ["yes"] * of, clusters=Clusters.by([""] * of))
    assert found[0].interval == pytest.approx((low, high), abs=0.05)


def test_intervals_of_word_errors_are_those_of_resampled_clips(task):
    """scipy's bootstrap of the same ratio, within the noise of 1000 resamples."""
    from scipy.stats import bootstrap

    from amask.data.intervals import Clusters
    from amask.data.metrics import score

    rng = np.random.default_rng(1)
    words = rng.integers(3, 12, 200)
    errors = rng.binomial(words, 0.1)
    references = [" ".join("x" * count) for count in words]
    answers = [" ".join("y" * wrong + "x" * (count - wrong)) for wrong, count in zip(errors, words, strict=True)]
    expected = bootstrap(
        (errors, words), lambda e, w, axis: 100 * e.sum(axis) / w.sum(axis), paired=True, vectorized=True, method="percentile"
    ).confidence_interval
    clusters = Clusters.by([""] * 200)
    (found,) = score(task("wer"), answers, references, clusters=clusters)
    assert found.interval == pytest.approx((expected.low, expected.high), abs=0.3)
    assert expected.high - expected.low > 2
    assert score(task("wer"), answers, references, clusters=clusters)[0] == found


def test_pipe_composite(score):
    references = ["female|put the red box", "male|take the key", "male|move the lamp now", "female|one two"]
    answers = [
        "Female | put the red box.",  # right
        "female|take the key",  # wrong label
        "move the lamp now",  # not in the form: 4 deletions and a wrong label
        "female|one three",  # 1 substitution
    ]
    found = score("gr|asr", answers, references)
    assert list(found) == ["exact", "ifr", "gr.acc", "gr.exact", "asr.wer"]
    expected = {"exact": 25.0, "ifr": 75.0, "gr.acc": 50.0, "gr.exact": 50.0, "asr.wer": 100 * 5 / 13}
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    "broken",
    [
        '{"gr": "male", "asr": "one two"',
        '{"gr": "male"}',
        '{"gr": "male", "asr": "one two", "age": "adult"}',
        '["male", "one two"]',
        '{"gr": "male", "asr": null}',
        '{"gr": "male", "asr": 12}',
        '{"gr": "male", "asr": ["one two"]}',
        '{"gr": {"gr": "male"}, "asr": "one two"}',
        "male|one two",
        "",
    ],
)
def test_broken_json_lowers_ifr_and_its_parts(score, broken):
    right = '{"gr": "male", "asr": "one two"}'
    assert score("gr-asr-json", [right, '{"asr":"one two", "gr":"male"}'], [right] * 2) == pytest.approx(
        {"exact": 100.0, "ifr": 100.0, "gr.acc": 100.0, "gr.exact": 100.0, "asr.wer": 0.0}
    )
    assert score("gr-asr-json", [right, broken], [right] * 2) == pytest.approx(
        {"exact": 50.0, "ifr": 50.0, "gr.acc": 50.0, "gr.exact": 50.0, "asr.wer": 50.0}
    )


def test_exact_keeps_german_letters(score):
    found = score("gr-s2tt", ["male|Die Tür."], ["male|die tür"])
    assert (found["exact"], found["gr.acc"]) == (100.0, 100.0)
    assert score("gr-s2tt", ["male|die tur"], ["male|die tür"])["exact"] == 0.0


@pytest.mark.parametrize(
    ("answers", "references", "message"),
    [
        ([], [], "cannot score 'gr-asr': got 0 answers for 0 references"),
        (["male|a"], ["male|a", "male|b"], "cannot score 'gr-asr': got 1 answers for 2 references"),
        (["male|a"], ["male"], "cannot score 'gr-asr': reference 'male' is not in the pipe form"),
    ],
)
def test_what_cannot_be_scored_is_refused(score, answers, references, message):
    from amask.errors import DataError

    with pytest.raises(DataError) as caught:
        score("gr-asr", answers, references)
    assert str(caught.value) == message
