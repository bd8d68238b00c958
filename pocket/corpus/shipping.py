"""The slice that ships: some clips of every synthetic kind as Opus, so that training and evaluation need no synthesiser."""

import io
from pathlib import Path

import numpy as np
import soundfile

from ...data.manifest import Clip, Manifest, write_manifest
from .synthesis import RATE

# split → kind → clips. Real recordings are never shipped.
SIZES = {
    "train": {"speech": 500, "scene": 220, "pair": 180, "overlap": 180, "open": 160, "quiet": 60},
    "dev": {"speech": 90, "scene": 50, "pair": 50, "overlap": 50, "open": 40, "quiet": 20},
    "test": {"speech": 300, "scene": 160, "pair": 160, "overlap": 160, "open": 120, "quiet": 60},
}
COMPRESSION = 0.98  # of 0 to 1: about 16 kbit/s


def make_slice(corpus: Manifest, folder: Path, sizes: dict[str, dict[str, int]] = SIZES) -> None:
    """Write the first clips of each kind and split as Opus, and their manifest; other Opus files are removed.

    A file that sounds as it would is left as it is: every encoding has a serial number of its own, which would change its hash.

    Args:
        corpus: the pocket corpus.
        folder: where to.
        sizes: split → kind → number of clips.
    """
    shipped: list[Clip] = []
    for split, kinds in sizes.items():
        (folder / split).mkdir(parents=True, exist_ok=True)
        for kind, count in kinds.items():
            chosen = [clip for clip in corpus if clip.split == split and clip.kind == kind][:count]
            for number, clip in enumerate(chosen):
                name = f"{split}/{kind}{number:03d}.opus"
                wave, _ = soundfile.read(corpus.path(clip), dtype="float32")
                _write_opus(folder / name, wave)
                shipped.append(clip.model_copy(update={"path": name}))
    kept = {folder / clip.path for clip in shipped}
    for old in set(folder.rglob("*.opus")) - kept:
        old.unlink()
    write_manifest(shipped, folder / "manifest.jsonl")


def _write_opus(path: Path, wave: np.ndarray) -> None:
    encoded = io.BytesIO()
    soundfile.write(encoded, wave, RATE, format="OGG", subtype="OPUS", compression_level=COMPRESSION)
    if not path.exists() or not np.array_equal(soundfile.read(io.BytesIO(encoded.getvalue()))[0], soundfile.read(path)[0]):
        path.write_bytes(encoded.getvalue())
