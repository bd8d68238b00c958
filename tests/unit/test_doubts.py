"""Answers in another task's voice, unlikely labels, and segments of which nothing is in the answer."""

import numpy as np
import pytest

RATE = 16_000


@pytest.fixture(scope="module")
def known():
    from amask.data.tasks import builtin_tasks

    return tuple(builtin_tasks().values())


@pytest.mark.parametrize(
    ("text", "doubted"),
    [
        ("put the red box on the table", ""),
        ("female", "is an answer of gr"),
        ("Happy.", "is an answer of ser"),
        ('{"gr": "female", "asr": "hello"}', "has the form of several tasks"),
        ("female|put the red box", "has the form of several tasks"),
        ("either|or", ""),
        ("", ""),
        ("[1, 2]", ""),
    ],
)
def test_open_text_in_another_tasks_voice(known, text, doubted):
    from amask.data.tasks import parse_task
    from amask.serving.doubts import doubts

    found = list(doubts(parse_task("asr").parts, {"asr": text}, 0.9, known))
    assert len(found) == bool(doubted)
    assert not doubted or doubted in found[0]


def test_labels_are_no_other_voice_and_low_ones_are_unsure(known):
    from amask.data.tasks import parse_task
    from amask.serving.doubts import doubts

    gr, asr = parse_task("gr").parts, parse_task("asr").parts
    assert not list(doubts(gr, {"gr": "female"}, 0.9, known))
    assert list(doubts(gr, {"gr": "female"}, 0.55, known)) == ["unsure: the answer has a confidence of 55%"]
    assert not list(doubts(asr, {"asr": "hello there"}, 0.55, known))
    assert list(doubts(asr, {"asr": "hello there"}, 0.3, known))
    assert not list(doubts(asr, {"asr": "hello there"}, None, known))


def test_no_segment_vanishes_without_a_word():
    from amask.data.tasks import parse_task
    from amask.serving.doubts import silent_segments
    from amask.serving.results import SegmentAnswer

    tone = np.sin(np.arange(2 * RATE) / 10).astype(np.float32)
    segments = [tone, tone, np.zeros(RATE, np.float32)]
    answers = [SegmentAnswer(text, {"asr": text}) for text in ("hello", "", "")]
    tasks = parse_task("asr").parts
    assert list(silent_segments(tasks, answers, segments, RATE)) == ["nothing is answered for 2.0 to 4.0 s, where there is sound"]
    assert not list(silent_segments(tasks, answers[1:2], segments[1:2], RATE))  # a clip of one segment just has no words
    assert not list(silent_segments(parse_task("gr").parts, answers, segments, RATE))
    assert len(list(silent_segments((), answers, segments, RATE))) == 1  # what a prompt says
