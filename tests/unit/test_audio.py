"""Audio files: what is read is compared with the signal that was written; what cannot be read says why in one line."""

import io
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile

RATE = 16000


@pytest.fixture
def read():
    from amask.data.audio import read_audio

    return read_audio


@pytest.fixture
def refused():
    from amask.errors import AudioError

    return lambda fragment="": pytest.raises(AudioError, match=fragment)


def tone(seconds=1.0, rate=RATE, hertz=440.0):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(seconds=1.0, rate=RATE):
    """Noise below 3 kHz, which every codec keeps; the same at every rate."""
    bins = np.random.default_rng(0).normal(size=(2, round(3000 * seconds)))
    wave = np.fft.irfft(np.concatenate([[0], bins[0] + 1j * bins[1]]), round(seconds * rate))
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)


def peak_hertz(wave):
    return float(np.argmax(np.abs(np.fft.rfft(wave * np.hanning(len(wave)))))) * RATE / len(wave)


def correlation(a, b):
    """The normalised correlation at the best alignment: codecs delay."""
    size = 2 ** int(np.ceil(np.log2(len(a) + len(b))))
    product = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)))
    return product.max() / (np.linalg.norm(a) * np.linalg.norm(b))


def save(path, wave, rate=RATE, **options):
    soundfile.write(path, wave, rate, **options)
    return path


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
def test_any_rate_keeps_pitch_and_length(read, tmp_path, rate):
    wave = read(save(tmp_path / "a.wav", tone(1.0, rate), rate))
    assert wave.dtype == np.float32
    assert wave.shape == (RATE,)
    assert peak_hertz(wave) == 440
    assert np.abs(wave[1000:-1000]).max() == pytest.approx(0.5, abs=0.002)


def test_the_rate_of_the_result_can_be_chosen(read, tmp_path):
    assert read(save(tmp_path / "a.wav", tone(1.0, 44100), 44100), 24000).shape == (24000,)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.wav", {"subtype": "PCM_16"}),
        ("a.wav", {"subtype": "PCM_24"}),
        ("a.wav", {"subtype": "PCM_32"}),
        ("a.wav", {"subtype": "FLOAT"}),
        ("a.wav", {"subtype": "DOUBLE"}),
        ("a.flac", {}),
        ("a.aiff", {}),
    ],
)
def test_lossless_formats_at_the_models_rate_are_exact(read, tmp_path, name, options):
    np.testing.assert_allclose(read(save(tmp_path / name, noise(), **options)), noise(), rtol=0, atol=2**-15)


@pytest.mark.parametrize(("name", "options"), [("a.wav", {"subtype": "PCM_U8"}), ("a.wav", {"subtype": "ULAW"})])
def test_eight_bit_formats_are_centred(read, tmp_path, name, options):
    np.testing.assert_allclose(read(save(tmp_path / name, noise(), **options)), noise(), rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.mp3", {}), ("a.mp3", {"bitrate_mode": "VARIABLE"}), ("a.ogg", {}), ("a.opus", {"format": "OGG", "subtype": "OPUS"})],
)
@pytest.mark.parametrize("rate", [16000, 48000])
def test_lossy_formats_sound_the_same(read, tmp_path, name, options, rate):
    stereo = np.stack([noise(2.0, rate)] * 2, axis=1)
    wave = read(save(tmp_path / name, stereo, rate, **options))
    assert len(wave) == 2 * RATE
    assert correlation(wave, noise(2.0)) > 0.95


def test_content_matters_not_the_ending(read, tmp_path):
    assert read(save(tmp_path / "recording", tone(), format="FLAC")).shape == (RATE,)
    assert read(save(tmp_path / "wrong.mp3", tone(), format="WAV")).shape == (RATE,)
    assert read(save(tmp_path / "grün und rot.wav", tone())).shape == (RATE,)


