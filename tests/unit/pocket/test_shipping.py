"""The slice: the first clips of a kind, as Opus that still sounds the same."""

import numpy as np
import soundfile

from amask.data.manifest import Clip, Manifest
from amask.data.reading import read_manifest
from amask.pocket.corpus.shipping import make_slice
from amask.pocket.corpus.synthesis import RATE


def test_the_first_clips_of_a_kind_ship_as_opus(tmp_path):
    seconds = np.arange(int(1.5 * RATE)) / RATE
    glide = (0.3 * np.sin(2 * np.pi * (150 + 100 * seconds) * seconds)).astype(np.float32)  # 150 to 450 Hz, as a voice's pitch
    clips = []
    for number, kind in enumerate(("speech", "speech", "pair")):
        soundfile.write(tmp_path / f"{number}.flac", glide, RATE)
        clips.append(Clip(path=f"{number}.flac", kind=kind, split="test", labels={"asr": str(number)}))

    make_slice(Manifest(tuple(clips), tmp_path), tmp_path / "slice", {"test": {"speech": 1, "pair": 1}})

    shipped = read_manifest(tmp_path / "slice")
    assert [(clip.labels["asr"], clip.kind) for clip in shipped] == [("0", "speech"), ("2", "pair")]
    wave, rate = soundfile.read(shipped.path(shipped.clips[0]), dtype="float32")
    assert (soundfile.info(shipped.path(shipped.clips[0])).subtype, rate, len(wave)) == ("OPUS", RATE, len(glide))
    assert np.corrcoef(wave, glide)[0, 1] > 0.95
    assert shipped.path(shipped.clips[0]).stat().st_size < (tmp_path / "0.flac").stat().st_size / 2

    bytes_before = {path: path.read_bytes() for path in (tmp_path / "slice").rglob("*.opus")}
    (tmp_path / "slice" / "test" / "speech001.opus").write_bytes(b"of a larger slice")
    make_slice(Manifest(tuple(clips), tmp_path), tmp_path / "slice", {"test": {"speech": 1, "pair": 1}})
    assert {path: path.read_bytes() for path in (tmp_path / "slice").rglob("*.opus")} == bytes_before
