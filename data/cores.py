"""How many cores there really are for this process: a container or a batch system may give fewer than the machine has."""

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def count_cores() -> int:
    """Cores that this process may use: those it is bound to, or as many as its container's share of time is worth."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = _share_of_time()
    return bound if share is None else max(1, min(bound, round(share)))


def _share_of_time() -> float | None:
    """Cores' worth of time that a container may use (cgroup, version 2 or 1); None where it has no limit."""
    try:
        if (CGROUP / "cpu.max").is_file():
            quota, period = (CGROUP / "cpu.max").read_text().split()
        else:
            quota = (CGROUP / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (CGROUP / "cpu" / "cpu.cfs_period_us").read_text()
        share = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such files, or "max": no limit
        return None
    return share if share > 0 and math.isfinite(share) else None
