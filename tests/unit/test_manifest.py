"""Manifests: what is written comes back, the authors' format is understood, and malformed files name their line."""

import json

import numpy as np
import pytest
import soundfile

RATE = 16_000


@pytest.fixture
def manifest():
    from amask.data import manifest

    return manifest


@pytest.fixture
def reading():
    from amask.data import reading

    return reading


@pytest.fixture
def refused():
    from amask.errors import DataError

    return lambda fragment: pytest.raises(DataError, match=fragment)


def test_clips_come_back_as_written(manifest, reading, tmp_path):
    # U+2028 and U+0085 end a line for str.splitlines() but are legal within a JSON string.
    clips = (
        manifest.Clip(path="a.opus", labels={"asr": "stelle die grüne Schüssel", "gr": "female"}, split="train", duration=1.5),
        manifest.Clip(
            path="b/ü.wav",
            more=("c.wav", "d.wav"),
            text="one\u2028two\u0085three\nfour",
            speaker="x+y",
            effects=("reverb", "noise"),
        ),
    )
    manifest.write_manifest(clips, tmp_path / "manifest.jsonl")
    read = reading.read_manifest(tmp_path)  # a folder stands for its manifest.jsonl
    assert read.clips == clips
    assert len((tmp_path / "manifest.jsonl").read_text(encoding="utf-8").split("\n")) == 3  # one clip a line
    assert read.path(clips[1]) == tmp_path / "b" / "ü.wav"


def test_absolute_paths_stay(manifest, tmp_path):
    clip = manifest.Clip(path=str(tmp_path / "elsewhere" / "a.wav"))
    assert manifest.Manifest((clip,), tmp_path / "here").path(clip) == tmp_path / "elsewhere" / "a.wav"


def test_select_by_split_and_labels(manifest, tmp_path):
    labels = [{"asr": "a", "gr": "male"}, {"asr": "b"}, {"gr": "male"}]
    clips = [
        manifest.Clip(path=f"{split}{number}", labels=label, split=split)
        for split in ("train", "test")
        for number, label in enumerate(labels)
    ]
    whole = manifest.Manifest(tuple(clips), tmp_path)
    assert [clip.path for clip in whole.select("test", ["asr", "gr"])] == ["test0"]
    assert [clip.path for clip in whole.select(tasks=["gr"])] == ["train0", "train2", "test0", "test2"]
    assert len(whole.select()) == 6


def test_byte_order_mark_and_blank_lines_are_skipped(manifest, reading, tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"path": "a.wav"}\r\n\r\n{"path": "b.wav"}\r\n')
    assert [clip.path for clip in reading.read_manifest(path)] == ["a.wav", "b.wav"]


def test_authors_format(manifest, reading, tmp_path):
    entries = [
        {"path": "a.flac", "text": "Male", "task": "gender_recognition"},
        {"path": "b.flac", "text": "hello", "Q": "Recognise the speech."},
        {"path": "c.flac", "text": "ein Hund", "task": "of_their_own", "Q": None},
    ]
    path = tmp_path / "test.json"
    path.write_text(json.dumps({"annotation": entries}), encoding="utf-8")
    clips = reading.read_manifest(path).clips
    assert [clip.labels for clip in clips] == [{"gr": "male"}, {"asr": "hello"}, {"of_their_own": "ein Hund"}]
    assert [clip.instruction for clip in clips] == ["", "Recognise the speech.", ""]


@pytest.fixture
def joined(reading, tmp_path):
    """A manifest in the authors' format of one clip of three files: 0.5 s, 0.25 s (stereo, another rate) and 0.5 s."""
    rng = np.random.default_rng(0)
    waves = [rng.uniform(-0.5, 0.5, size).astype(np.float32) for size in ((8_000,), (11_025, 2), (8_000,))]
    for name, wave, rate in zip("abc", waves, (RATE, 44_100, RATE), strict=True):
        soundfile.write(tmp_path / f"{name}.wav", wave, rate, subtype="FLOAT")
    entry = {"path": "a.wav", "expand_wav": ["b.wav", "c.wav"], "text": "Yes", "task": "speaker_verification"}
    (tmp_path / "test.json").write_text(json.dumps({"annotation": [entry, {"path": "a.wav", "text": "x", "expand_wav": []}]}))
    return reading.read_manifest(tmp_path / "test.json"), waves


def test_several_files_are_one_clip_with_pauses(joined):
    # As SALMONN's reader has it: 1600 zeros between the files, at 16 kHz.
    read, (first, second, third) = joined
    clip, alone = read.clips
    assert (clip.more, alone.more) == (("b.wav", "c.wav"), ())
    wave = read.wave(clip, channels="first")
    pause = np.zeros(1600, np.float32)
    assert len(wave) == 8_000 + 1600 + 4_000 + 1600 + 8_000
    assert np.array_equal(wave[:9_600], np.concatenate([first, pause]))
    assert np.array_equal(wave[-9_600:], np.concatenate([pause, third]))
    assert wave[9_600:13_600].std() == pytest.approx(second[:, 0].std() * np.sqrt(16 / 44.1), rel=0.1)  # white, resampled
    assert np.array_equal(read.wave(alone), first)


