"""Other people's manifests: columns become labels, splits are drawn by speaker, tasks are proposed from the data."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture
def write(tmp_path):
    """Writes rows as a manifest and reads it."""
    from amask.data.reading import read_manifest

    def write(rows):
        (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        return read_manifest(tmp_path)

    return write


def test_columns_are_labels_under_their_names_and_their_tasks(write):
    row = {
        "path": "a.wav",
        "text": "Good day",
        "gender": "F",
        "accent": "scottish",
        "age": 31,
        "emotion": "",
        "slots": {"size": "big"},
    }
    (clip,) = write([row])
    expected = {"asr": "Good day", "gr": "female", "gender": "F", "accent": "scottish", "age": "31", "slots": '{"size": "big"}'}
    assert clip.labels == expected
    assert clip.text == "Good day"


def test_a_gender_that_the_task_does_not_know_is_no_label_of_it(write):
    manifest = write([{"path": "a.wav", "gender": "other"}, {"path": "b.wav", "gr": "xyz"}])
    assert [clip.labels.get("gr") for clip in manifest] == [None, "xyz"]


def test_misspelt_fields_of_our_own_format_are_refused(write):
    from amask.errors import DataError

    with pytest.raises(DataError, match=r"line 1: lables: Extra inputs"):
        write([{"path": "a.wav", "labels": {"gr": "male"}, "lables": {}}])


def test_splits_are_drawn_by_speaker_where_none_is_told(write):
    rows = [{"path": f"{i}.wav", "speaker": f"s{i % 30}", "gender": "male"} for i in range(300)]
    manifest = write(rows)
    splits = {}
    for clip in manifest:
        splits.setdefault(clip.split, set()).add(clip.speaker)
    assert {name: len(speakers) for name, speakers in splits.items()} == {"train": 24, "dev": 3, "test": 3}
    assert not splits["train"] & splits["test"] | splits["train"] & splits["dev"] | splits["dev"] & splits["test"]
    assert manifest.splits_drawn
    assert write(rows[::-1]).clips[::-1] == manifest.clips  # the order of the lines does not matter
    assert not write([row | {"split": "dev"} for row in rows]).splits_drawn


def test_clips_of_one_speaker_are_divided_themselves(write):
    manifest = write([{"path": f"{i}.wav", "speaker": "me", "gender": "male"} for i in range(10)])
    assert sorted(clip.split for clip in manifest) == ["dev", "test", *["train"] * 8]


def test_the_authors_manifests_have_clips_to_learn_from(shared):
    from amask.data.reading import read_manifest

    manifest = read_manifest(shared / "ahamask_official" / "demo.json")
    assert {clip.split for clip in manifest} == {"train", "dev", "test"}


def test_a_closed_set_is_proposed_for_values_that_come_again(write):
    from amask.data.proposals import describe_proposal, propose_task

    accents = ["scottish", "irish", "welsh"]
    manifest = write([{"path": f"{i}.wav", "Accent": accents[i % 3]} for i in range(9)])
    task = propose_task("Accent", manifest)
    assert (task.name, task.metric, task.labels) == ("accent", "acc", ("irish", "scottish", "welsh"))
    assert {clip.labels["accent"] for clip in manifest.labelled([task])} == set(accents)
    assert "irish, scottish, welsh" in describe_proposal(task)


@pytest.mark.parametrize(
    ("values", "metric"),
    [
        ([f"sentence number {i}" for i in range(9)], "wer"),
        (['{"size": "big"}', '{"size": "small"}', '{"drink": "tea"}'], "exact"),
        (["今天天气很好", "我喜欢喝茶", "明天见"], "cer"),
    ],
)
def test_open_text_is_proposed_for_values_that_do_not(write, values, metric):
    from amask.data.proposals import propose_task

    task = propose_task("note", write([{"path": f"{i}.wav", "note": value} for i, value in enumerate(values)]))
    assert (task.metric, task.labels) == (metric, ())


def test_what_cannot_be_proposed_is_refused_with_what_there_is(write):
    from amask.data.proposals import propose_task
    from amask.errors import DataError

    manifest = write([{"path": f"{i}.wav", "accent": "irish"} for i in range(4)])
    with pytest.raises(DataError, match="did you mean accent"):
        propose_task("acent", manifest)
    with pytest.raises(DataError, match="needs two labels or more"):
        propose_task("accent", manifest)


def test_a_folder_of_folders_is_a_data_set(tmp_path):
    """The layout of the `audiofolder` of `datasets`: folders are classes."""
    from amask.data.reading import read_manifest

    for name in ("cat", "dog"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(3):
            soundfile.write(tmp_path / "set" / name / f"{i}.wav", np.zeros(3200, np.float32), 16000)
    manifest = read_manifest(tmp_path / "set")
    assert sorted(clip.labels["label"] for clip in manifest) == ["cat"] * 3 + ["dog"] * 3
    assert all(manifest.path(clip).is_file() for clip in manifest)
    assert manifest.splits_drawn


def test_a_folder_with_metadata_is_a_data_set(tmp_path):
    from amask.data.reading import read_manifest

    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", np.zeros(3200, np.float32), 16000)
    (tmp_path / "metadata.csv").write_text("file_name,transcription\n0.wav,one\n1.wav,two\n2.wav,three\n")
    manifest = read_manifest(tmp_path)
    assert sorted(clip.labels["asr"] for clip in manifest) == ["one", "three", "two"]


def test_metadata_with_absolute_names_and_ragged_rows(tmp_path: Path) -> None:
    from amask.data.reading import read_manifest
    from amask.errors import DataError

    folder, elsewhere = tmp_path / "set", tmp_path / "elsewhere.wav"
    folder.mkdir()
    metadata = folder / "metadata.csv"
    metadata.write_text(f"file_name,transcription\n{elsewhere},one\n../b.wav,two\n")
    manifest = read_manifest(folder)
    assert [manifest.path(clip) for clip in manifest] == [elsewhere, folder / ".." / "b.wav"]
    for rows, message in (
        ("a.wav,one, two\n", "row 1: it has more values than the 2 columns of the head; quote those with commas"),
        ("a.wav\n,one\n", "row 2: there is no file_name"),
    ):
        metadata.write_text("file_name,transcription\n" + rows)
        with pytest.raises(DataError, match=message):
            read_manifest(folder)


def test_classes_within_splits(tmp_path: Path) -> None:
    from amask.data.reading import read_manifest

    for name in ("train/cat/1.wav", "validation/cat/2.wav", "test/dog/3.wav"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    found = [(clip.path, clip.split, clip.labels) for clip in read_manifest(tmp_path)]
    assert sorted(found) == [
        ("test/dog/3.wav", "test", {"label": "dog"}),
        ("train/cat/1.wav", "train", {"label": "cat"}),
        ("validation/cat/2.wav", "dev", {"label": "cat"}),
    ]
