"""Answering many clips: the one loop, what is said of answers that were cut, and `LALM.run`."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

SECONDS = (0.6, 2.0, 1.25, 0.8, 1.0)


def texts(answers) -> list[str]:
    return [answer.text for answer in answers]


@pytest.fixture(scope="module")
def lalm(tiny_qwen2_audio):
    from amask.lalm.batching import PromptTemplate
    from amask.lalm.qwen2_audio import Qwen2Audio

    return Qwen2Audio("tiny", *tiny_qwen2_audio(), PromptTemplate("<|audio_bos|>", "<|audio_eos|>{}\n"))


@pytest.fixture(scope="module")
def waves(swelling):
    return swelling(SECONDS)


@pytest.fixture(scope="module")
def features(lalm, waves):
    return lalm.encode(waves)


@dataclass(frozen=True)
class SomeMask:
    """What `run` wants of a mask."""

    identity: object
    gates: Tensor
    task: object = None


@pytest.fixture(scope="module")
def mask(lalm):
    gates = (torch.rand(lalm.geometry.shape, generator=torch.Generator().manual_seed(2)) > 0.4).float()
    return SomeMask(lalm.identity, gates)


def alone(lalm, waves, gates=None, prompts=None, **how) -> list[str]:
    """The answers clip by clip; gates and prompts are one a clip."""
    return [
        texts(
            lalm.answer(
                lalm.encode([wave]),
                None if gates is None else gates[at],
                None if prompts is None else [prompts[at]],
                **how,
            )
        )[0]
        for at, wave in enumerate(waves)
    ]


@pytest.mark.parametrize("size", [1, 2, 5, 9])
@pytest.mark.parametrize("beams", [1, 2])
def test_answers_in_batches_are_those_clip_by_clip(lalm, waves, features, mask, size, beams):
    """With gates and an instruction for each clip, taken along from batch to batch."""
    from amask.lalm.answering import answers, in_batches

    gates = torch.stack([mask.gates.roll(at, 1) for at in range(5)])
    said = [f"say {at}" for at in range(5)]
    found = list(answers(lalm, in_batches(features, size), gates, said, max_new_tokens=6, beams=beams))
    assert [answer.text for answer in found] == alone(lalm, waves, gates, said, max_new_tokens=6, beams=beams)
    same = list(answers(lalm, in_batches(features, size), mask.gates, "say it", max_new_tokens=6, beams=beams))
    expected = alone(lalm, waves, [mask.gates] * 5, ["say it"] * 5, max_new_tokens=6, beams=beams)
    assert [answer.text for answer in same] == expected


def test_nothing_is_encoded_before_its_answer_is_asked_for(lalm, waves):
    from amask.lalm.answering import answers

    encoded = []

    def batches():
        for wave in waves:
            encoded.append(wave)
            yield lalm.encode([wave])

    found = answers(lalm, batches(), max_new_tokens=2)
    assert len(encoded) == 0
    next(found)
    assert len(encoded) == 1
    assert len(list(found)) == 4


@pytest.mark.parametrize("count", [4, 6])
def test_as_many_gates_and_instructions_as_clips_are_wanted(lalm, features, mask, count):
    from amask.errors import ModelError
    from amask.lalm.answering import answers, in_batches

    with pytest.raises(ModelError, match="gates"):
        list(answers(lalm, in_batches(features, 2), mask.gates.expand(count, -1, -1), max_new_tokens=1))
    with pytest.raises(ModelError, match="prompts"):
        list(answers(lalm, in_batches(features, 2), None, ["say"] * count, max_new_tokens=1))


@pytest.mark.parametrize("beams", [1, 2])
def test_an_answer_says_that_it_was_cut(lalm, features, monkeypatch, beams):
    """It was not where it ended by itself, be it with the last token allowed."""
    rows = features.rows([0])
    (answer,) = lalm.answer(rows, max_new_tokens=9, beams=beams)
    assert answer.truncated
    ids = lalm._continue(rows, [""], lalm._settings(9))[0].tolist()
    ends = next(at for at in range(2, 10) if ids[at - 1] not in ids[: at - 1])
    monkeypatch.setattr(type(lalm), "end_token", ids[ends - 1])
    cuts = [lalm.answer(rows, max_new_tokens=limit, beams=1)[0].truncated for limit in (ends - 1, ends, ends + 1)]
    assert cuts == [True, False, False]
    several = lalm.answer(features, max_new_tokens=ends)
    assert not several[0].truncated
    assert any(other.truncated for other in several[1:])


def test_run_answers_files_and_arrays(lalm, waves, mask, tmp_path):
    """One clip gives a text, a list gives a list; batches do not show."""
    expected = alone(lalm, waves, [mask.gates] * 5, max_new_tokens=6)
    path = tmp_path / "clip.wav"
    soundfile.write(path, waves[1], lalm.rate, subtype="FLOAT")
    assert lalm.run((waves[0], lalm.rate), mask, max_new_tokens=6) == expected[0]
    assert lalm.run(path, mask, max_new_tokens=6) == lalm.run(str(path), mask, max_new_tokens=6) == expected[1]
    clips = [(waves[0], lalm.rate), str(path), *((wave, lalm.rate) for wave in waves[2:])]
    for batch in (1, 2, 16):
        assert lalm.run(clips, mask, batch=batch, max_new_tokens=6) == expected
    assert lalm.run(clips, mask.gates, max_new_tokens=6) == expected
    stereo = np.stack([waves[0], waves[0]], 1)
    assert lalm.run((stereo, lalm.rate), mask, max_new_tokens=6) == expected[0]
    assert lalm.run([]) == []


def test_run_by_an_instruction_or_by_nothing(lalm, waves):
    clips = [(wave, lalm.rate) for wave in waves]
    said = alone(lalm, waves, None, ["who speaks?"] * 5, max_new_tokens=6)
    assert lalm.run(clips, prompt="who speaks?", max_new_tokens=6) == said
    assert lalm.run(clips, max_new_tokens=6) == alone(lalm, waves, max_new_tokens=6) != said


def test_run_resamples(lalm, mask, waves):
    import soxr

    slow = soxr.resample(waves[2], lalm.rate, 8_000)
    expected = lalm.run((soxr.resample(slow, 8_000, lalm.rate), lalm.rate), mask, max_new_tokens=6)
    assert lalm.run((slow, 8_000), mask, max_new_tokens=6) == expected


def test_run_refuses_what_it_cannot_do(lalm, waves, mask):
    from amask.errors import AudioError, InstructionError, MaskError, ModelError

    clip = (waves[0], lalm.rate)
    other = replace(mask, identity=replace(lalm.identity, fingerprint="f" * 16, name="salmonn"))
    for arguments, error, words in (
        (("nowhere.wav",), AudioError, "nowhere.wav"),
        (((np.resize(waves[0], 40_000), lalm.rate),), AudioError, "hears at most 2.0 s"),
        (
            (clip, other),
            MaskError,
            rf"the mask is for salmonn \(2×4 heads, f+\); this model is tiny \(2×4 heads, {lalm.fingerprint}",
        ),
        ((clip, mask, "who?"), InstructionError, "give one of the two"),
        ((clip, None, " "), InstructionError, "words"),
        ((clip, torch.ones(3, 4)), ModelError, "do not fit tiny"),
        ((clip, 2 * mask.gates), ModelError, "between 0"),
    ):
        with pytest.raises(error, match=words):
            lalm.run(*arguments)
    for count in ("batch", "max_new_tokens", "beams"):
        with pytest.raises(ModelError, match=f"{count} is 0; give a whole number, 1 or more"):
            lalm.run([clip], **{count: 0})
    for wrong in (waves[0], (waves[0],), None):
        with pytest.raises(AudioError, match=rf"cannot read a {type(wrong).__name__}; .* as \(array, rate\)"):
            lalm._read(wrong)
