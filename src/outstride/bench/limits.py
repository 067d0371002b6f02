"""What this machine can do at most, measured now: multiply-adds in a second and bytes copied in a second."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any

import torch

# A smaller copy measures the call that starts it, and a larger one is as fast as this one.
SMALLEST_BYTES, LARGEST_BYTES = 1 << 16, 1 << 30
SECONDS = 0.004


def copy_rate(moved_bytes: int) -> float:
    """Bytes in a second, read and written together, of the fastest copy of so many, on torch's threads.

    The buffers are reused, so what fits a cache is copied in it: the limit for a layer of as many bytes
    that is called again and again.
    """
    half = min(max(moved_bytes, SMALLEST_BYTES), LARGEST_BYTES) // 2 // 64 * 64
    source = torch.zeros(half, dtype=torch.uint8)
    target = torch.zeros(half, dtype=torch.uint8)
    # The C library's own copy, on one thread, passes the caches by where that is faster; and two threads that
    # have to wait for each other may need longer for a little than one of them alone.
    copies: tuple[Callable[[], Any], ...] = (
        lambda: target.copy_(source),
        lambda: ctypes.memmove(target.data_ptr(), source.data_ptr(), half),
    )
    return 2 * half / min(_seconds(copy) for copy in copies)


def multiply_add_rate(dtype: str) -> float | None:
    """FLOP in a second of fused multiply-adds in registers alone, or None where the engine has none."""
    from outstride.engine.launch.peak import peak
    from outstride.errors import OutstrideError

    try:
        return peak(dtype)
    except OutstrideError:
        return None


def _seconds(copy: Callable[[], Any]) -> float:
    """The best of several runs, each of at least a few milliseconds."""
    copy()
    begin = time.perf_counter()
    copy()
    repetitions = max(1, int(SECONDS / 4 / max(time.perf_counter() - begin, 1e-7)))
    best, deadline = float("inf"), time.perf_counter() + 2 * SECONDS
    while best == float("inf") or time.perf_counter() < deadline:
        begin = time.perf_counter()
        for _ in range(repetitions):
            copy()
        best = min(best, (time.perf_counter() - begin) / repetitions)
    return best
