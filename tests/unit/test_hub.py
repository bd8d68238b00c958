"""Hugging Face datasets as manifests: saved folders, the `hf:` names, columns and labels; nothing is downloaded."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE = 16_000


def wave_of(samples: int) -> np.ndarray:
    return np.random.default_rng(samples).uniform(-0.5, 0.5, samples).astype(np.float32)


def file_of(samples: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave_of(samples), RATE, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def datasets(tmp_path, monkeypatch):
    """The library, with its cache in the test's folder and no progress bars."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "huggingface")
    datasets.disable_progress_bars()
    return datasets


@pytest.fixture
def build(datasets):
    """Makes a dataset with sounds of these lengths, and columns."""

    def make(lengths=(2_000, 3_000), decode=False, **columns):
        sounds = [{"bytes": file_of(length), "path": f"{at}.wav"} for at, length in enumerate(lengths)]
        made = datasets.Dataset.from_dict({"audio": sounds} | columns)
        return made.cast_column("audio", datasets.Audio(decode=decode))

    return make


@pytest.fixture
def read(tmp_path):
    """Saves a dataset and reads it back as a manifest."""
    from amask.data.reading import read_manifest

    def save_and_read(dataset):
        dataset.save_to_disk(tmp_path / "saved")
        return read_manifest(tmp_path / "saved")

    return save_and_read


def refused(source, fragment) -> str:
    from amask.data.reading import read_manifest
    from amask.errors import DataError

    with pytest.raises(DataError, match=fragment) as caught:
        read_manifest(source)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("decode", [False, True])
def test_sounds_come_back_sample_for_sample(build, read, decode):
    manifest = read(build(decode=decode, text=["one", "two"]))
    assert [clip.labels for clip in manifest] == [{"asr": "one"}, {"asr": "two"}]
    for clip, length in zip(manifest, (2_000, 3_000), strict=True):
        assert np.array_equal(manifest.wave(clip), wave_of(length))


def test_sounds_are_put_into_the_cache_once(build, read, tmp_path):
    dataset = build((2_000, 3_000, 2_000), text=["one", "two", "three"])
    first = read(dataset)
    paths = [first.path(clip) for clip in first]
    assert paths[0] == paths[2] != paths[1]
    assert len(set(paths)) == len(os.listdir(first.folder)) == 2
    assert first.folder == Path(os.environ["XDG_CACHE_HOME"]) / "amask" / "datasets"
    before = [path.stat().st_ino for path in paths]
    dataset.save_to_disk(tmp_path / "again")
    from amask.data.reading import read_manifest

    assert read_manifest(tmp_path / "again") == first
    assert [path.stat().st_ino for path in paths] == before  # not written again


def test_sounds_in_the_cache_are_bounded(build, read, monkeypatch, tmp_path):
    """What was used last stays; a dataset that is larger by itself is refused."""
    sizes = [len(file_of(samples)) for samples in (2_000, 3_000, 4_000)]
    monkeypatch.setenv("AMASK_CACHE_GB", str((sizes[1] + sizes[2] + 100) / 1e9))
    first = read(build((2_000,), text=["one"]))
    os.utime(first.path(first.clips[0]), (1, 1))
    again = build((3_000, 4_000), text=["two", "three"])
    again.save_to_disk(tmp_path / "again")
    from amask.data.reading import read_manifest

    manifest = read_manifest(tmp_path / "again")
    assert sorted(os.listdir(manifest.folder)) == sorted(clip.path for clip in manifest)
    build((2_000, 3_000, 4_000), text=["one", "two", "three"]).save_to_disk(tmp_path / "large")
    message = refused(tmp_path / "large", "larger than the .* GB that may be kept; raise AMASK_CACHE_GB")
    assert "such as 'test[:500]'" in message


def test_splits_become_ours(datasets, build, read):
    one = build((2_000,), text=["one"])
    names = ("train", "train.clean.100", "validation", "dev", "test.other", "heldout")
    manifest = read(datasets.DatasetDict(dict.fromkeys(names, one)))
    assert [clip.split for clip in manifest] == ["train", "train", "dev", "dev", "test", "test"]
    assert [clip.split for clip in read(one)] == ["test"]


def test_columns_become_labels(datasets, build, read):
    dataset = build(
        (2_000,) * 5,
        sentence=["one", " two ", "", None, "five"],
        gender=["F", "male_masculine", "Woman", "other", None],
        emotion=["happy", "sad", "angry", "neutral", "happy"],
        caption=["a bell", "a dog", "rain", "wind", None],
        translation=["eins", "zwei", "drei", "vier", "fünf"],
        accent=["x"] * 5,
    )
    labels = [clip.labels for clip in read(dataset)]
    assert [label.get("asr") for label in labels] == ["one", "two", None, None, "five"]
    assert [label.get("gr") for label in labels] == ["female", "male", "female", None, None]
    assert [label["ser"] for label in labels] == ["happy", "sad", "angry", "neutral", "happy"]
    assert [label.get("aac") for label in labels] == ["a bell", "a dog", "rain", "wind", None]
    assert [label["s2tt"] for label in labels] == ["eins", "zwei", "drei", "vier", "fünf"]
    columns = {"sentence", "gender", "emotion", "caption", "translation", "accent"}
    assert set().union(*labels) == {"asr", "gr", "ser", "aac", "s2tt"} | columns


