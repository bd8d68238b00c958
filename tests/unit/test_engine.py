"""The batch engine: order, long clips, votes, warnings, and clips that cannot be read."""

import io

import numpy as np
import pytest
import soundfile
import torch

RATE = 16_000


@pytest.fixture
def model(monkeypatch):
    """Hears at most two seconds, and says how loud most of a piece is in tenths; keeps the sizes of its batches."""
    from amask.lalm.answering import Answer
    from amask.lalm.base import LALM
    from amask.lalm.batching import AudioFeatures
    from amask.serving import engine

    class Stub(LALM):
        rate, longest, channels, device, batches = RATE, 2.0, "mean", "cpu", []

        def __init__(self):
            self.batches.clear()

        def _encode(self, waves):
            raise NotImplementedError

        def encode(self, waves):
            self.batches.append(len(waves))
            assert all(len(wave) <= 2 * RATE for wave in waves)
            levels = [float(np.median(np.abs(wave)) * 2**0.5) for wave in waves]  # of a sine: its level
            return AudioFeatures(torch.tensor(levels)[:, None, None], torch.ones(len(waves), dtype=torch.long))

    def answers(model, features, gates, instructions, *, max_new_tokens, beams, form):
        levels = (level for some in features for level in some.embeds.flatten().tolist())
        yield from (Answer(f"{level:.1f}", truncated=max_new_tokens < 3) for level in levels)

    monkeypatch.setattr(engine, "answers", answers)
    monkeypatch.setattr(
        engine, "label_likelihoods", lambda model, features, labels, *_: torch.full((len(features), len(labels)), 0.5)
    )
    return Stub()


@pytest.fixture
def clip(tmp_path):
    """Writes a tone that is louder or softer from second to second."""

    def write(name, *levels):
        time = np.arange(RATE) / RATE
        wave = np.concatenate([level * np.sin(2 * np.pi * 300 * time) for level in levels])
        soundfile.write(tmp_path / name, wave.astype(np.float32), RATE, subtype="FLOAT")
        return tmp_path / name

    return write


@pytest.fixture
def task():
    from amask.data.tasks import Task, TaskSpec

    return TaskSpec(parts=(Task(name="level", metric="acc", labels=("0.2", "0.5", "0.8")),))


def test_answers_come_in_the_order_of_the_clips_with_those_that_fail(model, clip, tmp_path):
    from amask.serving.engine import Limits, Order, answer_clips

    (tmp_path / "broken.wav").write_bytes(b"no audio")
    clips = [clip("a.wav", 0.5), tmp_path / "broken.wav", clip("long.wav", 0.5, 0.5, 0.5), clip("b.wav", 0.8)]
    replies = list(answer_clips(model, clips, Order(), Limits(batch=2)))
    assert [reply.text for reply in replies] == ["0.5", "", "", "0.8"]
    assert [bool(reply.error) for reply in replies] == [False, True, True, False]
    assert "the model hears at most 2.0 s" in replies[2].error
    assert [replies[0].duration, replies[0].pieces] == [1.0, 1]
    assert max(model.batches) <= 2


def test_batches_are_answered_as_they_fill(model, clip):
    """Memory does not grow with the number of clips: nothing waits for the last one."""
    from amask.serving.engine import Limits, Order, answer_clips

    heard = []

    def clips():
        for number in range(10):
            heard.append(number)
            yield clip(f"{number}.wav", 0.5)

    replies = answer_clips(model, clips(), Order(), Limits(batch=2))
    next(replies)
    assert len(heard) == 2


def test_long_clips_are_cut_and_their_labels_voted_for(model, clip, task):
    from amask.serving.engine import Limits, Order, answer_clips

    (reply,) = answer_clips(model, [clip("a.wav", 0.8, 0.8, 0.2, 0.2, 0.2)], Order(task), Limits(long="cut"))
    assert reply.pieces >= 3
    assert reply.text == "0.2"
    assert reply.confidence == 0.5
    (trimmed,) = answer_clips(model, [clip("a.wav", 0.5, 0.5, 0.8)], Order(task), Limits(long="trim"))
    assert (trimmed.text, trimmed.pieces) == ("0.5", 1)


def test_what_is_odd_is_said(model, clip, task):
    from amask.serving.engine import Limits, Order, answer_clips

    (silent,) = answer_clips(model, [clip("a.wav", 0.0)], Order(task), Limits(max_new_tokens=2))
    assert "silent" in " ".join(silent.warnings)
    assert silent.cut
    assert silent.confidence is None  # "0.0" is no label


def test_standard_input(model, clip):
    from amask.serving.engine import Order, answer_clips

    (reply,) = answer_clips(model, [("-", io.BytesIO(clip("a.wav", 0.5).read_bytes()))], Order())
    assert (reply.path, reply.text) == ("-", "0.5")


@pytest.mark.parametrize(
    ("name", "texts", "joined"),
    [
        ("asr", ["put the", "", "red box"], "put the red box"),
        ("gr", ["female", "male", "female"], "female"),
        ("gr-asr", ["female|put the", "male|red", "female|box"], "female|put the red box"),
        ("asr-gr-json", ['{"asr": "a", "gr": "male"}'] * 3, '{"asr": "a a a", "gr": "male"}'),
        ("gr-asr", ["female|put", "red box", "male|x"], "female|put\nred box\nmale|x"),  # one is out of form
    ],
)
def test_answers_of_pieces_are_joined(name, texts, joined):
    from amask.data.tasks import parse_task
    from amask.serving.engine import join_answers

    assert join_answers(parse_task(name), texts, [1.0, 1.0, 1.0]) == joined


def test_longer_pieces_count_more():
    from amask.data.tasks import parse_task
    from amask.serving.engine import join_answers

    assert join_answers(parse_task("gr"), ["female", "male", "male"], [5.0, 1.0, 1.0]) == "female"


def test_many_clips_take_the_memory_of_few(model, clip):
    import tracemalloc

    from amask.serving.engine import Order, answer_clips

    path = clip("tone.wav", 0.5)
    peaks = []
    for count in (16, 32, 640):
        tracemalloc.start()
        assert sum(1 for _ in answer_clips(model, (path for _ in range(count)), Order())) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.2 * peaks[1]  # the first round imports
