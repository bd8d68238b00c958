"""Training as a function: what is checked before the work, how clips are chosen, and what is kept."""

import json
import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

RATE = 16_000
QUICK = {"steps": 4, "batch": 2, "warmup": 1, "evaluations": 2, "dev_clips": 4}


@pytest.fixture(scope="module")
def model(tiny_qwen2_audio):
    from amask.lalm.batching import PromptTemplate
    from amask.lalm.qwen2_audio import Qwen2Audio

    return Qwen2Audio("tiny", *tiny_qwen2_audio(seed=0), PromptTemplate("<|audio_bos|>", "<|audio_eos|>{}"))


@pytest.fixture
def recipe():
    from amask.mask_bank.recipe import Recipe

    return Recipe(**QUICK)


@pytest.fixture
def write(tmp_path):
    """Writes clips of noise, another one for each number, and a manifest that says what it is told of each."""

    def make(rows, folder="data", seed=0):
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        lines = []
        for at, row in enumerate(rows):
            noise = np.random.default_rng([seed, at]).normal(0, 0.1, 4000 + 400 * at).astype(np.float32)
            soundfile.write(place / f"{at}.wav", noise, RATE)
            lines.append(json.dumps({"path": f"{at}.wav"} | row))
        (place / "manifest.jsonl").write_text("\n".join(lines))
        return place

    return make


def rows(count=8, dev=2, **labels):
    usual = {"gr": lambda at: ("male", "female")[at % 2], "asr": lambda at: f"word {at}"}
    made = [{"labels": {task: of(at) for task, of in (usual | labels).items()}} for at in range(count)]
    return [row | {"split": "dev" if at < dev else "train"} for at, row in enumerate(made)]


def test_masks_come_by_task_and_seed_and_are_stored_on_request(model, recipe, write, tmp_path):
    from amask.mask_bank.bank import MaskBank
    from amask.mask_bank.train import train

    told, checked = [], []
    data = write(rows())
    bank = MaskBank(tmp_path / "bank")
    masks = train(
        model, ["gr", "asr"], data, seeds=(1, 2), recipe=recipe, bank=bank,
        on_step=told.append, on_checked=lambda *numbers: checked.append(numbers),
    )  # fmt: skip
    assert [(mask.task_name, mask.lineage["seed"]) for mask in masks] == [("gr", 1), ("gr", 2), ("asr", 1), ("asr", 2)]
    assert [now.step for now in told] == [1, 2, 3, 4]
    assert checked == [(at, 8) for at in range(1, 9)]
    assert not list((tmp_path / "bank").rglob("*.checkpoint"))
    assert {stored.digest for stored in bank.list()} == {mask.digest for mask in masks}
    again = train(model, "gr", str(data), seeds=(2,), recipe=recipe)
    assert [mask.digest for mask in again] == [masks[1].digest]


def test_the_data_hash_is_of_sound_and_answers_wherever_they_lie(model, recipe, write):
    from amask.mask_bank.train import train

    def hashes(data, task="gr"):
        lineage = train(model, task, data, recipe=recipe.model_copy(update={"steps": 1}))[0].lineage
        return lineage["data"], lineage["dev_data"]

    first = hashes(write(rows()))
    assert hashes(write(rows(), "elsewhere")) == first
    other_sound = hashes(write(rows(), "other", seed=1))  # of equal lengths and labels
    assert not set(other_sound) & set(first)
    other_label = hashes(write([*rows()[:-1], rows()[-1] | {"labels": {"gr": "male", "asr": "x"}}], "label"))
    assert (other_label[0] != first[0], other_label[1] == first[1]) == (True, True)
    other_split = hashes(write(rows(dev=3), "split"))
    assert not set(other_split) & set(first)
    transcripts = hashes(write(rows(asr=lambda at: f"other {at}"), "asr"))
    assert transcripts == first  # what gr does not learn from
    assert not set(hashes(write(rows()), "gr-asr")) & set(first)


@pytest.mark.parametrize(
    ("labels", "task", "message"),
    [
        (
            {"gr": lambda at: "F" if at == 3 else "male"},
            "gr",
            r"clip 4 of the data \(3.wav\): 'F' is not a label of gr.*--skip-bad",
        ),
        ({"gr": lambda at: "" if at == 3 else "male"}, "gr", r"clip 4 .* is not a label of gr"),
        ({"asr": lambda at: "a|b" if at == 3 else "a"}, "gr-asr", r"clip 4 .*'a\|b' cannot be part of gr-asr"),
    ],
)
def test_bad_labels_are_refused_before_anything_is_heard(model, recipe, write, monkeypatch, labels, task, message):
    from amask.errors import DataError
    from amask.mask_bank.train import train

    data = write(rows(**labels))
    with monkeypatch.context() as patch:
        patch.setattr(model, "encode", lambda _waves: pytest.fail("a clip was heard"))
        with pytest.raises(DataError, match=message):
            train(model, task, data, recipe=recipe)


