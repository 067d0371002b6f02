"""The facts about this machine without which a time means nothing."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("outstride", "torch", "llvmlite", "numpy", "onnxruntime", "openvino", "jax", "MNN")

LOOK_SECONDS, QUIET_SHARE = 0.1, 0.15


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
    return _git("describe", "--always", "--dirty", "--abbrev=10")


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
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions(),
        "commit": commit(),
    }


def wait_until_quiet(patience_seconds: float) -> bool:
    """Wait until the cores are idle, at most so long; False where somebody works on all the same."""
    deadline = time.monotonic() + patience_seconds
    while (share := _busy_share()) is not None and share > QUIET_SHARE:
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def _busy_share() -> float | None:
    """How much of all cores' time is being used, 0 to 1, or None where the system does not say."""
    before = _core_times()
    time.sleep(LOOK_SECONDS)
    after = _core_times()
    if before is None or after is None:
        return None
    whole = sum(after) - sum(before)
    # The fourth and fifth columns are the idle time and the time spent waiting for disks.
    idle = sum(after[3:5]) - sum(before[3:5])
    return 1 - idle / whole if whole else None


def _core_times() -> list[int] | None:
    try:
        return [int(number) for number in Path("/proc/stat").read_text().partition("\n")[0].split()[1:]]
    except (OSError, ValueError):
        return None
