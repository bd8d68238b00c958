"""Long clips in segments: nothing lost, nothing twice, none too long, and split in the pauses."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

RATE = 16000


@pytest.fixture(scope="module")
def cut():
    from amask.data.segments import split_at_pauses

    return split_at_pauses


def sound(samples, seed=0):
    return (0.1 * np.random.default_rng(seed).normal(size=samples)).astype(np.float32)


@settings(deadline=None, max_examples=60)
@given(
    length=st.integers(0, 400_000),
    longest=st.floats(1, 12),
    rate=st.sampled_from([8000, 11025, 16000]),
    quiet=st.lists(st.tuples(st.integers(0, 400_000), st.integers(0, 50_000)), max_size=6),
    silent=st.booleans(),
)
@example(length=13_521, longest=1.0, rate=8000, quiet=[], silent=False)  # what is searched is shorter than a pause
def test_pieces_are_the_clip_and_none_is_too_long(cut, length, longest, rate, quiet, silent):
    wave = np.zeros(length, np.float32) if silent else sound(length)
    for start, samples in quiet:
        wave[start : start + samples] *= 0.001
    pieces = cut(wave, rate, longest)
    waves = [piece.of(wave, rate) for piece in pieces]
    np.testing.assert_array_equal(np.concatenate(waves), wave)  # everything, once, in order
    assert pieces[0].start == 0
    assert [piece.end for piece in pieces[:-1]] == [piece.start for piece in pieces[1:]]
    assert max(map(len, waves)) <= longest * rate
    assert len(pieces) == 1 or min(map(len, waves)) >= min(1.0, longest / 4) * rate - 1
    assert len(pieces) == 1 or length > longest * rate
    assert cut(wave, rate, longest) == pieces


@pytest.mark.parametrize("length", [0, 1, 10 * RATE - 1, 10 * RATE])
def test_a_clip_that_is_short_enough_stays_whole(cut, length):
    (piece,) = cut(sound(length), RATE, 10.0)
    assert (piece.start, piece.end) == (0, length / RATE)


@pytest.mark.parametrize("hum", [0.0, 0.003])
def test_cuts_are_in_the_pauses_between_words(cut, hum):
    """Words of 0.5 s with gaps of 0.1 s, and a pause of 0.4 s after every fifth."""
    wave, pauses = [], []
    for word in range(60):
        gap = 0.4 if word % 5 == 4 else 0.1
        wave += [sound(RATE // 2, word), np.zeros(round(gap * RATE), np.float32)]
        if gap == 0.4:
            end = sum(map(len, wave)) / RATE
            pauses.append((end - gap, end))
    clip = np.concatenate(wave)
    pieces = cut(clip + hum * sound(len(clip), 99), RATE, 8.0)
    assert len(pieces) > 4
    for piece in pieces[:-1]:
        assert any(start < piece.end < end for start, end in pauses), piece


SENTENCES = [2.1, 1.6, 2.8, 1.9, 3.0, 2.4]


@pytest.mark.parametrize("seconds", [SENTENCES, [1.3] * 12])
@pytest.mark.parametrize("hum", [0.0, 0.003])
def test_sentences_with_pauses_are_a_segment_each(cut, seconds, hum):
    """None of them shares a segment with another, and none is cut; also with a hum below them."""
    wave, spans = [], []
    for at, length in enumerate(seconds):
        start = sum(map(len, wave)) / RATE
        wave += [sound(round(length * RATE), at), np.zeros(round(0.6 * RATE), np.float32)]
        spans.append((start, start + length))
    clip = np.concatenate(wave[:-1])
    pieces = cut(clip + hum * sound(len(clip), 99), RATE, 15.0)
    assert len(pieces) == len(spans)
    for piece, (start, end) in zip(pieces, spans, strict=True):
        assert piece.start <= start and end <= piece.end


def test_silence_at_the_ends_makes_no_segment_of_its_own(cut):
    silence = np.zeros(3 * RATE, np.float32)
    words = [sound(4 * RATE), np.zeros(RATE // 2, np.float32), sound(4 * RATE, 1)]
    pieces = cut(np.concatenate([silence, *words, silence]), RATE, 12.0)
    assert [(piece.start, piece.end) for piece in pieces] == [(0, 7.25), (7.25, 14.5)]


def test_a_pause_that_leaves_too_little_is_passed_over(cut):
    """A word of 0.3 s between two pauses stays with what follows."""
    pause = np.zeros(RATE // 2, np.float32)
    wave = [sound(5 * RATE), pause, sound(round(0.3 * RATE), 1), pause, sound(5 * RATE, 2)]
    pieces = cut(np.concatenate(wave), RATE, 10.0)
    assert [piece.end for piece in pieces] == [5.25, 11.3]


def test_of_equal_places_the_last_is_taken(cut):
    """Where no pause is long enough."""
    wave = np.tile(np.float32([0.1, -0.1]), 6 * RATE)
    for second in (6, 7, 8):
        wave[second * RATE : round((second + 0.2) * RATE)] = 0
    first, _ = cut(wave, RATE, 10.0)
    assert 8 < first.end < 8.2


def test_pieces_too_short_to_cut_are_refused(cut):
    from amask.errors import AudioError

    with pytest.raises(AudioError, match=r"at most 0\.5 s; expected 1 s or more"):
        cut(sound(RATE), RATE, 0.5)