def test_channels_are_averaged_or_the_first_is_taken(read, tmp_path):
    left, right = tone(hertz=440), tone(hertz=1000)
    path = save(tmp_path / "a.wav", np.stack([left, right], axis=1), subtype="FLOAT")
    np.testing.assert_allclose(read(path), (left + right) / 2, atol=1e-6)
    np.testing.assert_array_equal(read(path, channels="first"), left)
    eight = np.stack([left * gain for gain in range(8)], axis=1)
    np.testing.assert_allclose(read(save(tmp_path / "8.wav", eight, subtype="FLOAT")), left * 3.5, atol=1e-5)


def test_silence_and_overshoot_are_legal(read, tmp_path):
    assert not read(save(tmp_path / "silence.flac", np.zeros(RATE))).any()
    assert np.abs(read(save(tmp_path / "loud.wav", tone() * 4, subtype="FLOAT"))).max() == pytest.approx(2, abs=1e-3)
    assert len(read(save(tmp_path / "short.wav", tone(0.1)))) == 1600


@pytest.mark.parametrize(
    ("name", "options"), [("a.wav", {}), ("a.flac", {}), ("a.mp3", {}), ("a.opus", {"format": "OGG", "subtype": "OPUS"})]
)
def test_trim_uses_the_beginning(read, refused, tmp_path, name, options):
    path = save(tmp_path / name, noise(3.0, 48000), 48000, **options)
    whole = read(path)
    np.testing.assert_allclose(read(path, longest=2.0, trim=True), whole[: 2 * RATE], atol=1e-4)
    np.testing.assert_array_equal(read(path, longest=3.0), whole)
    with refused(r"is (3\.0 s|more than 2\.0 s) long, the model hears at most 2\.0 s; cut it; 'amask run --long trim'"):
        read(path, longest=2.0)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000])
def test_a_file_of_just_the_longest_length_is_read(read, refused, tmp_path, rate):
    assert read(save(tmp_path / "a.wav", tone(2.0, rate), rate), longest=2.0).shape == (2 * RATE,)
    with refused(r"is 2\.01 s long"):
        read(save(tmp_path / "b.wav", tone(2.01, rate), rate), longest=2.0)


def wav_header(size, rate=RATE, width=2):
    """A WAV header that promises a number of bytes of samples."""
    head = struct.pack("<4sI8sIHHIIHH", b"RIFF", (size + 36) % 2**32, b"WAVEfmt ", 16, 1, 1, rate, rate * width, width, 8 * width)
    return head + struct.pack("<4sI", b"data", size)


