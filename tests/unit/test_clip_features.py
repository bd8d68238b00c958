"""From clips to features: made when asked for, once, the same to the bit, and within bounds."""

import logging

import numpy as np
import pytest
import soundfile
import torch

RATE = 16_000


@pytest.fixture(scope="module")
def build(tiny_qwen2_audio):
    from amask.lalm.batching import PromptTemplate
    from amask.lalm.qwen2_audio import Qwen2Audio

    return lambda seed=0: Qwen2Audio("tiny", *tiny_qwen2_audio(seed), PromptTemplate("<|audio_bos|>", "<|audio_eos|>{}"))


@pytest.fixture(scope="module")
def model(build):
    return build()


@pytest.fixture
def clips(tmp_path):
    """Five clips of noise of different lengths."""
    from amask.data.manifest import Clip, Manifest

    rng = np.random.default_rng(0)
    for at in range(5):
        soundfile.write(tmp_path / f"{at}.wav", rng.normal(0, 0.1, 8000 + 2000 * at).astype(np.float32), RATE, "FLOAT")
    return Manifest(tuple(Clip(path=f"{at}.wav") for at in range(5)), tmp_path)


@pytest.fixture
def encoded(model, monkeypatch):
    """How many clips went through the encoder at each call."""
    calls, encode = [], model.encode
    monkeypatch.setattr(model, "encode", lambda waves: calls.append(len(waves)) or encode(waves))
    return calls


def features_of(model, clips, **settings):
    from amask.lalm.clip_features import ClipFeatures

    return ClipFeatures(model, clips, **settings)


def same(one, other):
    return torch.equal(one.embeds, other.embeds) and torch.equal(one.lengths, other.lengths)


def test_rows_are_what_the_model_encodes(model, clips):
    features = features_of(model, clips)
    assert len(features) == 5
    rows = features.rows([3, 0, 3])
    alone = [model.encode([clips.wave(clips.clips[at])]) for at in (3, 0)]
    assert rows.lengths.tolist() == [int(alone[at].lengths[0]) for at in (0, 1, 0)]
    assert rows.lengths[0] > rows.lengths[1]
    assert rows.embeds.dtype == alone[0].embeds.dtype
    for row, length, one in zip(rows.embeds, rows.lengths, (alone[0], alone[1], alone[0]), strict=True):
        assert torch.equal(row[:length], one.embeds[0, :length])
        assert not row[length:].any()


def test_a_clip_is_encoded_once_and_only_if_asked_for(model, clips, encoded):
    first = features_of(model, clips)
    assert encoded == []
    rows = first.rows([1, 1, 2])
    assert encoded == [1, 1]
    again = features_of(model, clips).rows([1, 1, 2])
    assert encoded == [1, 1]
    assert same(rows, again)


def test_the_same_clip_elsewhere_is_known(model, clips, encoded, tmp_path_factory):
    from amask.data.manifest import Clip, Manifest

    rows = features_of(model, clips).rows([4])
    other = tmp_path_factory.mktemp("elsewhere")
    (other / "new.wav").write_bytes(clips.path(clips.clips[4]).read_bytes())
    assert same(features_of(model, Manifest((Clip(path="new.wav"),), other)).rows([0]), rows)
    assert encoded == [1]


def test_other_sound_models_and_settings_are_not_confused(build, model, clips, encoded):
    from amask.lalm.feature_cache import hash_source

    rows = features_of(model, clips).rows([0])
    soundfile.write(clips.path(clips.clips[0]), np.full(8000, 0.1, np.float32), RATE, "FLOAT")
    assert not same(features_of(model, clips).rows([0]), rows)
    assert len(encoded) == 2
    same_again, other = build(0), build(1)
    sources = [hash_source(model), hash_source(other)]
    assert same_again.fingerprint  # is kept on the model once it was asked for
    assert hash_source(same_again) == sources[0]
    with torch.no_grad():
        same_again.model.model.audio_tower.conv1.bias[0] += 1e-6
    sources.append(hash_source(same_again))
    same_again = build(0)
    same_again.silence = 0.5
    sources.append(hash_source(same_again))
    same_again = build(0)
    same_again.processor.feature_extractor.n_fft = 512
    sources.append(hash_source(same_again))
    sources.append(hash_source(type(model)("tiny", build(0).model.half(), model.processor, model.template)))
    assert len(set(sources)) == len(sources)


def test_a_broken_entry_is_made_again(model, clips, encoded):
    from amask.data.cache import cache_folder

    rows = features_of(model, clips).rows([0, 1])
    files = [path for path in cache_folder().rglob("*") if path.is_file()]
    assert len(files) == 4  # a clip's features by its samples, and what points there from its file
    for at, path in enumerate(files):
        path.write_bytes(path.read_bytes()[:-20] if at % 2 else bytes(path.stat().st_size))
    assert same(features_of(model, clips).rows([0, 1]), rows)
    assert len(encoded) == 4
    assert same(features_of(model, clips).rows([0, 1]), rows)
    assert len(encoded) == 4


