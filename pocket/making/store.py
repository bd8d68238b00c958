"""Variable-length feature frames of all clips in one array, so that training never reads audio twice."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...data.manifest import Clip, Manifest
from .loop import Log


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


def build_store(
    folder: Path,
    manifest: Manifest,
    compute: Callable[[list[Path]], list[np.ndarray]],
    log: Log,
    shard: int = 1024,
    batch: int = 16,
) -> FrameStore:
    """Compute frames for every clip of a manifest, or read what an earlier run has computed.

    Args:
        folder: of shards, each written whole.
        manifest: the clips, in the order of the store.
        compute: paths → one (frame, width) array each; is given files of similar length.
        log: told how many clips are done.
        shard: clips of a file.
        batch: clips per call of `compute`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    frames, lengths = [], []
    for start in range(0, len(manifest), shard):
        path, clips = folder / f"{start:06d}.npz", manifest.clips[start : start + shard]
        if not path.exists():
            order = sorted(range(len(clips)), key=lambda at: clips[at].duration or 0.0)
            made: dict[int, np.ndarray] = {}
            for first in range(0, len(order), batch):
                some = order[first : first + batch]
                made |= zip(some, compute([manifest.path(clips[at]) for at in some]), strict=True)
            pieces = [made[at].astype(np.float16) for at in range(len(clips))]
            half_written = path.with_suffix(".part.npz")
            np.savez(half_written, frames=np.concatenate(pieces), lengths=[len(piece) for piece in pieces])
            half_written.replace(path)
            log(f"frames: {start + len(clips)} of {len(manifest)} clips")
        with np.load(path) as stored:
            frames.append(stored["frames"])
            lengths.append(stored["lengths"])
    return FrameStore(np.concatenate(frames), np.concatenate([[0], np.cumsum(np.concatenate(lengths))]))


def training_clips(clips: Sequence[Clip], repeat: dict[str, int]) -> list[int]:
    """The numbers of the training clips; those of a kind in `repeat` as often as it says, for some are few for what they teach.

    "short" in `repeat` is a kind of its own: speech of one or two words.
    """

    def times(clip: Clip) -> int:
        short = clip.kind == "speech" and len(clip.text.split()) <= 2
        return repeat.get("short" if short else clip.kind, 1)

    return [number for number, clip in enumerate(clips) if clip.split == "train" for _ in range(times(clip))]


def batches_by_length(
    lengths: Sequence[float], clips: Sequence[int], most: float, rows: int, seed: int, chunk: int = 400
) -> Iterator[list[int]]:
    """Endless batches of clips of similar length: shuffled, sorted within chunks, and cut.

    Args:
        lengths: of every clip, in seconds or positions.
        clips: the numbers of those that are used; some may come more than once.
        most: length of a batch, padding included.
        rows: clips of a batch at most.
        seed: of the order.
        chunk: clips that are sorted together.
    """
    rng = np.random.default_rng(seed)
    while True:
        order = [int(clip) for clip in rng.permutation(clips)]
        for start in range(0, len(order), chunk):
            part = sorted(order[start : start + chunk], key=lambda clip: lengths[clip])
            batches: list[list[int]] = [[]]
            for clip in part:
                if batches[-1] and (len(batches[-1]) == rows or (len(batches[-1]) + 1) * lengths[clip] > most):
                    batches.append([])
                batches[-1].append(clip)
            yield from (batches[int(at)] for at in rng.permutation(len(batches)))
