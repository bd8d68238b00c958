"""Headers that are wrong about their data: the data decides. Files are real ones, with other numbers written into them."""

import struct

import numpy as np
import pytest
import soundfile

RATE = 16000
BYTES = 4 * RATE  # two seconds of 16 bits
SOUND = (0.4 * np.random.default_rng(0).normal(size=2 * RATE).clip(-2, 2)).astype(np.float32)
LIST = b"LIST" + struct.pack("<I", 4092) + b"INFOISFT" + struct.pack("<I", 4080) + bytes(4080)

# Format: its name, where the number of bytes of samples is (behind some bytes), how it is written, what it counts beside
# them, and how programs write that they do not know it.
FORMATS = {
    "WAV": (b"data", 0, "<I", 0, (0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000)),
    "WAVEX": (b"data", 0, "<I", 0, (0, 0xFFFFFFFF)),
    "RF64": (b"ds64", 12, "<q", 0, (0, -1)),
    "AIFF": (b"SSND", 0, ">I", 8, (0, 0xFFFFFFFF)),
    "AU": (b".snd", 4, ">I", 0, (0, 0xFFFFFFFF)),
    "CAF": (b"data", 0, ">q", 4, (0, -1)),
    "W64": (b"data\xf3\xac", 10, "<q", 24, (0, -1)),
}


@pytest.fixture
def hear(tmp_path):
    """What is heard of a file's bytes: how close it is to the sound that was written, and the warnings."""
    from amask.data.audio import load_audio

    def heard(data):
        (tmp_path / "a.wav").write_bytes(data)
        return load_audio(tmp_path / "a.wav")

    return heard


@pytest.fixture
def refused():
    from amask.errors import AudioError

    return lambda fragment: pytest.raises(AudioError, match=fragment)


def saved(tmp_path, kind, **options):
    soundfile.write(tmp_path / "saved", SOUND, RATE, format=kind, **({"subtype": "PCM_16"} | options))
    return (tmp_path / "saved").read_bytes()


def saying(data, kind, promised):
    """The same file, with a number in its header that promises so many bytes, or one for "unknown"."""
    name, behind, form, counted, unknown = FORMATS[kind]
    place = data.index(name) + len(name) + behind
    number = promised if promised in unknown else promised + counted
    return data[:place] + struct.pack(form, number) + data[place + struct.calcsize(form) :]


