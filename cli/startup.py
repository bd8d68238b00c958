"""What is settled once when the command starts: how it shares the machine, and where the library's warnings are shown."""

import logging
import os

from ..data.cores import count_cores
from .common import warn


def share_cores() -> None:
    """Take no more of the machine than there is, and none of it while waiting; what the user has set stays.

    To be called before torch is imported. Threads that wait for each other would otherwise spin, and beside a busy process
    a training takes more than twice as long. Libraries see which cores a process is bound to, but not a container's share
    of time.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if count_cores() < bound:
        os.environ.setdefault("OMP_NUM_THREADS", str(count_cores()))


class _Shown(logging.Handler):
    """Shows the library's warnings as the command's own."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line on stderr."""
        warn(record.getMessage())


def show_log() -> None:
    """Show what the library logs, from warnings on."""
    logger = logging.getLogger("amask")
    if not any(isinstance(handler, _Shown) for handler in logger.handlers):
        logger.addHandler(_Shown(logging.WARNING))