def test_joined_clips_are_held_to_the_models_length(joined):
    from amask.errors import AudioError

    read, _ = joined
    clip = read.clips[0]
    whole = read.wave(clip)
    assert len(whole) == 23_200  # 1.45 s
    assert np.array_equal(read.wave(clip, longest=1.45), whole)
    with pytest.raises(
        AudioError, match=r"a\.wav \+ .*b\.wav \+ .*c\.wav are 1\.45 s long together, .* at most 1\.0 s; cut them"
    ):
        read.wave(clip, longest=1.0)
    assert np.array_equal(read.wave(clip, longest=1.0, trim=True), whole[:RATE])
    assert np.array_equal(read.wave(clip, longest=0.25, trim=True), whole[: RATE // 4])
    with pytest.raises(AudioError, match=r"a\.wav is 0\.5 s long, the model hears at most 0\.25 s"):
        read.wave(clip, longest=0.25)


def test_a_missing_second_file_is_named(joined):
    from amask.errors import AudioError

    read, _ = joined
    read.path(read.clips[0].model_copy(update={"path": "b.wav"})).unlink()
    with pytest.raises(AudioError, match=r"cannot read .*b\.wav: No such file"):
        read.wave(read.clips[0])


def test_models_hear_the_joined_clip(joined, tiny_qwen2_audio, monkeypatch):
    from amask.lalm.clip_features import ClipFeatures
    from amask.lalm.qwen2_audio import BASE_TEMPLATE, Qwen2Audio

    read, _ = joined
    model = Qwen2Audio("tiny", *tiny_qwen2_audio(), BASE_TEMPLATE)
    heard, encode = [], model.encode
    monkeypatch.setattr(model, "encode", lambda waves: heard.extend(waves) or encode(waves))
    features = ClipFeatures(model, read).rows([0, 1])
    assert all(np.array_equal(wave, read.wave(clip)) for wave, clip in zip(heard, read, strict=True))
    assert len(features) == len(heard) == 2
    assert features.lengths[0] > features.lengths[1]


def test_the_authors_demonstration(manifest, reading, shared):
    read = reading.read_manifest(shared / "ahamask_official" / "demo.json")
    assert len(read) == len(json.loads((shared / "ahamask_official" / "demo.json").read_text())["annotation"])
    assert {clip.labels["gr"] for clip in read} <= {"male", "female"}
    assert all(read.path(clip).is_file() for clip in read)


@pytest.mark.parametrize(
    ("name", "content", "fragment"),
    [
        ("m.jsonl", "", "has no clips"),
        ("m.jsonl", '{"path": "a.wav"}\n{"path": "b.wav"', "line 2: line: Invalid JSON"),
        ("m.jsonl", '{"path": "a.wav"}\n\n{"split": "test"}', "line 3: path: Field required"),
        ("m.jsonl", '{"path": "a.wav", "lables": {}}', "line 1: lables: Extra inputs are not permitted"),
        ("m.jsonl", '{"path": "a.wav", "split": "valid"}', "line 1: split: Input should be 'train', 'dev' or 'test'"),
        ("m.jsonl", '{"path": "a.wav", "labels": {"asr": 3}}', "line 1: labels.asr: Input should be a valid string"),
        ("m.jsonl", b"\xff\xfe\x00", "cannot read manifest"),
        ("m.json", "[]", "expected JSON of the form"),
        ("m.json", "{", "expected JSON of the form"),
        ("m.json", '{"annotation": null}', "expected JSON of the form"),
        ("m.json", '{"annotation": {"path": "a"}}', "expected JSON of the form"),
        ("m.json", '{"annotation": []}', "has no clips"),
        ("m.json", '{"annotation": [{"path": "a", "text": "b"}, {"path": "a"}]}', "annotation 1: an annotation needs"),
        ("m.json", '{"annotation": [{"path": "a", "text": null}]}', "annotation 0: .* both strings"),
        (
            "m.json",
            '{"annotation": [{"path": "a", "text": "b", "expand_wav": "c"}]}',
            "annotation 0: 'expand_wav' must be a list",
        ),
        (
            "m.json",
            '{"annotation": [{"path": "a", "text": "b", "expand_wav": [3]}]}',
            "annotation 0: 'expand_wav' must be a list",
        ),
    ],
)
def test_malformed_manifests_are_refused(manifest, reading, refused, tmp_path, name, content, fragment):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with refused(fragment) as caught:
        reading.read_manifest(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_manifests_are_refused(manifest, reading, refused, tmp_path):
    with refused("cannot read manifest .*nowhere.jsonl: No such file"):
        reading.read_manifest(tmp_path / "nowhere.jsonl")
    with refused("folder .* is no data set; expected manifest.jsonl, metadata.csv"):
        reading.read_manifest(tmp_path)
