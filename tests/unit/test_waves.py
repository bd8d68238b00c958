"""Arrays that callers give: what a model can hear passes as it is, what it cannot is refused with what was expected."""

import hashlib
import struct

import numpy as np
import pytest

RATE = 16000


@pytest.fixture
def check():
    from amask.data.audio import check_wave

    return check_wave


@pytest.fixture
def convert():
    from amask.data.audio import to_mono_rate

    return to_mono_rate


@pytest.fixture
def refused():
    from amask.errors import AudioError

    return lambda fragment="": pytest.raises(AudioError, match=fragment)


def tone(seconds=1.0, rate=RATE, hertz=440.0):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def holding(value):
    return np.where(np.arange(RATE) == 9000, value, tone())


def test_a_sound_array_passes_unchanged(check):
    wave = tone().astype(np.float32)
    assert check(wave, RATE, 1.0) is wave
    assert check(np.zeros(RATE, np.float32), RATE).shape == (RATE,)  # silence is legal
    assert check(tone(0.1), RATE).dtype == np.float32
    assert check(tone()[::2], RATE // 2, 1.0).shape == (RATE // 2,)


@pytest.mark.parametrize(
    ("wave", "fragment"),
    [
        ([0.0] * RATE, "a list; expected a numpy array"),
        (np.zeros((RATE, 2)), r"shape \(16000, 2\); expected one axis, time; 'to_mono_rate'"),
        (np.array(0.5), r"shape \(\); expected one axis"),
        ((tone() * 2**15).astype(np.int16), "type int16; expected float, full scale 1.0; 'to_mono_rate' scales"),
        (tone().astype(object), "type object; expected float"),
        (tone().astype(complex), "type complex128; expected float"),
        (np.ones(RATE, bool), "type bool; expected float"),
        (np.zeros(0), r"is 0\.0 s long; at least 0\.1 s is needed"),
        (np.zeros(1599), r"is 0\.0999 s long; at least 0\.1 s is needed"),
        (np.zeros(2 * RATE + 2), r"is 2\.0001 s long, the model hears at most 2\.0 s"),
        (holding(np.nan), "NaN or infinite"),
        (holding(np.inf), "NaN or infinite"),
        (holding(1e300), "NaN or infinite"),
        (tone() * 2**15, r"reaches 16384; full scale is 1\.0"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_arrays_that_a_model_cannot_hear_are_refused(check, refused, wave, fragment):
    with refused(fragment):
        check(wave, RATE, 2.0)


@pytest.mark.parametrize(("kind", "scale"), [(np.int16, 2**15), (np.int32, 2**31), (np.float32, 1), (np.float64, 1)])
@pytest.mark.parametrize("shape", ["time", "time channel", "channel time", "time 1", "1 time"])
def test_any_kind_and_order_of_axes_is_the_same_sound(convert, kind, scale, shape):
    left, right = tone(hertz=440), tone(hertz=1000)
    stack = {"time": left, "time 1": left[:, None], "1 time": left[None]}
    stack |= {"time channel": np.stack([left, right], 1), "channel time": np.stack([left, right])}
    wave = convert((stack[shape] * scale).astype(kind), RATE, RATE)
    assert wave.dtype == np.float32
    np.testing.assert_allclose(wave, (left + right) / 2 if "channel" in shape else left, rtol=0, atol=2**-15)


@pytest.mark.parametrize("rate", [RATE, 48000])
def test_where_channels_cancel_each_other_the_loudest_is_taken(convert, rate):
    wave = convert(np.stack([-0.9 * tone(1.0, rate), tone(1.0, rate)], 1), rate, RATE)
    np.testing.assert_allclose(wave[2000:-2000], tone()[2000:-2000], rtol=0, atol=2e-3)


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
def test_any_rate_keeps_pitch_length_and_loudness(convert, rate):
    wave = convert(tone(1.0, rate), rate, RATE)
    assert wave.shape == (RATE,)
    np.testing.assert_allclose(wave[2000:-2000], tone()[2000:-2000], rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("wave", "rate", "fragment"),
    [
        ([0.0] * RATE, RATE, "a list; expected a numpy array"),
        (np.zeros(0), RATE, r"shape \(0,\): it has no samples"),
        (np.zeros((2, 0)), RATE, r"shape \(2, 0\): it has no samples"),
        (np.zeros((2, 2)), RATE, r"cannot tell time from channels in an array of shape \(2, 2\)"),
        (np.zeros((100, 100)), RATE, r"of shape \(100, 100\); expected \(time,\), \(time, channel\)"),
        (np.zeros((2, 2, RATE)), RATE, "cannot tell time from channels"),
        (np.zeros(RATE, np.uint8), RATE, "type uint8; expected float, full scale 1.0, int16 or int32"),
        (np.zeros(RATE, object), RATE, "type object"),
        (holding(np.nan), RATE, "NaN or infinite"),
        (tone() * 2**15, RATE, "reaches 16384"),
        (tone(), 0, "from 0 to 16000 Hz; expected 1000 to 1000000 Hz"),
        (tone(), -RATE, "from -16000 to 16000 Hz"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_arrays_that_are_no_sound_are_refused(convert, refused, wave, rate, fragment):
    with refused(fragment):
        convert(wave, rate, RATE)


def test_a_hash_is_that_of_the_samples_and_nothing_else():
    from amask.data.audio import hash_wave

    wave = np.array([0.0, 0.5, -1.0, 0.25], np.float32)
    assert hash_wave(wave) == hashlib.sha256(struct.pack("<4f", 0.0, 0.5, -1.0, 0.25)).hexdigest()[:32]
    assert hash_wave(np.repeat(wave, 2)[::2]) == hash_wave(wave)  # strides do not matter
    assert hash_wave(wave[::-1]) != hash_wave(wave)