def test_without_room_on_the_disk_it_works_all_the_same(model, clips, encoded, monkeypatch, tmp_path, caplog):
    rows = features_of(model, clips).rows([0, 1, 2])
    (tmp_path / "file").touch()
    monkeypatch.setenv("AMASK_CACHE", str(tmp_path / "file" / "below"))
    with caplog.at_level(logging.WARNING):
        features = features_of(model, clips)
        assert same(features.rows([0, 1, 2]), rows)
        assert same(features.rows([0, 1, 2]), rows)
    assert len(caplog.records) == 1
    assert len(encoded) == 6


def test_memory_is_bounded(model, clips, encoded, monkeypatch):
    from amask.lalm import clip_features

    features = features_of(model, clips)
    size = features.rows([0]).embeds.nbytes
    monkeypatch.setattr(clip_features, "MEMORY", 3 * size)
    monkeypatch.setenv("AMASK_CACHE_GB", "0")
    features = features_of(model, clips)
    for at in (0, 1, 2, 3, 4, 3):
        features.rows([at])
    assert sum(row.nbytes for row in features._memory.values()) <= 3 * size
    assert len(encoded) == 6  # the last one was still there


def test_reading_ahead_reads_in_another_thread(model, clips, monkeypatch):
    import threading

    from amask.data.manifest import Manifest

    readers, wave = [], Manifest.wave
    monkeypatch.setattr(Manifest, "wave", lambda *a, **k: readers.append(threading.current_thread().name) or wave(*a, **k))
    features = features_of(model, clips)
    features.prefetch([0, 1])
    rows = features.rows([0, 1])
    assert len(readers) == 2
    assert all("amask-reader" in name for name in readers)
    assert same(rows, features_of(model, clips).rows([0, 1]))


def test_the_first_bad_clip_is_refused_before_any_is_encoded(model, clips, encoded):
    from amask.errors import AudioError
    from amask.lalm.clip_features import checked_features

    clips.path(clips.clips[3]).write_bytes(b"no audio")
    with pytest.raises(AudioError, match=r"3\.wav is no audio.*--skip-bad leaves such clips out"):
        checked_features(model, clips)
    assert encoded == []


def test_bad_clips_are_skipped_and_named(model, clips):
    from amask.lalm.clip_features import checked_features

    clips.path(clips.clips[0]).unlink()
    soundfile.write(clips.path(clips.clips[2]), np.zeros(RATE * 3, np.float32), RATE)
    told = []
    features, bad = checked_features(model, clips, skip_bad=True, on_progress=lambda done, total: told.append((done, total)))
    assert [clip.path for clip in features.manifest] == ["1.wav", "3.wav", "4.wav"]
    assert told == [(at, 5) for at in range(1, 6)]
    assert "0.wav" in bad[0]
    assert "the model hears at most 2.0 s" in bad[1]
    whole, _ = checked_features(model, clips.__class__(clips.clips[1:], clips.folder), trim=True)
    assert whole.rows([1]).lengths.tolist() == [50]
    for clip in clips:
        clips.path(clip).unlink(missing_ok=True)
    from amask.errors import AudioError

    with pytest.raises(AudioError, match="none of 5 clips"):
        checked_features(model, clips, skip_bad=True)


def test_samples_are_encoded_once_too(model, encoded, tmp_path):
    from amask.data.manifest import Clip, Manifest
    from amask.lalm.feature_cache import FeatureCache

    rng = np.random.default_rng(0)
    waves = [rng.normal(0, 0.1, size).astype(np.float32) for size in (8000, 16000)]
    heard = FeatureCache(model).encode_all([*waves, waves[0]])
    assert encoded == [1, 1]
    assert same(FeatureCache(model).encode_all([*waves, waves[0]]), heard)
    assert encoded == [1, 1]
    soundfile.write(tmp_path / "x.wav", waves[1], RATE, "FLOAT")
    assert model.run([tmp_path / "x.wav", (waves[0], RATE)], max_new_tokens=1)
    assert same(features_of(model, Manifest((Clip(path="x.wav"),), tmp_path)).rows([0]), heard.rows([1]))
    assert encoded == [1, 1]  # whether as samples, by `run`, or as a file
    alone = model.encode([waves[0]])
    assert torch.equal(heard.embeds[2, : heard.lengths[2]], alone.embeds[0, : alone.lengths[0]])


def test_digests_go_by_content(clips, tmp_path):
    from amask.data.manifest import Clip
    from amask.errors import AudioError

    first, second = clips.clips[:2]
    digests = [clips.digest(clip) for clip in clips]
    assert len(set(digests)) == 5
    joined = clips.digest(Clip(path=first.path, more=(second.path,)))
    turned = clips.digest(Clip(path=second.path, more=(first.path,)))
    assert len({joined, turned, *digests}) == 7
    (tmp_path / "copy.wav").write_bytes(clips.path(first).read_bytes())
    assert clips.digest(Clip(path="copy.wav")) == digests[0]
    for path in ("absent.wav", ".", "a\0b"):
        with pytest.raises(AudioError, match="cannot read"):
            clips.digest(Clip(path=path))
