"""How many processors this process may use, which in a container is fewer than the machine has."""

import math
import os
import sys
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def available_cpus(*, root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """Processors in the affinity mask, or fewer where a control group (v2) grants less time than they have.

    Parameters
    ----------
    root : Path
        Where control groups are mounted.
    membership : Path
        Which of them this process is in.
    """
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min([allowed, *(math.ceil(quota) for quota in _quotas(root, membership))]))


def _quotas(root: Path, membership: Path) -> list[float]:
    # A group's parents bound it as well; in a container its own group is usually the root.
    group = _own_group(membership)
    folders = [root, *(root / part for part in [group, *group.parents] if part != Path())]
    return [quota for folder in folders if (quota := _quota(folder / "cpu.max")) is not None]


def _own_group(membership: Path) -> Path:
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return Path()
    return next((Path(line[3:].lstrip("/")) for line in lines if line.startswith("0::")), Path())


def _quota(file: Path) -> float | None:
    try:
        granted, period = file.read_text(encoding="utf-8").split()
        return None if granted == "max" else int(granted) / int(period)
    except (OSError, ValueError):
        return None