def assert_whole(heard):
    assert heard.wave.shape == SOUND.shape
    np.testing.assert_allclose(heard.wave, SOUND, rtol=0, atol=2**-14)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_right_header_is_no_reason_for_a_warning(hear, tmp_path, kind):
    heard = hear(saved(tmp_path, kind))
    assert_whole(heard)
    assert heard.warnings == ()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("promised", [2, 1000, BYTES // 2, BYTES - 1000])
def test_what_a_header_leaves_out_is_heard_with_a_warning(hear, tmp_path, kind, promised):
    heard = hear(saying(saved(tmp_path, kind), kind, promised))
    assert_whole(heard)
    assert heard.warnings == (f"its header promises {promised} bytes of samples, it holds {BYTES}; all are used",)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("more", [2, 16, 44, 512])
def test_a_header_that_promises_a_little_too_much_is_heard_with_a_warning(hear, tmp_path, kind, more):
    heard = hear(saying(saved(tmp_path, kind), kind, BYTES + more))
    assert_whole(heard)
    assert heard.warnings == (f"its header promises {BYTES + more} bytes of samples, it holds {BYTES}; all are used",)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("missing", [514, BYTES // 2, BYTES - 2])
def test_files_that_break_off_are_refused(hear, refused, tmp_path, kind, missing):
    with refused(f"breaks off: its header promises {BYTES} bytes of samples, it holds {BYTES - missing}; copy"):
        hear(saved(tmp_path, kind)[:-missing])


@pytest.mark.parametrize(("kind", "unknown"), [(kind, size) for kind, entry in FORMATS.items() for size in entry[-1]])
def test_a_header_that_does_not_know_is_no_reason_for_a_warning(hear, tmp_path, kind, unknown):
    heard = hear(saying(saved(tmp_path, kind), kind, unknown))
    assert_whole(heard)
    assert heard.warnings == ()


@pytest.mark.parametrize("size", [0, 36, 1000, BYTES + 36 + 16, 2**32 - 1])
def test_the_size_of_the_whole_riff_does_not_matter(hear, tmp_path, size):
    data = saved(tmp_path, "WAV")
    heard = hear(data[:4] + struct.pack("<I", size) + data[8:])
    assert_whole(heard)
    assert heard.warnings == ()


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM"])
def test_all_ways_to_write_samples_are_heard_whole(hear, tmp_path, subtype):
    data = saved(tmp_path, "WAV", subtype=subtype)
    right, wrong = hear(data), hear(saying(data, "WAV", 4096))
    np.testing.assert_array_equal(wrong.wave, right.wave)
    assert [len(right.warnings), len(wrong.warnings)] == [0, 1]


@pytest.mark.parametrize(
    "tail",
    [
        LIST,
        LIST * 3,
        LIST[:2000],
        b"acid" + struct.pack("<I", 2000) + bytes(2000),
        b"TAG" + bytes(125),
        bytes(511),
        b"ID3\4" + bytes(9999),
    ],
)
@pytest.mark.parametrize("odd", [0, 1])
def test_what_follows_the_samples_is_not_heard(hear, tmp_path, tail, odd):
    """Chunks, with and without the padding of an odd chunk before them; tags; a few bytes of anything."""
    data = saved(tmp_path, "WAV", subtype="PCM_U8")
    data = saying(data[:-odd] if odd else data, "WAV", BYTES // 2 - odd)
    for padding in (b"", bytes(odd)):
        heard = hear(data + padding + tail)
        assert len(heard.wave) == 2 * RATE - odd
        assert heard.warnings == ()


def test_an_empty_recording_with_chunks_behind_it_has_no_samples(hear, refused, tmp_path):
    with refused("holds no samples"):
        hear(saying(saved(tmp_path, "WAV")[:-BYTES], "WAV", 0) + LIST)


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "W64"])
def test_several_recordings_in_one_file_are_refused(hear, refused, tmp_path, kind):
    with refused("holds several recordings, one after the other; expected one"):
        hear(saved(tmp_path, kind) * 2)


def sphere(frames):
    header = f"NIST_1A\n   1024\nchannel_count -i 1\nsample_rate -i {RATE}\nsample_n_bytes -i 2\nsample_byte_format -s2 01\n"
    header += f"sample_coding -s3 pcm\nsample_sig_bits -i 16\nsample_count -i {frames}\nend_head\n"
    return header.encode().ljust(1024, b"\0") + (SOUND * 2**15).astype("<i2").tobytes()


def test_nist_sphere_is_heard_by_its_data_too(hear, refused):
    assert_whole(hear(sphere(2 * RATE)))
    assert hear(sphere(2 * RATE)).warnings == ()
    heard = hear(sphere(RATE))
    assert_whole(heard)
    assert heard.warnings == (f"its header promises {BYTES // 2} bytes of samples, it holds {BYTES}; all are used",)
    with refused(f"breaks off: its header promises {BYTES} bytes of samples, it holds {BYTES // 2}"):
        hear(sphere(2 * RATE)[: 1024 + BYTES // 2])


def test_more_than_a_header_can_say_is_refused(refused, tmp_path):
    from amask.data.audio import load_audio

    path = tmp_path / "a.wav"
    path.write_bytes(saying(saved(tmp_path, "WAV"), "WAV", BYTES))
    with path.open("r+b") as file:
        file.truncate(2**32 + 1000)  # without blocks on the disk
    with refused("bytes of samples; expected less than 4 GiB in this format"):
        load_audio(path, longest=1.0, trim=True)


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "CAF", "W64", "RF64", "AU"])
@pytest.mark.filterwarnings("error")
def test_damaged_headers_are_refused_or_heard_but_never_a_traceback(hear, tmp_path, kind):
    from amask.errors import AudioError

    data, rng = saved(tmp_path, kind), np.random.default_rng(0)
    for _ in range(60):
        place = int(rng.integers(0, 120))
        damaged = data[:place] + rng.bytes(4) + data[place + 4 :]
        try:
            hear(damaged if rng.random() < 0.7 else damaged[:place])
        except AudioError as error:
            assert "\n" not in str(error)
