"""The pipeline: requests in, results out, one decision, each mask read once, and what `predict` shows is what `run` does."""

import json
import os
import pickle

import pytest
import soundfile
import torch

TASKS = ("asr", "gr", "ser", "aac")
REQUESTS = (
    "what's the speaker's gender",
    "transcribe the speech",
    "gender and then the words",
    "the words as json, then the gender",
    "how does she feel",
    "book a flight to london",
    "emotion|gender",
    "describe the sounds",
    "is it a man or a woman, and what is said",
    "",
)


@pytest.fixture(scope="module")
def lalm(tiny_qwen2_audio):
    from amask.lalm.batching import PromptTemplate
    from amask.lalm.qwen2_audio import Qwen2Audio

    return Qwen2Audio("tiny", *tiny_qwen2_audio(seed=0), PromptTemplate("<|audio_bos|>", "<|audio_eos|>{}"))


@pytest.fixture
def fill(lalm, tmp_path):
    """Makes a bank of random masks; composites as asked, with whether they reached their target."""
    from amask.data.tasks import parse_task
    from amask.mask_bank.bank import MaskBank
    from amask.mask_bank.mask import HeadMask

    generator = torch.Generator().manual_seed(3)

    def make(name, composites=()):
        bank = MaskBank(tmp_path / name)
        for task, reached in [*((task, None) for task in TASKS), *composites]:
            lineage = {} if reached is None else {"composite": {"reached": reached}}
            logits = torch.randn(lalm.geometry.shape, generator=generator)
            bank.add(HeadMask.from_logits(logits, lalm.identity, task=parse_task(task), lineage=lineage), task)
        return bank

    return make


