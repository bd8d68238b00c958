"""Features of the clips of a manifest: computed when they are asked for, and cached.

On disk is all that was ever encoded, within a bound (`feature_cache`); in memory is only what was used last. So a training
on many clips takes no more memory than one on few.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..data.cores import count_cores
from ..data.manifest import Manifest
from ..errors import AudioError
from .answering import Rows
from .base import LALM
from .batching import AudioFeatures
from .feature_cache import FeatureCache, stack_rows

MEMORY = 2**28  # bytes of features that are kept in memory
READERS = 2  # threads that read files, while the model is at work
CHECKED = 256  # clips that are checked before the next ones are handed to the readers

OnProgress = Callable[[int, int], None]
"""(done, of how many)"""


@runtime_checkable
class FeatureRows(Rows, Protocol):
    """Features of some clips, by their numbers: all in memory (`AudioFeatures`), or made when asked for (`ClipFeatures`)."""

    def count(self, at: int) -> int:
        """How many positions a clip has."""

    def prefetch(self, chosen: Iterable[int]) -> None:
        """Begin to read some clips that will be asked for; errors show when they are."""


def join_features(pieces: Sequence[AudioFeatures]) -> AudioFeatures:
    """Rows of several encodings as one, padded to the longest."""
    longest = max(int(piece.lengths.max()) for piece in pieces)
    lengths = torch.cat([piece.lengths for piece in pieces])
    width = pieces[0].embeds.shape[-1]
    embeds = pieces[0].embeds.new_zeros(len(lengths), longest, width)
    at = 0
    for piece in pieces:
        embeds[at : at + len(piece), : piece.embeds.shape[1]] = piece.embeds[:, :longest]
        at += len(piece)
    return AudioFeatures(embeds, lengths)


class ClipFeatures:
    """Features of the clips of a manifest.

    Files are read in threads, also ahead (`prefetch`); the thread that asks encodes.

    Args:
        model: the one that encodes.
        manifest: the clips.
        trim: take the beginning of clips that are too long, instead of refusing them.
        digests: of each clip's files (`Manifest.digest`), where they are known.
        memory: bytes of features that are kept in memory, for clips that are asked for again; `MEMORY` by default.
    """

    def __init__(
        self, model: LALM, manifest: Manifest, *, trim: bool = False, digests: Sequence[str] = (), memory: int | None = None
    ) -> None:
        self.model, self.manifest, self.trim = model, manifest, trim
        self.memory = MEMORY if memory is None else memory
        self._digests = dict(enumerate(digests))
        self._counts: dict[int, int] = {}
        self._cache = FeatureCache(model)
        self._memory: OrderedDict[int, Float[Tensor, "position width"]] = OrderedDict()
        self._bytes = 0
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="amask-reader")
        self._pending: dict[int, Future] = {}

    def __len__(self) -> int:
        return len(self.manifest)

    def digest(self, at: int) -> str:
        """Hash of the files of a clip, by its number.

        Raises:
            AudioError: a file cannot be read.
        """
        if at not in self._digests:
            self._digests[at] = self.manifest.digest(self.manifest.clips[at])
        return self._digests[at]

    def rows(self, chosen: list[int]) -> AudioFeatures:
        """Features of some clips, in the given order; a clip may come more than once.

        Raises:
            AudioError: a clip cannot be read or is too long for the model.
        """
        self.prefetch(chosen)
        found = {at: self._row(at) for at in dict.fromkeys(chosen)}
        return stack_rows([found[at] for at in chosen], self.model.device)

    def count(self, at: int) -> int:
        """How many positions a clip has.

        Raises:
            AudioError: a clip cannot be read or is too long for the model.
        """
        if at not in self._counts:
            self.prefetch([at])
            self._row(at)
        return self._counts[at]

    def prefetch(self, chosen: Iterable[int]) -> None:
        """Begin to read some clips that will be asked for; errors show when they are."""
        for at in chosen:
            if at not in self._memory and at not in self._pending:
                self._pending[at] = self._pool.submit(self._read, at)

    def check(self, at: int) -> None:
        """Find out whether a clip can be encoded; one that is cached can.

        Raises:
            AudioError: it cannot be read or is too long for the model.
        """
        if self._sound_key(at) not in self._cache:
            self._wave(at)

    def _sound_key(self, at: int) -> str:
        """What tells the samples of a clip apart: its files, and how they are read."""
        model = self.model
        return f"{self.digest(at)} {model.rate} {model.longest} {model.channels} {self.trim}"

    def _wave(self, at: int) -> np.ndarray:
        model, clip = self.model, self.manifest.clips[at]
        return self.manifest.wave(clip, model.rate, longest=model.longest, trim=self.trim, channels=model.channels)

    def _read(self, at: int) -> Tensor | np.ndarray:
        """What a reader does: features from the disk or, where there are none, samples to be encoded."""
        found = self._cache.find(self._sound_key(at))
        return self._wave(at) if found is None else found

    def _row(self, at: int) -> Float[Tensor, "position width"]:
        if at in self._memory:
            self._memory.move_to_end(at)
            return self._memory[at]
        read = self._pending.pop(at).result() if at in self._pending else self._read(at)
        row = read if isinstance(read, Tensor) else self._cache.encode(read, self._sound_key(at))
        self._memory[at], self._counts[at] = row, len(row)
        self._bytes += row.nbytes
        while self._bytes > self.memory and len(self._memory) > 1:
            self._bytes -= self._memory.popitem(last=False)[1].nbytes
        return row


def encode_manifest(model: LALM, manifest: Manifest) -> AudioFeatures:
    """Features of all clips of a manifest, in memory: for few clips.

    Raises:
        AudioError: a clip cannot be read or is too long for the model.
    """
    return ClipFeatures(model, manifest).rows(list(range(len(manifest))))


def checked_features(
    model: LALM,
    manifest: Manifest,
    *,
    trim: bool = False,
    skip_bad: bool = False,
    memory: int | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[ClipFeatures, tuple[str, ...]]:
    """Check that all clips of a manifest can be encoded, and give their features.

    Args:
        model: the one that encodes.
        manifest: the clips.
        trim: take the beginning of clips that are too long, instead of refusing them.
        skip_bad: leave out clips that cannot be encoded, instead of refusing the first of them.
        memory: see `ClipFeatures`.
        on_progress: called as clips are checked.

    Returns:
        Features of the clips that can be encoded (their manifest is an attribute), and what is wrong with the others.

    Raises:
        AudioError: a clip cannot be read or is too long, or none can be encoded at all.
    """
    found = ClipFeatures(model, manifest, trim=trim, memory=memory)
    good: list[int] = []
    bad: list[str] = []

    def problem(at: int) -> str:
        try:
            found.check(at)
        except AudioError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(max(READERS, count_cores()), thread_name_prefix="amask-checker") as pool:
        for start in range(0, len(found), CHECKED):
            some = range(start, min(start + CHECKED, len(found)))
            for at, wrong in zip(some, pool.map(problem, some), strict=True):
                if wrong and not skip_bad:
                    raise AudioError(f"{wrong}; --skip-bad leaves such clips out")
                (bad.append(wrong) if wrong else good.append(at))
                if on_progress:
                    on_progress(at + 1, len(found))
    if not good:
        raise AudioError(f"none of {len(found)} clips can be read; the first: {bad[0]}")
    if not bad:
        return found, ()
    kept = replace(manifest, clips=tuple(manifest.clips[at] for at in good))
    digests = [found.digest(at) for at in good]
    return ClipFeatures(model, kept, trim=trim, digests=digests, memory=memory), tuple(bad)
