"""The pocket corpus: seeded, resumable, each label true, divided by voice."""

import shutil
import subprocess

import numpy as np
import pytest
import soundfile

SYNTHESISERS = pytest.mark.skipif(
    not (shutil.which("espeak-ng") and shutil.which("flite")), reason="espeak-ng and flite are not installed"
)


def _bytes(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.flac")}


def test_a_seed_gives_the_same_corpus_however_many_work_on_it(make):
    few = dict.fromkeys(("train", "test"), {"speech": 4, "scene": 3, "pair": 3, "overlap": 2, "quiet": 2})
    first, clips = make("first", processes=1, **few)
    second, others = make("second", processes=3, **few)
    assert clips == others
    assert _bytes(first) == _bytes(second)
    assert (first / "manifest.jsonl").read_bytes() == (second / "manifest.jsonl").read_bytes()
    third, _ = make("third", seed=4, **few)
    assert not set(_bytes(first).values()) & set(_bytes(third).values())


def test_a_clip_does_not_depend_on_those_before_it(make):
    few, _ = make("few", test={"overlap": 3})
    many, _ = make("many", train={"speech": 2}, test={"speech": 4, "overlap": 3})
    assert _bytes(few).items() <= _bytes(many).items()


def test_a_stopped_making_goes_on(make):
    folder, clips = make()
    before = _bytes(folder)
    kept = folder / clips[0].path
    written = kept.stat().st_mtime_ns
    (folder / "manifest.jsonl").unlink()
    for clip in clips[5:9]:
        (folder / clip.path).unlink()
    make()
    assert _bytes(folder) == before
    assert kept.stat().st_mtime_ns == written
    assert (folder / "manifest.jsonl").exists()


def test_labels_tell_what_was_said(make):
    from amask.data.reading import read_manifest
    from amask.pocket.corpus.sounds import EVENTS
    from amask.pocket.corpus.voices import ESPEAK_VARIANTS, FLITE_VOICES

    folder, made = make()
    clips = list(read_manifest(folder))
    assert clips == made
    genders = {}
    for table in (ESPEAK_VARIANTS, FLITE_VOICES):
        for split in table.values():
            genders |= {name: gender for gender, names in split.items() for name in names}
    for clip in clips:
        labels, names = clip.labels, [speaker.split("-")[1] for speaker in clip.speaker.split("+") if speaker]
        wave, rate = soundfile.read(folder / clip.path)
        assert rate == 16_000
        assert len(wave) / rate == pytest.approx(clip.duration, abs=1e-3)
        assert clip.duration <= 15
        if clip.kind == "speech":
            assert labels["asr"] == clip.text
            assert labels["gr"] == genders[names[0]]
            assert ("ser" in labels) == (clip.source == "espeak")
        elif clip.kind == "scene":
            assert any(clause in labels["aac"] for _, clause in EVENTS.values())
            assert (labels["asr"] == "") == (clip.source == "procedural")
        elif clip.kind == "pair":
            assert labels["asv"] == ("yes" if names[0] == names[1] else "no")
        elif clip.kind == "quiet":
            assert labels["asr"] == clip.text == ""
            assert labels["aac"] in ("silence", "steady noise", "a low hum")
            assert np.abs(wave).max() < 0.02 or labels["aac"] != "silence"
        else:
            assert labels["osr"].split(" ; ")[0] == labels["asr"]
            assert names[0] != names[1]
    assert {clip.labels["asv"] for clip in clips if clip.kind == "pair"} == {"yes", "no"}


def test_no_voice_is_in_two_splits():
    from amask.pocket.corpus.voices import ESPEAK_VARIANTS, FLITE_VOICES

    for table in (ESPEAK_VARIANTS, FLITE_VOICES):
        splits = [{name for names in genders.values() for name in names} for genders in table.values()]
        assert sum(map(len, splits)) == len(set.union(*splits))


@SYNTHESISERS
def test_the_synthesisers_have_these_voices_and_speak():
    from amask.pocket.corpus.synthesis import speak
    from amask.pocket.corpus.voices import Voice, check_voices

    check_voices()
    rng = np.random.default_rng(0)
    for voice in (Voice("espeak", "f3", "en-us", "female", 50, 1.0), Voice("flite", "rms", "", "male", 50, 0.94)):
        wave = speak("put the red box on the table", voice, "neutral", rng)
        assert 1.0 < len(wave) / 16_000 < 4.0
        assert np.sqrt(np.mean(wave**2)) == pytest.approx(0.1, rel=1e-3)


def test_a_voice_that_is_missing_is_named(monkeypatch):
    from amask.errors import DataError
    from amask.pocket.corpus import voices

    listed = "Pty Language Age/Gender VoiceName File\n" + "\n".join(
        f" 5 variant -- {name} !v/{name}"
        for genders in voices.ESPEAK_VARIANTS.values()
        for names in genders.values()
        for name in names
        if name != "belinda"
    )
    monkeypatch.setattr(voices.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, listed, ""))
    with pytest.raises(DataError, match="belinda"):
        voices.check_voices()


def test_a_synthesiser_that_is_missing_is_named(monkeypatch, tmp_path):
    from amask.errors import DataError
    from amask.pocket.corpus.clips import make_corpus

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="espeak-ng is not installed"):
        list(make_corpus(tmp_path / "corpus", {"train": {"speech": 1}}))
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize("seed", range(24))
def test_events_are_as_long_and_as_loud_as_asked(seed):
    from amask.pocket.corpus.sounds import EVENTS, draw_event

    rng = np.random.default_rng(seed)
    avoid = list(EVENTS)[seed % len(EVENTS)]
    name, wave = draw_event(rng, 1.5, avoid)
    assert name != avoid
    assert len(wave) == 24_000
    assert np.sqrt(np.mean(wave**2)) == pytest.approx(0.1, rel=1e-3)
    assert abs(wave[0]) < 1e-6  # faded in
    assert abs(wave[-1]) < 1e-6


def test_what_the_channel_does():
    from amask.pocket.corpus.effects import add_noise, code_opus, limit_band, reverberate, set_level, transmit

    noise = (0.1 * np.random.default_rng(0).normal(size=32_000)).astype(np.float32)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        assert -26.01 <= 20 * np.log10(np.abs(set_level(noise, rng)).max()) <= -0.99
        added = add_noise(noise, rng) - noise
        assert 7.9 <= 10 * np.log10(np.mean(noise**2) / np.mean(added**2)) <= 35.1
        spectrum = np.abs(np.fft.rfft(limit_band(noise, rng))) ** 2  # up to 8 kHz
        high = slice(7 * len(spectrum) // 8, None)
        assert spectrum[high].mean() < 0.2 * (np.abs(np.fft.rfft(noise)) ** 2)[high].mean()
        click = np.zeros(16_000, np.float32)
        click[0] = 1
        room = reverberate(click, rng)
        assert room[0] == pytest.approx(1)
        assert np.mean(room[1:400] ** 2) > 100 * np.mean(room[-400:] ** 2)  # it dies away
        wave, done = transmit(noise, rng)
        assert "level" in done
        assert len(wave) == len(noise)
        seconds = np.arange(32_000) / 16_000
        glide = (0.3 * np.sin(2 * np.pi * (150 + 100 * seconds) * seconds)).astype(np.float32)  # 150 to 550 Hz
        coded = code_opus(glide, rng)
        assert len(coded) == len(glide)
        assert 0.95 < np.corrcoef(coded, glide)[0, 1] < 1
