"""Variable-length feature frames of all clips in one array, so that training never reads audio twice."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...data.manifest import Clip, Manifest


@dataclass(frozen=True)
class FrameStore:
    """Frames of clip i are `frames[offsets[i]:offsets[i + 1]]`; kept on disk in half precision."""

    frames: np.ndarray  # (all frames, width) float16
    offsets: np.ndarray  # (clips + 1,)

    def length(self, clip: int) -> int:
        """Frames of a clip."""
        return int(self.offsets[clip + 1] - self.offsets[clip])

    def batch(self, clips: list[int]) -> tuple[Float[Tensor, "row frame width"], Int[Tensor, " row"]]:
        """Frames of some clips, padded on the right with each clip's quietest value, and their lengths."""
        pieces = [np.asarray(self.frames[self.offsets[c] : self.offsets[c + 1]], np.float32) for c in clips]
        lengths = torch.tensor([len(piece) for piece in pieces])
        padded = np.stack([np.pad(p, ((0, int(lengths.max()) - len(p)), (0, 0)), constant_values=p.min()) for p in pieces])
        return torch.from_numpy(padded), lengths


def build_store(path: Path, manifest: Manifest, compute: Callable[[list[Path]], list[np.ndarray]], batch: int = 64) -> FrameStore:
    """Compute frames for every clip of a manifest, or read them from an earlier run.

    Args:
        path: an .npz file; written at the end, at once.
        manifest: the clips, in the order of the store.
        compute: paths → one (frame, width) array each.
        batch: clips per call of `compute`.
    """
    if path.exists():
        stored = np.load(path)
        return FrameStore(stored["frames"], stored["offsets"])
    paths = [manifest.path(clip) for clip in manifest]
    pieces: list[np.ndarray] = []
    for start in range(0, len(paths), batch):
        pieces += [piece.astype(np.float16) for piece in compute(paths[start : start + batch])]
    offsets = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])])
    store = FrameStore(np.concatenate(pieces), offsets)
    half_written = path.with_suffix(".part.npz")
    np.savez(half_written, frames=store.frames, offsets=store.offsets)
    half_written.replace(path)
    return store


def training_clips(clips: list[Clip], repeat: dict[str, int]) -> list[int]:
    """The numbers of the training clips; those of a kind in `repeat` as often as it says, for some are few for what they teach.

    "short" in `repeat` is a kind of its own: speech of one or two words.
    """

    def times(clip: Clip) -> int:
        short = clip.kind == "speech" and len(clip.text.split()) <= 2
        return repeat.get("short" if short else clip.kind, 1)

    return [number for number, clip in enumerate(clips) if clip.split == "train" for _ in range(times(clip))]


def batches_by_length(lengths: list[int], clips: list[int], size: int, seed: int, chunk: int = 12) -> Iterator[list[int]]:
    """Endless batches of clips of similar length: shuffled, then sorted within chunks of some batches."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(clips)
        for start in range(0, len(order) - size * chunk + 1, size * chunk):
            part = sorted(order[start : start + size * chunk], key=lambda clip: lengths[clip])
            starts = rng.permutation(np.arange(0, len(part), size))
            yield from ([int(clip) for clip in part[at : at + size]] for at in starts)
