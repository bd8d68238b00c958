"""One training in several processes, as `accelerate launch` or `torchrun` start them: who this one is, and what they share.

Each process does its share of a step's rows and all add up the gates' gradient, so the mask is that of one process. The first
one tries masks on dev clips, keeps checkpoints and prints.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import ModelError

PATIENCE = timedelta(hours=2)  # that others wait for the first process' dev tries
Item = TypeVar("Item")


@dataclass(frozen=True)
class Process:
    """One of the processes of a training.

    Attributes:
        rank: its number; 0 is the first.
        size: how many there are.
        local: its number on its machine, which chooses the device.
    """

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def is_first(self) -> bool:
        """Whether it is the one that tries, keeps and prints."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> list[Item]:
        """Its part of some work; together the processes do all of it, each item once."""
        return list(items[self.rank :: self.size])

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum over all processes; a tensor that is 0 for others' work is what one process would have.

        Raises:
            ModelError: another process has ended.
        """
        if self.size > 1:
            _join(self)
            try:
                dist.all_reduce(tensor)
            except RuntimeError:
                raise ModelError(_GONE) from None
        return tensor

    def from_first(self, value: Item) -> Item:
        """What the first process gives, in all of them.

        Raises:
            ModelError: another process has ended.
        """
        if self.size == 1:
            return value
        _join(self)
        held = [value]
        try:
            dist.broadcast_object_list(held)
        except RuntimeError:
            raise ModelError(_GONE) from None
        return held[0]


_GONE = "another process of this training has ended, so this one ends, too; the same command resumes from the last checkpoint"


def this_process() -> Process:
    """What the launcher says in RANK, WORLD_SIZE and LOCAL_RANK; alone without one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size <= 1 or "RANK" not in os.environ:
        return Process()
    return Process(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", "0")))


def _join(process: Process) -> None:
    """Meet the others, once; over the CPU, since gates are few numbers."""
    if not dist.is_initialized():
        try:
            dist.init_process_group("gloo", rank=process.rank, world_size=process.size, timeout=PATIENCE)
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ModelError(f"the processes of this training do not find each other: {reason}; start them by torchrun") from None


def leave() -> None:
    """Part from the others at the end of a training; one that has lost them already may do so, too."""
    if dist.is_initialized():
        with suppress(RuntimeError):
            dist.destroy_process_group()


def local_device(process: Process) -> str | None:
    """The device of a process among several on a machine with several; None where it is for others to choose."""
    if process.size > 1 and torch.cuda.is_available():
        return f"cuda:{process.local % torch.cuda.device_count()}"
    return None