@pytest.fixture(scope="module")
def clips(swelling, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for at, wave in enumerate(swelling((0.4, 1.1, 0.7))):
        soundfile.write(folder / f"{at}.wav", wave, 16_000, subtype="FLOAT")
    return [folder / f"{at}.wav" for at in range(3)]


@pytest.fixture
def pipe(lalm, fill):
    import amask

    return amask.pipeline(lalm, fill("bank"))


def test_one_clip_gives_a_result_and_several_a_list(pipe, clips):
    one = pipe(clips[0], task="gr", max_new_tokens=8)
    assert one.text in ("female", "male")
    assert (one.task, one.mode, one.mask, one.path) == ("gr", "one-pass", "gr@1", str(clips[0]))
    several = pipe(clips, task="gr", max_new_tokens=8)
    assert [result.path for result in several] == list(map(str, clips))
    assert several[0].text == one.text
    assert [result.text for result in pipe.stream(clips, task="gr", max_new_tokens=8)] == [result.text for result in several]


def test_a_route_is_chosen_once_and_can_be_run_and_pickled(pipe, clips):
    route = pipe.route(task="gr|asr")
    result = pipe(clips[0], route=route, max_new_tokens=8)
    assert (result.mode, result.mask) == ("parallel", "gr@1+asr@1")
    again = pickle.loads(pickle.dumps(route))
    assert pipe(clips[0], route=again, max_new_tokens=8).text == result.text
    assert pickle.loads(pickle.dumps(result)) == result


def test_masks_prompts_and_plans(pipe, clips):
    from amask.errors import InstructionError

    assert pipe(clips[0], mask="asr@1", max_new_tokens=8).mask == "asr@1"
    assert pipe(clips[0], mask=pipe.bank.get("asr"), max_new_tokens=8).text == pipe(clips[0], mask="asr", max_new_tokens=8).text
    assert pipe(clips[0], prompt="what", max_new_tokens=8).mode == "prompt"
    assert pipe(clips[0], task="gr THEN asr IF female", max_new_tokens=8).mode == "plan"
    with pytest.raises(InstructionError, match="exactly one of"):
        pipe(clips[0])
    with pytest.raises(InstructionError, match="unknown option 'taks'"):
        pipe(clips[0], taks="gr")
    with pytest.raises(InstructionError, match="pass a route or a request"):
        pipe(clips[0], "words", route=pipe.route(task="gr"))


def test_what_cannot_be_read_is_raised_for_one_clip_and_an_error_among_several(pipe, tmp_path, clips):
    from amask.errors import AudioError

    with pytest.raises(AudioError, match="absent"):
        pipe(tmp_path / "absent.wav", task="gr")
    results = pipe([clips[0], tmp_path / "absent.wav"], task="gr", max_new_tokens=8)
    assert [bool(result.error) for result in results] == [False, True]


def test_answers_are_put_into_the_form_that_was_asked_for(pipe, clips):
    from amask.data.answer_format import AnswerFormat

    plain = pipe(clips[0], task="gr|asr", max_new_tokens=8)
    shaped = pipe(clips[0], task="gr|asr", format=AnswerFormat(keys=("sex", "said")), max_new_tokens=8)
    assert json.loads(shaped.text) == {"sex": plain.parts["gr"], "said": plain.parts["asr"]}
    assert shaped.format.keys == ("sex", "said")
    loud = pipe(clips[0], task="gr", format=AnswerFormat(prefix="Sex:", case="upper"), max_new_tokens=8)
    assert loud.text == f"Sex: {pipe(clips[0], task='gr').text.upper()}"
    (wrong,) = pipe([clips[0]], task="gr", format=AnswerFormat(keys=("a", "b")), max_new_tokens=8)
    assert "keys" in wrong.error


def test_without_a_mask_for_the_model_the_command_that_trains_one_is_named(lalm, tmp_path):
    import amask
    from amask.errors import BankError
    from amask.mask_bank.bank import MaskBank

    pipe = amask.pipeline(lalm, MaskBank(tmp_path / "empty"))
    for request in ({"task": "gr"}, {"instruction": "gender"}):
        with pytest.raises(BankError, match="no mask for tiny; train one: amask bank train gr --model tiny"):
            pipe.route(**request)


@pytest.mark.parametrize("composites", [(), [("gr-asr", True)], [("gr-asr", False), ("asr-gr-json", True), ("ser-gr", None)]])
def test_predict_shows_the_route_that_run_takes(fill, lalm, composites):
    """300 requests: ten kinds, with small changes of the words."""
    import amask
    from amask.cli.predict import _route, _row
    from amask.errors import InstructionError

    pipe = amask.pipeline(lalm, fill("bank", composites))
    changes = ("{}", "please {}", "{} please", "{}!", "can you {}?", "I need {}", "{}.", "{} now", "quick: {}", "hey, {}")
    requests = [change.format(request) + end for request in REQUESTS for change in changes for end in ("", " ", "  ")]
    read = pipe.read(requests)
    assert len(read) == 300
    for text, found in zip(requests, read, strict=True):
        row = _row(found, _route(pipe, found))
        try:
            ran = pipe.route(text).as_row()
        except InstructionError:
            assert (row["decision"], row["task"]) == ("refuse", None)
        else:
            assert {name: ran[name] for name in ("task", "mode", "mask", "heads_on")} == {
                name: row[name] for name in ("task", "mode", "mask", "heads_on")
            }
    assert len({_row(found, _route(pipe, found))["task"] for found in read}) > 4


def test_each_mask_is_read_once_and_the_request_decided_once(pipe, clips, monkeypatch):
    from amask.mask_bank import versions
    from amask.predictor.router import InstructionRouter

    loaded, decided = [], []
    load, route = versions.load_mask, InstructionRouter.route
    for stored in pipe.bank.list():
        os.utime(stored.path, (0, 0))  # one that was written a moment ago may change yet, and is read again
    versions._load_unchanged.cache_clear()
    monkeypatch.setattr(versions, "load_mask", lambda path: loaded.append(path) or load(path))
    monkeypatch.setattr(InstructionRouter, "route", lambda self, *a, **k: decided.append(a) or route(self, *a, **k))
    pipe(clips[0], "what's the speaker's gender", max_new_tokens=8)
    assert len(loaded) == len(set(loaded)) == len(TASKS)
    assert len(decided) == 1


def test_features_that_were_encoded_before_are_used(pipe, clips, lalm, monkeypatch):
    first = pipe(clips, task="gr", max_new_tokens=8)

    def encode(_waves):
        raise AssertionError("encoded again")

    monkeypatch.setattr(lalm, "encode", encode)
    assert [result.text for result in pipe(clips, task="gr", max_new_tokens=8)] == [result.text for result in first]
