"""Real recordings in the pocket corpus, over a folder that looks like speechocean762."""

import json
from collections import Counter

import numpy as np
import pytest
import soundfile

AGES = {0: 7, 1: 30, 2: 9, 3: 7, 4: 15, 5: 40, 6: 25, 7: 8, 8: 33, 9: 6, 10: 50}  # of the speaker at a rank


@pytest.fixture
def speechocean(tmp_path):
    """Eleven speakers with three recordings each: words, digits with a pause between them, and one that is too long."""
    folder = tmp_path / "speechocean762"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for rank, age in AGES.items():
        for text, seconds in (("we call it bear", 1.0), ("two zero", 1.5), ("four", 8.5)):
            path = f"{rank:04d}-{len(rows)}.flac"
            time = np.arange(int(seconds * 16_000)) / 16_000
            wave = 0.2 * np.sin(2 * np.pi * rng.uniform(100, 300) * time)
            if text == "two zero":
                wave[int(0.5 * 16_000) : int(0.7 * 16_000)] = 0
            soundfile.write(folder / path, wave, 16_000)
            gender = "female" if rank % 2 else "male"
            rows.append({"path": path, "text": text, "speaker": f"{rank:04d}", "gender": gender, "age": age, "duration": seconds})
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_speakers_are_divided_by_rank():
    """Of every nine, two are held aside and one is for dev."""
    from amask.pocket.corpus.real import speaker_split

    assert [speaker_split(rank) for rank in range(11)] == ["test", "test", "dev", *["train"] * 6, "test", "test"]


def test_labels_of_people(make, speechocean):
    _, clips = make(speechocean=speechocean, test={"real": 8}, dev={"real": 2}, train={"real": 300})
    by_split = {
        split: {clip.speaker.split("-")[0] for clip in clips if clip.split == split} for split in ("train", "dev", "test")
    }
    assert by_split["test"] == {"0000", "0001", "0009", "0010"}
    assert by_split["dev"] == {"0002"}
    assert {name for speaker in by_split["train"] for name in speaker.split("+")} == {f"{rank:04d}" for rank in range(3, 9)}
    for clip in clips:
        if "asv" in clip.labels:
            first, second = clip.speaker.split("+")
            assert clip.labels == {"asv": "yes" if first == second else "no"}
            continue
        words = {"asr": "two zero", "s2tt": "zwei null"} if clip.text == "two zero" else {}
        if clip.speaker.endswith("-slowed"):  # a child's no more, and not yet an adult's
            assert clip.labels == words != {}
            assert 1.55 < clip.duration < 1.5 / 0.7 + 0.01
            continue
        age = AGES[int(clip.speaker)]
        assert clip.text != "four"
        assert clip.labels.get("age") == ("child" if age <= 12 else "adult" if age >= 18 else None)
        assert ("gr" in clip.labels) == (age > 12 or clip.split == "test")
        assert {task: label for task, label in clip.labels.items() if task in ("asr", "s2tt")} == words
    kinds = Counter("pair" if "asv" in clip.labels else clip.speaker.partition("-")[2] for clip in clips if clip.split == "train")
    assert min(kinds.values()) > 20
    assert set(kinds) == {"pair", "slowed", ""}


@pytest.mark.parametrize("pauses", [[], [0.15], [0.12, 0.3], [0.1, 0.2, 0.1]])
def test_a_wave_is_cut_in_its_pauses(pauses):
    from amask.pocket.corpus.real import cuts_between

    rng = np.random.default_rng(len(pauses))
    pieces, ends, at = [], [], 0.0
    for pause in [*pauses, None]:
        seconds = rng.uniform(0.2, 0.4)
        pieces.append(rng.uniform(0.1, 0.3) * rng.normal(size=int(seconds * 16_000)))
        pieces[-1][1600:2400] *= 0.01  # a stop within the word, too short for a pause
        at += seconds
        if pause:
            pieces.append(0.001 * rng.normal(size=int(pause * 16_000)))
            ends.append((at, at := at + pause))
    wave = np.concatenate(pieces).astype(np.float32)
    cuts = cuts_between(wave, len(pauses) + 1)
    assert len(cuts) == len(pauses)
    assert all(start < cut / 16_000 < end for cut, (start, end) in zip(cuts, ends, strict=True))
    assert cuts_between(wave, len(pauses) + 2) is None


def test_digits_are_cut_out_of_strings(make, speechocean):
    _, clips = make(speechocean=speechocean, test={"digits": 8}, dev={"digits": 2}, train={"digits": 200})
    found = {split: [clip for clip in clips if clip.split == split] for split in ("train", "dev", "test")}
    # Each digit once: four speakers held aside, one for dev, of whom each said "two zero" once.
    assert [(clip.speaker, clip.text) for clip in found["test"]] == [
        (speaker, word) for speaker in ("0000", "0001", "0009", "0010") for word in ("two", "zero")
    ]
    assert [(clip.speaker, clip.text) for clip in found["dev"]] == [("0002", "two"), ("0002", "zero")]
    seconds = {"two": 0.5, "zero": 0.8, "two zero": 1.3}  # of a pause little is left
    for clip in clips:
        slowed = clip.speaker.endswith("-slowed")
        assert clip.labels["s2tt"] == {"two": "zwei", "zero": "null", "two zero": "zwei null"}[clip.labels["asr"]]
        assert clip.labels["asr"] == clip.text
        assert ("gr" in clip.labels) == (not slowed and (AGES[int(clip.speaker[:4])] > 12 or clip.split == "test"))
        longest = seconds[clip.text] / (0.7 if slowed else 1)
        assert seconds[clip.text] - 0.05 < clip.duration < longest + 0.1
    assert {clip.text for clip in found["train"]} == {"two", "zero", "two zero"}
    assert {clip.speaker[:4] for clip in found["train"]} == {f"{rank:04d}" for rank in range(3, 9)}


def test_recordings_at_another_rate_are_refused(make, speechocean):
    from amask.errors import DataError

    path = speechocean / "0000-0.flac"
    soundfile.write(path, np.zeros(8000), 8000)
    with pytest.raises(DataError, match="0000-0.flac: expected 16000 Hz, got 8000"):
        make(speechocean=speechocean, test={"real": 1})


def test_no_folder_of_recordings(make, tmp_path):
    from amask.errors import DataError

    with pytest.raises(DataError, match="no folder of speechocean762"):
        make(test={"real": 1})
    with pytest.raises(DataError, match="cannot read speechocean762"):
        make(speechocean=tmp_path / "absent", test={"digits": 1})
