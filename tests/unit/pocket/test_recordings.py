"""Recordings in the pocket corpus, over folders that look like the free sets."""

from collections import Counter

import numpy as np
import pytest
import soundfile

from .conftest import AGES


def test_speakers_are_divided_by_rank():
    """Of every nine, two are held aside and one is for dev."""
    from amask.pocket.corpus.recordings import split_at

    assert [split_at(rank) for rank in range(11)] == ["test", "test", "dev", *["train"] * 6, "test", "test"]


def test_no_speaker_or_source_is_in_two_splits(shared):
    from amask.pocket.corpus.recordings import SETS, read_sets

    recordings, absent = read_sets(shared)
    assert absent == ()
    assert {each.source for each in recordings} == set(SETS)
    splits: dict[str, set[str]] = {}
    for each in recordings:
        splits.setdefault(each.speaker, set()).add(each.split)
    assert {len(found) for found in splits.values()} == {1}
    for name in SETS:
        assert {each.split for each in recordings if each.source == name} == {"train", "dev", "test"}
    actors = {each.speaker: each.split for each in recordings if each.kind == "actor"}
    assert {speaker for speaker, split in actors.items() if split == "test"} == {"emodb_german-emodb_03", "emodb_german-emodb_08"}


def test_a_set_for_measuring_is_never_read_as_data_to_train_on(shared):
    from amask.errors import DataError
    from amask.pocket.corpus.recordings import read_set, read_sets

    recordings, _ = read_sets(shared)
    assert not any("librispeech" in str(each.path) for each in recordings)
    with pytest.raises(DataError, match="librispeech_test_clean is for measuring only"):
        read_set(shared / "librispeech_test_clean")


def test_a_changed_row_of_a_set_changes_its_hash(shared):
    from amask.pocket.corpus.clips import hash_sources

    before = hash_sources(shared)
    path = shared / "esc10" / "manifest.jsonl"
    path.write_text(path.read_text().replace("rain falling", "rain"))
    after = hash_sources(shared)
    assert {name for name in before if before[name] != after[name]} == {"esc10/manifest.jsonl"}
    assert hash_sources(None) == {}


def test_sets_that_are_absent_are_named(shared, tmp_path):
    from amask.errors import DataError
    from amask.pocket.corpus.clips import hash_sources, read_sources
    from amask.pocket.corpus.recordings import read_set

    (shared / "esc10" / "manifest.jsonl").unlink()
    (shared / "tatoeba_en_de" / "pairs.tsv").unlink()
    sources = read_sources(shared)
    assert "esc10/manifest.jsonl" not in hash_sources(shared)
    assert sources.absent == ("esc10", "tatoeba_en_de")
    with pytest.raises(DataError, match="cannot read esc10"):
        read_set(shared / "esc10")
    with pytest.raises(DataError, match="unknown set 'stranger'"):
        read_set(tmp_path / "stranger")


LABELS = {
    ("speechocean762", 1): {"asr": "two zero", "s2tt": "zwei null", "gr": "female", "aac": "a woman speaks", "age": "adult"},
    ("speechocean762", 0): {"asr": "two zero", "s2tt": "zwei null", "age": "child"},  # a child's gender is not taught
    ("speechocean762", 4): {"asr": "two zero", "s2tt": "zwei null", "gr": "male", "aac": "a man speaks"},  # 15 years
    ("common_voice_en", 0): {"asr": "they are known", "gr": "male", "aac": "a man speaks", "age": "adult"},
    ("common_voice_en", 1): {"asr": "they are known", "gr": "female", "aac": "a woman speaks"},  # "teens" may be either
    ("common_voice_en", 2): {"asr": "they are known"},
    ("emodb_german", "03-happy"): {"gr": "male", "aac": "a man speaks", "age": "adult", "ser": "happy"},  # no German words
    ("emodb_german", "03-bored"): {"gr": "male", "aac": "a man speaks", "age": "adult"},
    ("speech_commands", 0): {"asr": "seven", "s2tt": "sieben"},
    ("speech_commands", ""): {"asr": "", "aac": "steady noise"},
    ("esc10", 0): {"asr": "", "aac": "rain falling"},
}  # fmt: skip


