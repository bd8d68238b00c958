"""Metrics against values worked by hand and against the libraries that define them."""

import pytest


@pytest.fixture
def metrics():
    from amask.data import metrics

    return metrics


@pytest.fixture
def score():
    """`score` by the task's name, as {name: value}; the order is kept."""
    from amask.data.metrics import score
    from amask.data.tasks import parse_task

    return lambda task, answers, references: {s.name: s.value for s in score(parse_task(task), answers, references)}


@pytest.mark.parametrize(
    ("answers", "references", "value"),
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
def test_wer(metrics, answers, references, value):
    assert metrics.wer(answers, references) == pytest.approx(value)


def test_wer_with_one_wrong_of_two_number_clips(metrics):
    """A clip with digits does not change how its neighbours are counted."""
    assert metrics.wer(["12", "one three"], ["one two", "one two"]) == pytest.approx(25.0)


def test_accuracy_overlooks_case_and_surrounding_punctuation(metrics):
    answers = ["Female.", '"male"', " male\n", "female voice", "", "fe-male"]
    references = ["female", "male", "male", "female", "male", "female"]
    assert metrics.accuracy(answers, references) == pytest.approx(50.0)


def test_bleu_is_sacrebleus(metrics):
    import sacrebleu

    answers = ["leg jetzt die rote kiste auf den tisch", "anna kauft drei bücher"]
    references = ["leg jetzt die rote kiste unter den tisch", "anna kauft drei blaue bücher"]
    expected = sacrebleu.corpus_bleu(answers, [references]).score
    assert 0 < expected < 100
    assert metrics.bleu(answers, references) == pytest.approx(expected)


def test_bleu_by_hand(metrics):
    """Precisions 4/5, 3/4, 2/3, 1/2 and no brevity penalty: (4/5 · 3/4 · 2/3 · 1/2) ** (1/4) = 0.2 ** 0.25."""
    assert metrics.bleu(["a b c d x"], ["a b c d e"]) == pytest.approx(100 * 0.2**0.25)


def test_bleu_of_short_chinese_and_empty_answers(metrics):
    assert metrics.bleu(["null drei"], ["null drei"]) == pytest.approx(100.0)
    assert metrics.bleu(["我们走吧今天"], ["我们走吧明天"]) > 50
    assert metrics.bleu([""], ["null drei"]) == 0.0


def test_rouge_l_by_hand(metrics):
    """LCS "a dog and rain falls" = 5; precision 5/5, recall 5/7, F1 10/12. The second clip has nothing in common."""
    answers = ["a dog and rain falls", "birds"]
    references = ["a dog barks loudly and rain falls", "an engine"]
    assert metrics.rouge_l(answers[:1], references[:1]) == pytest.approx(100 * 10 / 12)
    assert metrics.rouge_l(answers, references) == pytest.approx(50 * 10 / 12)
    assert metrics.rouge_l([""], ["an engine"]) == 0.0


@pytest.mark.parametrize(
    ("task", "metric", "better"),
    [("asr", "wer", "lower"), ("gr", "acc", "higher"), ("s2tt", "bleu", "higher"), ("aac", "rouge_l", "higher")],
)
def test_single_task_has_its_metric_alone(metrics, task, metric, better):
    from amask.data.tasks import parse_task

    (only,) = metrics.score(parse_task(task), ["one two three four"], ["one two three four"])
    assert (only.metric, only.part, only.name, only.better) == (metric, "", metric, better)
    assert only.value == pytest.approx(0.0 if metric == "wer" else 100.0)


def test_pipe_composite(score):
    references = ["female|put the red box", "male|take the key", "male|move the lamp now", "female|one two"]
    answers = [
        "Female | put the red box.",  # right
        "female|take the key",  # wrong label
        "move the lamp now",  # not in the form: 4 deletions and a wrong label
        "female|one three",  # 1 substitution
    ]
    found = score("gr|asr", answers, references)
    assert list(found) == ["exact", "ifr", "gr.acc", "asr.wer"]
    assert found == pytest.approx({"exact": 25.0, "ifr": 75.0, "gr.acc": 50.0, "asr.wer": 100 * 5 / 13})


@pytest.mark.parametrize(
    "broken",
    [
        '{"gr": "male", "asr": "one two"',
        '{"gr": "male"}',
        '{"gr": "male", "asr": "one two", "age": "adult"}',
        '["male", "one two"]',
        "male|one two",
        "",
    ],
)
def test_broken_json_lowers_ifr_and_its_parts(score, broken):
    right = '{"gr": "male", "asr": "one two"}'
    assert score("gr-asr-json", [right, '{"asr":"one two", "gr":"male"}'], [right] * 2) == pytest.approx(
        {"exact": 100.0, "ifr": 100.0, "gr.acc": 100.0, "asr.wer": 0.0}
    )
    assert score("gr-asr-json", [right, broken], [right] * 2) == pytest.approx(
        {"exact": 50.0, "ifr": 50.0, "gr.acc": 50.0, "asr.wer": 50.0}
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