def test_only_what_is_needed_is_read_of_a_long_file(read, refused, tmp_path):
    path = tmp_path / "hour.wav"
    size = 3600 * RATE * 2
    path.write_bytes(wav_header(size))
    with path.open("r+b") as file:
        file.truncate(44 + size)
    tracemalloc.start()
    assert read(path, longest=8.0, trim=True).shape == (8 * RATE,)
    with refused(r"is 3600\.0 s long, the model hears at most 8\.0 s"):
        read(path, longest=8.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6  # the whole is 230 MB


def test_a_wav_without_a_known_size_is_read_to_its_end(read, tmp_path):
    samples = (tone() * 2**15).astype("<i2").tobytes()
    for size in (0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000):  # as programs write it that write to a pipe
        (tmp_path / "a.wav").write_bytes(wav_header(size) + samples)
        np.testing.assert_allclose(read(tmp_path / "a.wav"), tone(), atol=2**-14)


def test_a_flac_is_read_whole_whatever_its_header_says(tmp_path):
    from amask.data.audio import load_audio

    for promised in (RATE // 2, RATE + 16):
        flac_of(tmp_path / "a.flac", promised)
        heard = load_audio(tmp_path / "a.flac")
        np.testing.assert_allclose(heard.wave, noise(), atol=2**-15)
        assert heard.warnings == (("its header promises 8000 samples, it holds 16000; all are used",) if promised < RATE else ())


@pytest.mark.parametrize("length", [RATE, RATE + 1, 4096 * 4])
def test_a_flac_without_a_known_size_is_read_to_its_end(read, refused, tmp_path, length, monkeypatch):
    samples = np.random.default_rng(0).normal(size=length) * 0.1
    flac_of(tmp_path / "a.flac", 0, samples)
    np.testing.assert_allclose(read(tmp_path / "a.flac"), samples, atol=2**-15)
    monkeypatch.setattr("amask.data.decoding.BLOCK", (4096, 4096))  # blocks that end just where the samples do
    np.testing.assert_allclose(read(tmp_path / "a.flac"), samples, atol=2**-15)
    np.testing.assert_allclose(read(tmp_path / "a.flac", longest=0.5, trim=True), samples[: RATE // 2], atol=2**-15)
    with refused(r"is more than 0\.5 s long"):
        read(tmp_path / "a.flac", longest=0.5)


def text_in_disguise(path):
    path.write_text("This is not a recording. " * 100)


def cut(path, share, **options):
    """A file of noise of which only the first part is left."""
    save(path, np.stack([noise(5.0, 48000)] * 2, axis=1), 48000, **options)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def holding(path, value):
    save(path, np.where(np.arange(RATE) == 9000, value, tone().astype(np.float64)), subtype="DOUBLE")


def rate_in_header(path, rate):
    path.write_bytes(wav_header(2 * RATE, rate) + bytes(2 * RATE))


def untagged(path):
    """An MP3 of varying bit rate without its Xing header: the decoder guesses its length by the loud beginning."""
    loud = np.random.default_rng(0).normal(size=RATE) * 0.2
    save(path, np.concatenate([loud, np.zeros(9 * RATE)]), bitrate_mode="VARIABLE", compression_level=0.0)
    data = path.read_bytes()
    path.write_bytes(data[data.index(data[:3], 3) :])


def joined(path, **options):
    save(path, noise(), **options)
    path.write_bytes(path.read_bytes() * 2)


def flac_of(path, frames, samples=None):
    """A FLAC whose header gives a number of samples; 0 is "unknown", as encoders write it to a pipe."""
    save(path, noise() if samples is None else samples)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # 36 bits of the stream's description, which starts at byte 8
    data[22:26] = frames.to_bytes(4, "big")
    path.write_bytes(data)


def cut_stream(path):
    flac_of(path, 0)
    path.write_bytes(path.read_bytes()[:-3000])


OPUS = {"format": "OGG", "subtype": "OPUS"}
BAD_FILES = {
    "missing": ("a.wav", lambda path: None, r"cannot read .*a\.wav: No such file or directory; check the name"),
    "folder": ("a.wav", lambda path: path.mkdir(), "it is a folder; expected an audio file"),
    "NUL in the name": ("a\0.wav", lambda path: None, "embedded null byte"),
    "empty": ("a.wav", lambda path: path.touch(), r"is empty \(0 bytes\)"),
    "text": ("a.wav", text_in_disguise, "is no audio or is damaged; expected wav, .* convert it: ffmpeg -i"),
    "text as mp3": ("a.mp3", text_in_disguise, "is no audio or is damaged"),
    "another format": ("a.voc", lambda path: save(path, tone()), "is of the format VOC; expected wav, .* convert it: ffmpeg -i"),
    "headerless": ("a.raw", text_in_disguise, "has no header"),
    "cut in the header": ("a.wav", lambda path: path.write_bytes(wav_header(32000)[:30]), "is no audio or is damaged"),
    "cut after the header": ("a.wav", lambda path: path.write_bytes(wav_header(32000)), "promises 32000 bytes .* holds 0"),
    "cut wav": ("a.wav", lambda path: cut(path, 0.5), "breaks off: its header promises 960000 bytes of samples, it holds 479978"),
    "wav cut a little": ("a.wav", lambda path: cut(path, 0.999), "breaks off"),
    "cut rf64": ("a.wav", lambda path: cut(path, 0.5, format="RF64"), "breaks off"),
    "cut aiff": ("a.aiff", lambda path: cut(path, 0.5), "breaks off"),
    "cut flac": ("a.flac", lambda path: cut(path, 0.5), "is damaged or breaks off"),
    "cut ogg": ("a.ogg", lambda path: cut(path, 0.7), "breaks off: its last page is incomplete"),
    "cut opus": ("a.opus", lambda path: cut(path, 0.7, **OPUS), "breaks off: its last page is incomplete"),
    "cut mp3": ("a.mp3", lambda path: cut(path, 0.9), "breaks off: its header promises"),
    "joined mp3": ("a.mp3", joined, "would be cut: only .* convert it: ffmpeg"),
    "mp3 of unknown length": ("a.mp3", untagged, "would be cut: only .* convert it: ffmpeg"),
    "joined ogg": ("a.ogg", joined, "holds several streams"),
    "joined opus": ("a.opus", lambda path: joined(path, **OPUS), "holds several streams"),
    "flac that names too much": ("a.flac", lambda path: flac_of(path, 2 * RATE), r"header promises 2\.0 s, it holds 1\.0 s"),
    "joined flac": ("a.flac", joined, "is damaged or breaks off"),
    "cut flac of unknown length": ("a.flac", cut_stream, "is damaged or breaks off"),
    "no samples": ("a.wav", lambda path: save(path, tone(0)), "holds no samples"),
    "too short": ("a.wav", lambda path: save(path, tone(0.05)), r"is 0\.05 s long; at least 0\.1 s is needed"),
    "NaN": ("a.wav", lambda path: holding(path, np.nan), "holds samples that are NaN or infinite"),
    "infinite": ("a.wav", lambda path: holding(path, -np.inf), "holds samples that are NaN or infinite"),
    "beyond 32 bits": ("a.wav", lambda path: holding(path, 1e300), "holds samples that are NaN or infinite"),
    "unscaled integers": ("a.wav", lambda path: holding(path, -32768), r"reaches 32768; full scale is 1\.0"),
    "rate 0": ("a.wav", lambda path: rate_in_header(path, 0), "is no audio or is damaged"),
    "rate 10": ("a.wav", lambda path: rate_in_header(path, 10), "its sample rate is 10 Hz; expected 1000 to 1000000 Hz"),
    "rate 2 MHz": ("a.wav", lambda path: rate_in_header(path, 2_000_000), "its sample rate is 2000000 Hz"),
}


@pytest.mark.parametrize("case", BAD_FILES)
@pytest.mark.filterwarnings("error")
def test_bad_files_are_refused_in_one_line(read, refused, tmp_path, case):
    name, make, fragment = BAD_FILES[case]
    make(tmp_path / name)
    with refused(fragment) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.wav", {}), ("a.flac", {}), ("a.mp3", {}), ("a.ogg", {}), ("a.opus", {"format": "OGG", "subtype": "OPUS"})],
)
def test_a_stream_is_read_as_the_file_is(read, tmp_path, name, options):
    path = save(tmp_path / name, noise(2.0, 48000), 48000, **options)
    np.testing.assert_array_equal(read(io.BytesIO(path.read_bytes())), read(path))
    with path.open("rb") as stream:
        np.testing.assert_array_equal(read(stream, longest=1.0, trim=True), read(path)[:RATE])


@pytest.mark.parametrize(
    ("data", "fragment"),
    [
        (b"", r"the stream is empty \(0 bytes\)"),
        (b"This is not a recording. " * 100, "the stream is no audio or is damaged; .* convert it: ffmpeg -i - -f wav -"),
        (wav_header(32000) + bytes(16000), "the stream breaks off: its header promises 32000 bytes of samples, it holds 16000"),
    ],
)
def test_bad_streams_are_refused(read, refused, data, fragment):
    with refused(fragment):
        read(io.BytesIO(data))


def test_a_stream_that_has_no_end_is_refused(read, refused, monkeypatch):
    monkeypatch.setattr("amask.data.decoding.MAX_STREAM_BYTES", 1000)
    with refused("the stream has more than 1000 bytes"):
        read(io.BytesIO(bytes(1001)))


def test_forbidden_files_are_refused(read, refused, tmp_path, monkeypatch):
    path = save(tmp_path / "a.wav", tone())

    def forbid(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", forbid)  # a mode would not hinder root
    with refused("cannot read .*a.wav: Permission denied"):
        read(path)


def test_messages_stay_one_line_for_odd_names(read, refused, tmp_path):
    with refused(r"two\\nlines.wav'") as caught:
        read(tmp_path / "two\nlines.wav")
    assert "\n" not in str(caught.value)


def test_an_mp3s_tags_are_not_taken_for_sound(read, tmp_path):
    path = save(tmp_path / "a.mp3", noise())
    before = b"ID3\x04\0\0" + bytes([0, 0, 0x10, 0]) + bytes(0x10 << 7)
    path.write_bytes(before + path.read_bytes() + b"TAG" + bytes(125))
    assert correlation(read(path), noise()) > 0.95


@pytest.fixture
def examine(tmp_path):
    """The warnings for some samples, and what is heard of them."""
    from amask.data.audio import load_audio

    def examined(samples, **options):
        path = save(tmp_path / "a.wav", samples, subtype="FLOAT")
        heard = load_audio(path, **options)
        assert heard.seconds == len(heard.wave) / RATE
        np.testing.assert_array_equal(heard.wave, load_audio(path, **options).wave)
        return heard.warnings, heard.wave

    return examined


def test_ordinary_sound_is_no_reason_for_a_warning(examine):
    left, right = noise(), tone()
    for samples in (left, np.stack([left, right], axis=1), np.stack([left, left], axis=1), left * 0.01):
        assert examine(samples)[0] == ()
    assert examine(tone() * 2)[0] == ()  # full scale is not clipped
    assert examine(np.concatenate([np.zeros(RATE), left, np.zeros(RATE)]))[0] == ()


@pytest.mark.parametrize("rms", [0.0, 1e-5, 0.0009])
def test_silence_is_heard_with_a_warning(examine, rms):
    samples = np.random.default_rng(0).normal(size=RATE) * rms
    warnings, wave = examine(samples)
    assert warnings == ("it is silent or almost so: nothing in it reaches -60 dBFS",)
    np.testing.assert_allclose(wave, samples, atol=1e-7)


@pytest.mark.parametrize(("gains", "channel"), [((1, -1), 1), ((0.8, -1), 2), ((1, -0.75), 1), ((0.5, 0.5, -1, 0), 3)])
def test_where_channels_cancel_each_other_the_loudest_is_heard(examine, gains, channel):
    samples = np.stack([tone() * gain for gain in gains], axis=1)
    warnings, wave = examine(samples)
    assert warnings == (f"its channels cancel each other (opposite phase); channel {channel} is used alone",)
    np.testing.assert_allclose(wave, samples[:, channel - 1], atol=1e-7)
    assert examine(samples, channels="first")[0] == ()


@pytest.mark.parametrize("gains", [(1, 0), (1, 0, 0, 0, 0, 0, 0, 0), (1, -0.4), (1, 0.001)])
def test_channels_that_differ_in_loudness_do_not_cancel(examine, gains):
    samples = np.stack([tone() * gain for gain in gains], axis=1)
    warnings, wave = examine(samples)
    assert warnings == ()
    np.testing.assert_allclose(wave, samples.mean(1), atol=1e-6)


def test_unrelated_channels_do_not_cancel(examine):
    assert examine(np.random.default_rng(0).normal(size=(RATE, 8)) * 0.1)[0] == ()


def test_clipped_sound_is_said_to_be(examine):
    warnings, _ = examine(np.clip(tone() * 4, -1, 1))
    assert len(warnings) == 1
    assert warnings[0].startswith("it is clipped: 6")  # sin > 1/2 two thirds of the time