def test_each_sets_fields_become_its_labels(shared):
    from amask.pocket.corpus.recordings import read_sets

    assert AGES[:5] == (7, 30, 9, 7, 15)
    found = {}
    for each in read_sets(shared)[0]:
        owner = each.speaker.removeprefix(f"{each.source}-")
        number = int(each.path.stem.rsplit("-", 1)[1])
        key = {
            "speechocean762": lambda owner=owner, each=each: int(owner) if each.text == "two zero" else None,
            "common_voice_en": lambda owner=owner: int(owner[3:]),
            "emodb_german": lambda owner=owner, number=number: f"{owner[6:]}-{('happy', 'bored')[number % 2]}",
            "speech_commands": lambda owner=owner: int(owner[3:]) if owner else "",
            "esc10": lambda owner=owner: int(owner[1:]),
            "everyday_sounds": lambda: None,
        }[each.source]()
        found[each.source, key] = each.labels
    assert {key: found[key] for key in LABELS} == LABELS


def test_recordings_longer_than_the_window_are_left_out(shared):
    from amask.pocket.corpus.recordings import read_sets

    assert "four" not in {each.text for each in read_sets(shared)[0]}


KINDS = ("person", "actor", "word", "digits", "person-pair", "person-overlap", "sound", "open")


def test_clips_of_recordings_say_who_and_what_is_heard(make, shared):
    folder, clips = make(shared=shared, train=dict.fromkeys(KINDS, 16), test=dict.fromkeys(KINDS, 4))
    assert Counter((clip.split, clip.kind) for clip in clips) == {
        (split, kind): count for split, count in (("train", 16), ("test", 4)) for kind in KINDS
    }
    speakers: dict[str, set[str]] = {}
    for clip in clips:
        names = [name.removesuffix("-slowed") for name in clip.speaker.split("+")]
        if clip.kind not in ("open", "sound"):
            for name in names:
                speakers.setdefault(name, set()).add(clip.split)
        wave, rate = soundfile.read(folder / clip.path)
        assert rate == 16_000
        assert len(wave) / rate == pytest.approx(clip.duration, abs=1e-3)
        if clip.kind == "person-pair":
            assert clip.labels["asv"] == ("yes" if names[0] == names[1] else "no")
            assert clip.labels["asr"].count(" ") > 2
        if clip.kind == "person-overlap":
            assert clip.labels["osr"] == " ; ".join(clip.text.split(" ; ")) or clip.labels["osr"].startswith(clip.labels["asr"])
            assert names[0] != names[1]
        if clip.kind == "digits":
            german = {"two": "zwei", "zero": "null", "two zero": "zwei null"}
            assert clip.labels["s2tt"] == german[clip.labels["asr"]]
            assert not clip.speaker.endswith("-slowed") or set(clip.labels) == {"asr", "s2tt"}
        if clip.kind == "open":
            assert clip.labels["asr"].startswith("i'm ")
            assert clip.labels["s2tt"].startswith("ich bin ")
    assert all(len(splits) == 1 for splits in speakers.values())
    assert {clip.labels["asv"] for clip in clips if clip.kind == "person-pair"} == {"yes", "no"}


def test_kinds_whose_sets_are_absent_are_left_out(make):
    _, clips = make(train={"speech": 2, "person": 3, "open": 3, "digits": 3})
    assert [clip.kind for clip in clips] == ["speech", "speech"]


def test_sentences_are_plain_short_and_of_one_split(shared):
    from amask.pocket.corpus.sentences import plain, read_tatoeba

    found = read_tatoeba(shared / "tatoeba_en_de")
    sentences = [sentence for split in found.values() for sentence in split]
    assert len(sentences) == len({sentence.english for sentence in sentences}) == 60
    assert "who's there" in {sentence.english for sentence in sentences}
    assert all(found.values())
    assert plain("Das „ist“ schön, Tom!") == "das ist schön tom"


@pytest.mark.parametrize("pauses", [[], [0.15], [0.12, 0.3], [0.1, 0.2, 0.1]])
def test_a_wave_is_cut_in_its_pauses(pauses):
    from amask.pocket.corpus.people import cuts_between

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


def test_recordings_at_another_rate_are_refused(make, shared):
    from amask.errors import DataError

    for path in (shared / "emodb_german" / "audio").iterdir():
        soundfile.write(path, np.zeros(8000), 8000)
    with pytest.raises(DataError, match="emodb_german-[0-9]+.flac: expected 16000 Hz, got 8000"):
        make(shared=shared, test={"actor": 1})
