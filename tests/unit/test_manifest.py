"""Manifests: what is written comes back, the authors' format is understood, and malformed files name their line."""

import json

import pytest


@pytest.fixture
def manifest():
    from amask.data import manifest

    return manifest


@pytest.fixture
def refused():
    from amask.errors import DataError

    return lambda fragment: pytest.raises(DataError, match=fragment)


def test_clips_come_back_as_written(manifest, tmp_path):
    # U+2028 and U+0085 end a line for str.splitlines() but are legal within a JSON string.
    clips = (
        manifest.Clip(path="a.opus", labels={"asr": "stelle die grüne Schüssel", "gr": "female"}, split="train", duration=1.5),
        manifest.Clip(path="b/ü.wav", text="one\u2028two\u0085three\nfour", speaker="x+y", effects=("reverb", "noise")),
    )
    manifest.write_manifest(clips, tmp_path / "manifest.jsonl")
    read = manifest.read_manifest(tmp_path)  # a folder stands for its manifest.jsonl
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


def test_byte_order_mark_and_blank_lines_are_skipped(manifest, tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"path": "a.wav"}\r\n\r\n{"path": "b.wav"}\r\n')
    assert [clip.path for clip in manifest.read_manifest(path)] == ["a.wav", "b.wav"]


def test_authors_format(manifest, tmp_path):
    entries = [
        {"path": "a.flac", "text": "Male", "task": "gender_recognition"},
        {"path": "b.flac", "text": "hello", "Q": "Recognise the speech."},
        {"path": "c.flac", "text": "ein Hund", "task": "of_their_own", "Q": None},
    ]
    path = tmp_path / "test.json"
    path.write_text(json.dumps({"annotation": entries}), encoding="utf-8")
    clips = manifest.read_manifest(path).clips
    assert [clip.labels for clip in clips] == [{"gr": "Male"}, {"asr": "hello"}, {"of_their_own": "ein Hund"}]
    assert [clip.instruction for clip in clips] == ["", "Recognise the speech.", ""]


def test_the_authors_demonstration(manifest, shared):
    read = manifest.read_manifest(shared / "ahamask_official" / "demo.json")
    assert len(read) == len(json.loads((shared / "ahamask_official" / "demo.json").read_text())["annotation"])
    assert {clip.labels["gr"] for clip in read} <= {"Male", "Female"}
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
        ("m.json", '{"annotation": [{"path": "a", "text": "b", "expand_wav": ["c"]}]}', "'expand_wav' .* join the audio first"),
    ],
)
def test_malformed_manifests_are_refused(manifest, refused, tmp_path, name, content, fragment):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with refused(fragment) as caught:
        manifest.read_manifest(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_manifests_are_refused(manifest, refused, tmp_path):
    with refused("cannot read manifest .*nowhere.jsonl: No such file"):
        manifest.read_manifest(tmp_path / "nowhere.jsonl")
    with refused("cannot read manifest .*manifest.jsonl: No such file"):
        manifest.read_manifest(tmp_path)
