"""How many processors this process may use: those that it may run on, and its share of their time."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath


def usable() -> int:
    """The processors that it may run on, hyperthreads counted each."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share(root: Path = Path("/")) -> float | None:
    """How many processors' time the control groups of Linux leave it, as containers do; None: all of it.

    A group may have less than its share of what the groups above it have.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    found = list[float]()
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, place = rest.partition(":")
        if not controllers:
            found += _shares(root / "sys/fs/cgroup", place, _unified)
        elif "cpu" in controllers.split(","):
            for name in (controllers, "cpu"):
                found += _shares(root / "sys/fs/cgroup" / name, place, _legacy)
    return min(found, default=None)


def _shares(mount: Path, place: str, read: Callable[[Path], tuple[int, int]]) -> list[float]:
    """What the group and those above it say; inside a container the mount may begin at the group itself."""
    inside = PurePosixPath(place.lstrip("/"))
    found = []
    for group in (inside, *inside.parents):
        try:
            quota, period = read(mount / group)
        except (OSError, ValueError):
            continue
        if quota > 0 and period > 0:
            found.append(quota / period)
    return found


def _unified(group: Path) -> tuple[int, int]:
    quota, period = (group / "cpu.max").read_text().split()
    return (0 if quota == "max" else int(quota)), int(period)


def _legacy(group: Path) -> tuple[int, int]:
    quota, period = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
    return quota, period