def test_bad_clips_are_skipped_and_counted(model, recipe, write, caplog):
    from amask.errors import AudioError
    from amask.mask_bank.train import train

    data = write(rows(12, gr=lambda at: "F" if at == 3 else ("male", "female")[at % 2]))
    (data / "5.wav").unlink()
    (data / "6.wav").write_bytes(b"no sound")
    masks = train(model, "gr", data, recipe=recipe, skip_bad=True)
    assert masks[0].lineage["clips"] == 12 - 2 - 3
    assert "3 of 12 clips are left out; the first: clip 4 of the data (3.wav)" in caplog.text
    write(rows(12))
    (data / "5.wav").unlink()
    with pytest.raises(AudioError, match=r"5\.wav"):
        train(model, "gr", data, recipe=recipe)


def test_doubles_are_said(model, recipe, write, caplog):
    from amask.mask_bank.train import train

    data = write(rows(10))
    (data / "0.wav").write_bytes((data / "5.wav").read_bytes())
    (data / "7.wav").write_bytes((data / "5.wav").read_bytes())
    train(model, "gr", data, recipe=recipe)
    assert "1 clips have the same sound as another one of their split" in caplog.text
    assert "1 dev clips are also train clips" in caplog.text


def split_of(clips, tasks=("gr",), divided=False):
    from amask.data.tasks import parse_task
    from amask.mask_bank.labelled_clips import _split

    train, dev = _split(clips, [parse_task(task) for task in tasks], divided)
    return [clip.path for clip in train], [clip.path for clip in dev]


def made_up(count, split="train", speakers=0, **labels):
    from amask.data.manifest import Clip

    labels = labels or {"gr": "male"}
    who = [f"s{at % speakers}" if speakers else "" for at in range(count)]
    return [Clip(path=f"{split}{at}.wav", labels=labels, split=split, speaker=name) for at, name in enumerate(who)]


def test_dev_clips_are_drawn_by_speaker_and_the_same_every_time(caplog):
    clips = made_up(100, speakers=20)
    train, dev = split_of(clips)
    assert split_of(list(reversed(clips)))[1] == list(reversed(dev))
    speakers = {clip.path: clip.speaker for clip in clips}
    assert not {speakers[path] for path in train} & {speakers[path] for path in dev}
    assert 10 <= len(dev) < 20
    assert "no dev clips for gr: 10 of its 100 train clips are taken, drawn by speaker" in caplog.text


def test_dev_clips_are_drawn_by_file_where_there_are_few_speakers(caplog):
    clips = made_up(100, speakers=3)
    train, dev = split_of(clips)
    assert (len(train), len(dev)) == (90, 10)
    assert "drawn by file" in caplog.text
    assert split_of(made_up(2))[1] != []
    assert len(split_of(made_up(2))[0]) == 1


def test_clips_that_are_all_for_tests_are_divided(caplog):
    train, dev = split_of(made_up(50, "test"))
    assert (len(train), len(dev)) == (45, 5)
    assert "all clips of the data are test clips" in caplog.text


def test_splits_that_the_data_name_are_kept(caplog):
    clips = made_up(5) + made_up(3, "dev") + made_up(4, "test")
    with caplog.at_level(logging.INFO):
        train, dev = split_of(clips)
    assert (len(train), len(dev)) == (5, 3)
    assert caplog.text == ""
    split_of(clips, divided=True)
    assert "the data name no splits; drawn are 5 train and 3 dev clips" in caplog.text


def test_each_task_gets_dev_clips(caplog):
    clips = made_up(20) + made_up(4, "dev") + made_up(30, "train", asr="words")
    train, dev = split_of(clips, ("gr", "asr"))
    assert (len(train), len(dev)) == (20 + 27, 4 + 3)
    assert "no dev clips for asr" in caplog.text
    assert "no dev clips for gr" not in caplog.text


@pytest.mark.parametrize(("clips", "where"), [((1, "train"), "dev"), ((3, "dev"), "train")])
def test_too_few_clips_are_refused(clips, where):
    from amask.errors import DataError

    with pytest.raises(DataError, match=f"no {where} clip has labels for gr"):
        split_of(made_up(*clips))


def test_a_task_named_twice_trains_once(model, recipe, write, caplog):
    from amask.mask_bank.train import train

    assert len(train(model, ["gr", "gr"], write(rows()), recipe=recipe)) == 1
    assert "gr is trained once" in caplog.text


def test_a_column_of_labels_makes_a_task(model, recipe, write, caplog):
    from amask.mask_bank.train import train

    data = write([{"Accent": ("scots", "welsh")[at % 2], "split": "dev" if at < 2 else "train"} for at in range(8)])
    (mask,) = train(model, "accent", data, recipe=recipe)
    assert mask.task.parts[0].labels == ("scots", "welsh")
    assert "'accent' is taken from the data" in caplog.text
    (data / "tasks.toml").write_text('[accent]\nmetric = "acc"\ncolumn = "Accent"\nlabels = ["scots", "welsh", "manx"]\n')
    (mask,) = train(model, "accent", data, recipe=recipe)
    assert mask.task.parts[0].labels == ("scots", "welsh", "manx")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": "lyrics"}, "unknown task 'lyrics'"),
        ({"tasks": []}, "no task to train"),
        ({"tasks": "age"}, "no clip of the data has labels for age"),
        ({"tasks": "gr", "seeds": ()}, "seeds"),
        ({"tasks": "gr", "seeds": (1, 1)}, "seeds"),
    ],
)
def test_bad_arguments_are_refused(model, write, arguments, message):
    from amask.errors import DataError
    from amask.mask_bank.train import train

    with pytest.raises(DataError, match=message):
        train(model, data=write(rows()), **arguments)


