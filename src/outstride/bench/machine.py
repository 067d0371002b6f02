"""The facts about this machine without which a time means nothing."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from outstride.engine.runtime import info

PACKAGES = ("outstride", "torch", "llvmlite", "numpy", "onnxruntime", "openvino", "jax", "MNN")

LOOK_SECONDS, BUSY_CORES = 0.1, 0.25


def cpu_model() -> str:
    """The processor's own name for itself."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def commit() -> str | None:
    """The commit of the checkout this package runs from, or None where it runs from no checkout."""
    # An environment may lie in somebody else's checkout: only one that tracks this very file is ours.
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    name = _git("rev-parse", "--short=10", "HEAD")
    # What is timed is the package: a page that is being written beside it makes no other figures.
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", str(Path(__file__).parents[1]))
    return f"{name}-dirty" if name and changed else name


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def versions() -> dict[str, str]:
    """The versions of what is installed of the packages that matter here, none of them imported."""
    found = {package: _version(package) for package in PACKAGES}
    return {package: number for package, number in found.items() if number is not None}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def facts() -> dict[str, Any]:
    """Everything that a file of results says about where it was made."""
    return {
        "cpu": cpu_model(),
        "architecture": info()["cpu"],
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions(),
        "commit": commit(),
    }


def processor(machine: Mapping[str, Any]) -> str:
    """The processor in those facts and the compiler's name for its kind: a model name stands for several."""
    kind = machine.get("architecture")
    return f"{machine['cpu']} ({kind})" if kind else str(machine["cpu"])


def wait_for_cores(wanted: int, patience_seconds: float) -> bool:
    """Wait until so many cores are idle, at most so long; False where others work on them all the same."""
    deadline = time.monotonic() + patience_seconds
    while (shares := _idle_shares()) and sum(shares) < min(wanted, len(shares)) - BUSY_CORES:
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def idlest_cores(count: int) -> list[int]:
    """So many of the cores that this process may use, those first that had least to do just now."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    idle = {core: share for core, share in enumerate(_idle_shares()) if core in allowed}
    # Of equals the last: the first core is where the system does its own work.
    return sorted(sorted(idle, key=lambda core: (-round(idle[core], 1), -core))[:count])


def _idle_shares() -> list[float]:
    """Of every core the share of a moment in which it had nothing to do; nothing where nobody says."""
    before = _core_times()
    time.sleep(LOOK_SECONDS)
    pairs = zip(before, _core_times(), strict=False)
    # The fourth and fifth columns are the idle time and the time spent waiting for disks.
    return [(sum(b[3:5]) - sum(a[3:5])) / max(1, sum(b) - sum(a)) for a, b in pairs]


def _core_times() -> list[list[int]]:
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return []
    return [
        list(map(int, line.split()[1:])) for line in lines if line.startswith("cpu") and line[3].isdigit()
    ]
