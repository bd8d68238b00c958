"""The batch engine: order, long clips, votes, warnings, and clips that cannot be read."""

import io

import numpy as np
import pytest
import soundfile
import torch

RATE = 16_000


@pytest.fixture
def model():
    """Hears at most two seconds, and says how loud most of a segment is in tenths; keeps the sizes of its batches."""
    from amask.lalm.answering import Answer
    from amask.lalm.base import LALM
    from amask.lalm.batching import AudioFeatures
    from amask.lalm.gating import Geometry

    class Stub(LALM):
        rate, longest, channels, device, can_score = RATE, 2.0, "mean", torch.device("cpu"), False
        geometry, fingerprint, name = Geometry((4,)), "f" * 16, "stub"

        def __init__(self):
            self.batches = []

        def _encode(self, waves):
            raise NotImplementedError

        def encode(self, waves):
            self.batches.append([len(wave) for wave in waves])
            assert all(len(wave) <= 2 * RATE for wave in waves)
            levels = [float(np.median(np.abs(wave)) * 2**0.5) for wave in waves]  # of a sine: its level
            return AudioFeatures(torch.tensor(levels)[:, None, None], torch.ones(len(waves), dtype=torch.long))

        def answer(self, features, gates=None, prompts=None, *, max_new_tokens=200, **_):
            return [Answer(f"{level:.1f}", max_new_tokens < 3, 0.5) for level in features.embeds.flatten().tolist()]

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
def unprompted():
    from amask.serving.routing import Prompt

    return Prompt()


@pytest.fixture
def by_level(model):
    """A route for a task whose labels are levels."""
    from amask.data.tasks import Task, TaskSpec
    from amask.mask_bank.mask import HeadMask
    from amask.serving.routing import ByMask

    task = TaskSpec(parts=(Task(name="level", metric="acc", labels=("0.2", "0.5", "0.8")),))
    return ByMask(HeadMask(torch.ones(1, 4, dtype=torch.bool), model.identity, task=task), "level@1", task)


def test_results_come_in_the_order_of_the_clips_with_those_that_fail(model, clip, tmp_path, unprompted):
    from amask.serving.engine import RunOptions, answer_clips

    (tmp_path / "broken.wav").write_bytes(b"no audio")
    clips = [clip("a.wav", 0.5), tmp_path / "broken.wav", clip("long.wav", 0.5, 0.5, 0.5), clip("b.wav", 0.8, 0.8)]
    results = list(answer_clips(model, clips, unprompted, RunOptions(batch=2)))
    assert [result.text for result in results] == ["0.5", "", "", "0.8"]
    assert [bool(result.error) for result in results] == [False, True, True, False]
    assert [result.path for result in results] == [str(path) for path in clips]
    assert "the model hears at most 2.0 s" in results[2].error
    assert [results[0].duration, results[0].segments, results[0].mode] == [1.0, 1, "unprompted"]


def test_a_clip_that_cannot_be_read_is_said_at_once(model, tmp_path, unprompted):
    """A folder of unreadable files is not read whole before the first of them is named."""
    from amask.serving.engine import RunOptions, answer_clips

    (tmp_path / "broken.wav").write_bytes(b"no audio")
    read = []

    def clips():
        for number in range(100):
            read.append(number)
            yield tmp_path / "broken.wav"

    results = answer_clips(model, clips(), unprompted, RunOptions(batch=2))
    assert next(results).error
    assert len(read) == 1
    assert all(result.error for result in results)


def test_segments_of_like_length_are_answered_together(model, clip, unprompted):
    from amask.serving.engine import RunOptions, answer_clips

    clips = [clip(f"{number}.wav", *[0.1 * number] * (1 + number % 2)) for number in range(1, 9)]
    results = list(answer_clips(model, clips, unprompted, RunOptions(batch=4)))
    assert model.batches == [[2 * RATE] * 4, [RATE] * 4]
    assert [result.text for result in results] == [f"{0.1 * number:.1f}" for number in range(1, 9)]


def test_clips_are_answered_some_batches_at_a_time(model, clip, unprompted):
    """Memory does not grow with the number of clips: nothing waits for the last one."""
    from amask.serving.engine import WINDOW, RunOptions, answer_clips

    heard = []

    def clips():
        for number in range(100):
            heard.append(number)
            yield clip(f"{number}.wav", 0.5)

    results = answer_clips(model, clips(), unprompted, RunOptions(batch=2))
    next(results)
    assert len(heard) == 2 * WINDOW
    assert max(map(len, model.batches)) == 2


def test_long_clips_are_split_and_their_labels_voted_for(model, clip, by_level):
    from amask.serving.engine import RunOptions, answer_clips

    (result,) = answer_clips(model, [clip("a.wav", 0.8, 0.8, 0.2, 0.2, 0.2)], by_level, RunOptions(long="split"))
    assert result.segments >= 3
    assert (result.text, result.parts, result.mask) == ("0.2", {"level": "0.2"}, "level@1")
    assert 0 < result.confidence < 0.5  # some segments give another label
    (trimmed,) = answer_clips(model, [clip("a.wav", 0.5, 0.5, 0.8)], by_level, RunOptions(long="trim"))
    assert (trimmed.text, trimmed.segments, trimmed.confidence) == ("0.5", 1, 0.5)


def test_what_is_odd_is_said(model, clip, by_level):
    from amask.serving.engine import RunOptions, answer_clips

    (silent,) = answer_clips(model, [clip("a.wav", 0.0)], by_level, RunOptions(max_new_tokens=2))
    assert "silent" in " ".join(silent.warnings)
    assert silent.truncated