def test_what_cannot_be_scored_is_found_out_before(model, write, monkeypatch):
    from amask.data.tasks import Task, TaskSpec
    from amask.errors import DataError
    from amask.mask_bank.train import train

    spec = TaskSpec(parts=(Task(name="asv", metric="eer", labels=("yes", "no")),))
    data = write([{"labels": {"asv": "yes"}, "split": "dev" if at < 2 else "train"} for at in range(6)])
    monkeypatch.setattr(model, "encode", lambda _waves: pytest.fail("a clip was heard"))
    with pytest.raises(DataError, match="clips of both labels"):
        train(model, spec, data)


def test_a_stopped_training_goes_on_and_another_one_does_not_touch_it(model, recipe, write, tmp_path):
    from amask.mask_bank.bank import MaskBank
    from amask.mask_bank.train import train

    class Stopped(Exception):
        pass

    def stop(now):
        if now.step == 2:
            raise Stopped

    data, bank = write(rows()), MaskBank(tmp_path / "bank")
    with pytest.raises(Stopped):
        train(model, "gr", data, recipe=recipe, bank=bank, on_step=stop)
    (checkpoint,) = bank.folder.rglob("*.checkpoint")
    assert checkpoint.name.startswith("gr-")
    train(model, "gr", data, seeds=(2,), recipe=recipe, bank=bank)
    train(model, "gr", write(rows(), "other", seed=1), recipe=recipe, bank=bank)
    assert checkpoint.exists()
    told = []
    (mask,) = train(model, "gr", data, recipe=recipe, bank=bank, on_step=told.append)
    assert [now.step for now in told] == [3, 4]
    assert not checkpoint.exists()
    assert mask.digest == train(model, "gr", data, recipe=recipe)[0].digest


MEMORY = """
import resource, sys
import numpy as np, torch
from pathlib import Path
sys.path.insert(0, {tests!r})
from conftest import build_tiny_qwen2_audio
from amask.data.manifest import Clip, Manifest
from amask.lalm import clip_features
from amask.lalm.batching import AudioFeatures, PromptTemplate
from amask.lalm.qwen2_audio import Qwen2Audio
from amask.mask_bank.recipe import Recipe
from amask.mask_bank.train import train

class MadeUp(Manifest):
    "Clips that are made when they are heard."
    def wave(self, clip, rate, **_):
        return np.full(rate // 2, int(clip.path) / 1e6, np.float32)
    def digest(self, clip):
        return clip.path

class Model(Qwen2Audio):
    "Hears 25 kB in each clip and answers at once, so that only what is kept of clips costs anything."
    def encode(self, waves):
        rows = [torch.full((256, 24), float(wave[0])) for wave in waves]
        return AudioFeatures(torch.stack(rows), torch.full((len(rows),), 256))
    def answered(self, features, targets, gates=None, prompts=None):
        count, other = len(targets), gates.mean((-2, -1)) * features.embeds.mean() + torch.zeros(len(targets))
        logits = torch.stack([torch.zeros(count), other], 1)
        return logits, torch.zeros(count, dtype=torch.long), torch.ones(count, 1, dtype=torch.bool)
    def generate(self, features, gates=None, prompts=None, **settings):
        return ["male"] * len(features)

clip_features.MEMORY = 2**21
count = int(sys.argv[1])
labels = [{{"gr": ("male", "female")[at % 2]}} for at in range(count)]
clips = [Clip(path=str(at), labels=labels[at], split="train" if at % 10 else "dev") for at in range(count)]
model = Model("tiny", *build_tiny_qwen2_audio(0), PromptTemplate("<|audio_bos|>", "<|audio_eos|>{{}}"))
recipe = Recipe(steps=200, batch=100, warmup=1, evaluations=1, dev_clips=1000)
train(model, "gr", MadeUp(tuple(clips), Path("/")), recipe=recipe)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_a_training_on_many_clips_takes_the_memory_of_one_on_few(root, tmp_path):
    script = tmp_path / "memory.py"
    script.write_text(MEMORY.format(tests=str(root / "tests" / "unit")))
    peaks = []
    for count in (100, 10_000):
        environment = os.environ | {"AMASK_CACHE": str(tmp_path / str(count)), "PYTHONPATH": str(root.parent)}
        command = [sys.executable, "-P", str(script), str(count)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout))
    assert peaks[1] < 1.2 * peaks[0]
