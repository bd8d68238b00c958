"""Cutting silence at a clip's ends, on waves whose sound is known by construction."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

RATE, FRAME, KEEP = 16_000, 320, 4_000


def tone(samples, level=0.1):
    """A tone that goes up and down in loudness, as speech does, and never is silent."""
    time = np.arange(samples) / RATE
    return level * (1 + 0.5 * np.sin(2 * np.pi * 4 * time)) * np.sin(2 * np.pi * 200 * time)


def surrounded(before, samples, behind, background=0.0):
    """A tone between stretches of silence, all of it over white noise."""
    wave = np.concatenate([np.zeros(before), tone(samples), np.zeros(behind)])
    return (wave + background * np.random.default_rng(1).normal(size=len(wave))).astype(np.float32)


def cut(wave):
    from amask.data.silence import cut_silence

    return cut_silence(wave, RATE, KEEP / RATE)


@settings(deadline=None)
@given(st.integers(0, 30_000), st.integers(4_000, 30_000), st.integers(0, 30_000), st.sampled_from([0.0, 0.001, 0.01]))
@example(before=60_000, samples=4_000, behind=60_000, background=0.01)  # a short word in a long clip
def test_sound_is_kept_and_silence_beyond_the_margin_is_not(before, samples, behind, background):
    wave = surrounded(before, samples, behind, background)
    kept = cut(wave)
    start = (kept.ctypes.data - wave.ctypes.data) // wave.itemsize  # the result is a view
    assert np.array_equal(wave[start : start + len(kept)], kept)
    margins = before - start, start + len(kept) - before - samples
    assert all(0 <= margin <= KEEP + 2 * FRAME for margin in margins)


def test_background_louder_on_one_side_is_cut_there_too():
    quiet, loud = (level * np.random.default_rng(1).normal(size=RATE) for level in (0.0005, 0.005))
    wave = np.concatenate([quiet, tone(RATE), loud]).astype(np.float32)
    assert len(cut(wave)) == pytest.approx(RATE + 2 * KEEP, abs=2 * FRAME)


@pytest.mark.parametrize(
    "wave",
    [
        np.zeros(RATE, np.float32),
        0.01 * np.random.default_rng(1).normal(size=RATE).astype(np.float32),
        tone(RATE).astype(np.float32),
        surrounded(RATE, RATE, 0, background=0.1),
        np.zeros(RATE // 100, np.float32),
    ],
    ids=["digital silence", "noise alone", "sound alone", "noise as loud as the sound", "shorter than a frame"],
)
def test_where_nothing_stands_out_the_clip_stays_whole(wave):
    assert np.array_equal(cut(wave), wave)
