"""Everything that changes while masks are trained, in a file that is whole or not there."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import filelock
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ..data.atomic_write import add_checksum, strip_checksum, write_atomic
from ..errors import FileError

SUFFIX = ".checkpoint"
_LISTS = ("dev_scores", "merits", "stale")
_TENSORS = ("logits", "best", "first_moment", "second_moment")

_log = logging.getLogger(__name__)


@dataclass
class TrainingState:
    """The state of a training.

    Attributes:
        step: optimiser steps done.
        logits: of each job.
        optimizer: Adam over the logits.
        best: the logits of the best masks so far.
        dev_scores: what these score on dev clips, higher is better; None before the first try.
        merits: what they were chosen by (`DevScore.merit`).
        stale: how many tries of each job in a row were no better than the best before.
    """

    step: int
    logits: Tensor
    optimizer: torch.optim.Adam
    best: Tensor
    dev_scores: list[float | None]
    merits: list[float | None]
    stale: list[int]

    @classmethod
    def begin(cls, logits: Tensor, rate: float) -> "TrainingState":
        """The state before the first step."""
        leaf = logits.clone().requires_grad_()
        jobs = len(logits)
        return cls(0, leaf, torch.optim.Adam([leaf], lr=rate), logits.clone(), [None] * jobs, [None] * jobs, [0] * jobs)

    def to_bytes(self, key: str) -> bytes:
        """A checkpoint file's content; `key` identifies the training."""
        moments = self.optimizer.state_dict()["state"][0] if self.step else {}
        zeros = torch.zeros_like(self.best)
        first, second = moments.get("exp_avg", zeros), moments.get("exp_avg_sq", zeros)
        held = (self.logits, self.best, first, second)
        tensors = {name: tensor.detach().clone() for name, tensor in zip(_TENSORS, held, strict=True)}
        facts = json.dumps({"key": key, "step": self.step} | {name: getattr(self, name) for name in _LISTS})
        return add_checksum(safetensors.torch.save(tensors, metadata={"amask": facts}))

    def restore(self, stored: bytes, key: str) -> bool:
        """Take over what `to_bytes` wrote; False, and nothing is changed, if it is damaged or of another training."""
        content = strip_checksum(stored)
        if content is None:
            return False
        try:
            tensors = safetensors.torch.load(content)
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            facts = json.loads(header["__metadata__"]["amask"])
        except (SafetensorError, KeyError, ValueError):
            return False
        if facts.get("key") != key or not all(name in facts for name in _LISTS):
            return False
        logits, best, first, second = (tensors[name] for name in _TENSORS)
        self.step, self.best = facts["step"], best
        self.dev_scores, self.merits, self.stale = (facts[name] for name in _LISTS)
        self.logits.data.copy_(logits)
        moments = {"step": torch.tensor(float(self.step)), "exp_avg": first, "exp_avg_sq": second}
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": {0: moments} if self.step else {}, "param_groups": groups})
        return True


class Checkpoint:
    """The file of one training.

    Args:
        folder: where checkpoints are kept.
        key: identifies the training; a part of it is in the file's name, so that no two trainings share a file.
        about: how the name begins, for people.
    """

    def __init__(self, folder: Path, key: str, about: str) -> None:
        self.key = key
        self.path = folder / f"{about[:60]}-{key[:16]}{SUFFIX}"
        self._failed = False
        self._lock = filelock.FileLock(self.path.with_suffix(".lock"), timeout=0)

    def load(self, state: TrainingState) -> None:
        """Hold the training until `release`, and resume from it if it is there; a damaged one is put aside with a warning.

        Raises:
            FileError: another process does the same training, or the file can be neither read nor put aside.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except filelock.Timeout:
            raise FileError(
                f"another process does the same training (it holds {self._lock.lock_file}); wait for it or end it"
            ) from None
        except OSError:
            pass  # a folder that cannot be written: each save will say so
        aside = self.path.with_suffix(".damaged")
        try:
            if not self.path.exists() or state.restore(self.path.read_bytes(), self.key):
                return
            self.path.replace(aside)
        except OSError as error:
            raise FileError(f"cannot go on from the checkpoint {self.path}: {error.strerror}; remove it") from None
        _log.warning("the checkpoint %s is damaged, so the training begins anew; it was renamed to %s", self.path, aside.name)

    def save(self, state: TrainingState) -> None:
        """Write the state; where that fails, the old file stays, a warning says so once, and the training goes on."""
        try:
            write_atomic(state.to_bytes(self.key), self.path, parents=True)
        except FileError as error:
            if not self._failed:
                _log.warning("going on without a new checkpoint: %s", error)
            self._failed = True

    def remove(self) -> None:
        """Delete the file: the masks are stored."""
        self.path.unlink(missing_ok=True)
        Path(self._lock.lock_file).unlink(missing_ok=True)

    def release(self) -> None:
        """Let other processes do this training."""
        self._lock.release()