def test_columns_called_like_tasks_come_first(build, read):
    dataset = build(text=["as it is written", "so too"], asr=["as it is said", "so"], osr=["a ; b", "c ; d"])
    assert read(dataset).clips[0].labels == {"asr": "as it is said", "osr": "a ; b", "text": "as it is written"}


def test_classes_become_their_names(datasets, build, read):
    dataset = build((2_000,) * 3, gender=[1, 0, -1], translation=[{"en": "a", "de": "b"}] * 3)
    dataset = dataset.cast_column("gender", datasets.ClassLabel(names=["Male", "Female"]))
    assert [clip.labels.get("gr") for clip in read(dataset)] == ["female", "male", None]


def test_files_by_their_paths(datasets, read, tmp_path):
    (tmp_path / "a.wav").write_bytes(file_of(2_000))
    dataset = datasets.Dataset.from_dict({"audio": [str(tmp_path / "a.wav")], "text": ["one"]})  # a column of strings
    manifest = read(dataset)
    assert [manifest.path(clip) for clip in manifest] == [tmp_path / "a.wav"]
    assert not manifest.folder.exists()


@pytest.mark.parametrize(
    ("source", "name", "config", "split", "ours"),
    [
        ("hf:librispeech_asr", "librispeech_asr", None, None, ["train", "test"]),
        ("hf:google/fleurs:test", "google/fleurs", None, "test", ["test"]),
        ("hf:google/fleurs:de_de:validation", "google/fleurs", "de_de", "validation", ["dev"]),
        ("hf:a/b:test[:200]", "a/b", None, "test[:200]", ["test"]),
        ("hf:a/b:clean:train.100[10%:20%]", "a/b", "clean", "train.100[10%:20%]", ["train"]),
    ],
)
def test_names_of_the_hub(datasets, build, monkeypatch, source, name, config, split, ours):
    from amask.data.reading import read_manifest

    asked = []
    one = build((2_000,), text=["one"])

    def load(*arguments, **more):
        asked.append((*arguments, more))
        return one if more["split"] else datasets.DatasetDict({"train": one, "test": one})

    monkeypatch.setattr(datasets, "load_dataset", load)
    clips = read_manifest(Path(source)).clips
    assert asked == [(name, config, {"split": split})]
    assert [clip.split for clip in clips] == ours


def test_a_dataset_in_the_hubs_layout(build, tmp_path):
    from amask.data.reading import read_manifest

    build(text=["one", "two"]).to_parquet(tmp_path / "repository" / "test-00000-of-00001.parquet")
    manifest = read_manifest(Path(f"hf:{tmp_path}/repository:test[1:]"))
    assert [(clip.labels["asr"], clip.split) for clip in manifest] == [("two", "test")]
    assert np.array_equal(manifest.wave(manifest.clips[0]), wave_of(3_000))
    refused(Path(f"hf:{tmp_path}/repository:none"), "cannot load dataset .*:none: Unknown split")


def test_datasets_that_cannot_be_used(datasets, build, tmp_path):
    def saved(dataset):
        folder = tmp_path / str(len(os.listdir(tmp_path)))
        dataset.save_to_disk(folder)
        return folder

    refused(Path("hf:no-one/nothing"), "cannot load dataset hf:no-one/nothing: ")  # offline, as all tests are
    refused(Path("hf:a:b:c:d"), "expected hf:NAME, hf:NAME:SPLIT or hf:NAME:CONFIG:SPLIT")
    text = datasets.Dataset.from_dict({"text": ["one"]})
    refused(saved(text), "no column of audio among text; call it 'audio'")
    refused(saved(build((2_000,), text=[3])), "no column of labels among audio, text; let one hold")
    numbers = datasets.Dataset.from_dict({"audio": [3], "text": ["one"]})
    refused(saved(numbers), "column 'audio' is no column of audio")
    nothing = datasets.Dataset.from_dict({"audio": [None, None], "text": ["one", "two"]})
    refused(saved(nothing), "row 0: it has no audio")
    refused(saved(datasets.DatasetDict()), "has no rows")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"_data_files": [{"filename": "none.arrow"}]}'])
def test_damaged_folders_are_refused(tmp_path, content):
    (tmp_path / "state.json").write_text(content)
    refused(tmp_path, "cannot load dataset")


def test_a_cache_that_cannot_be_written(build, tmp_path, monkeypatch):
    from amask.data.reading import read_manifest
    from amask.errors import FileError

    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    build((2_000,), text=["one"]).save_to_disk(tmp_path / "saved")
    with pytest.raises(FileError, match="cannot write .*file"):
        read_manifest(tmp_path / "saved")