def test_rows_of_different_routes_share_a_batch(model, by_level, unprompted):
    from amask.serving.engine import RunOptions, answer_segments

    features = model.encode([level * np.ones(RATE, np.float32) / 2**0.5 for level in (0.2, 0.5, 0.8)])
    answers = answer_segments(model, features, [by_level, unprompted, by_level], [RunOptions()] * 3)
    assert [answer.text for answer in answers] == ["0.2", "0.5", "0.8"]
    assert [dict(answer.parts) for answer in answers] == [{"level": "0.2"}, {}, {"level": "0.8"}]


def test_standard_input(model, clip, unprompted):
    from amask.serving.clips import NamedClip
    from amask.serving.engine import answer_clips

    (result,) = answer_clips(model, [NamedClip("-", io.BytesIO(clip("a.wav", 0.5).read_bytes()))], unprompted)
    assert (result.path, result.text) == ("-", "0.5")


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "stream", "samples", "list", "dict", "encoded", "row", "decoder"])
def test_clips_of_all_kinds_are_heard_alike(model, clip, unprompted, kind):
    from types import SimpleNamespace

    from amask.serving.engine import answer_clips

    path = clip("a.wav", 0.5)
    wave, _ = soundfile.read(path, dtype="float32")

    class Decoder:
        def get_all_samples(self):
            return SimpleNamespace(data=torch.tensor(wave)[None], sample_rate=RATE)

    kinds = {
        "path": path,
        "text": str(path),
        "bytes": path.read_bytes(),
        "stream": io.BytesIO(path.read_bytes()),
        "samples": (wave, RATE),
        "list": (wave.tolist(), RATE),
        "dict": {"array": wave.astype(np.float64), "sampling_rate": RATE, "path": None},
        "encoded": {"bytes": path.read_bytes(), "path": "a.wav"},
        "row": {"audio": {"array": wave, "sampling_rate": RATE}, "text": "x"},
        "decoder": Decoder(),
    }
    (result,) = answer_clips(model, [kinds[kind]], unprompted)
    assert (result.text, result.error) == ("0.5", "")
    named = {"path": str(path), "text": str(path), "encoded": "a.wav"}
    assert result.path == named.get(kind, "clip 1")


@pytest.mark.parametrize("clip", [3, {"words": "x"}, (object(), RATE), ("x", RATE), {"array": [[["a"]]], "sampling_rate": RATE}])
def test_what_is_no_clip_is_an_error_of_its_own(model, unprompted, clip):
    from amask.serving.engine import answer_clips

    (result,) = answer_clips(model, [clip], unprompted)
    assert "cannot hear" in result.error
    assert result.path == "clip 1"


def test_samples_are_trimmed_split_or_refused_like_files(model, unprompted):
    from amask.serving.engine import RunOptions, answer_clips

    wave = np.repeat(np.float32([0.5, 0.8, 0.8, 0.8]), RATE) / 2**0.5
    refused, trimmed, split = (
        next(answer_clips(model, [(wave, RATE)], unprompted, RunOptions(long=long))) for long in ("refuse", "trim", "split")
    )
    assert "the model hears at most 2.0 s" in refused.error
    assert (trimmed.segments, trimmed.duration) == (1, 2.0)
    assert (split.segments >= 2, split.duration) == (True, 4.0)


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
def test_answers_of_segments_are_joined(name, texts, joined):
    from amask.data.tasks import parse_task
    from amask.serving.results import SegmentAnswer, join_answers

    spec = parse_task(name)
    answers = [SegmentAnswer(text, spec.split(text) or {}) for text in texts]
    assert join_answers(spec, answers, [1.0, 1.0, 1.0])[0] == joined


def test_longer_segments_count_more():
    from amask.data.tasks import parse_task
    from amask.serving.results import SegmentAnswer, join_answers, join_confidence

    spec = parse_task("gr")
    answers = [SegmentAnswer(text, {"gr": text}, {"gr": 0.9}) for text in ("female", "male", "male")]
    text, parts = join_answers(spec, answers, [5.0, 1.0, 1.0])
    assert text == "female"
    assert join_confidence(spec.parts, parts, answers, [5.0, 1.0, 1.0]) == pytest.approx(0.9 * 5 / 7, abs=1e-4)


def test_results_are_plain_data(model, clip, by_level):
    import json
    import pickle

    from amask.serving.engine import answer_clips

    (result,) = answer_clips(model, [clip("a.wav", 0.5)], by_level)
    assert pickle.loads(pickle.dumps(result)) == result
    row = json.loads(json.dumps(result.as_row()))
    assert (row["text"], row["mode"], row["mask"]) == ("0.5", "one-pass", "level@1")
    assert row["warnings"] == ["unsure: the answer has a confidence of 50%"]


def test_many_clips_take_the_memory_of_few(model, clip, unprompted):
    import tracemalloc

    from amask.serving.engine import answer_clips

    path = clip("tone.wav", 0.5)
    peaks = []
    for count in (64, 128, 320):
        tracemalloc.start()
        assert sum(1 for _ in answer_clips(model, (path for _ in range(count)), unprompted)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.2 * peaks[1]  # the first round imports


@pytest.mark.parametrize("options", [{"batch": 0}, {"max_new_tokens": 0}, {"long": "cut"}, {"beams": True}, {"prune": "on"}])
def test_options_that_cannot_be_are_refused(options):
    from amask.errors import InstructionError
    from amask.serving.engine import RunOptions

    with pytest.raises(InstructionError, match="expected"):
        RunOptions(**options)
