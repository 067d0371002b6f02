"""Scratch belongs to the calling thread, grows and is kept."""

from __future__ import annotations

import ctypes
import threading
from itertools import pairwise

from outstride.engine.runtime import pages
from outstride.engine.runtime.scratch import scratch
from tests.engine.runtime.small_kernels import in_threads


def test_scratch_belongs_to_the_calling_thread() -> None:
    def call(i: int) -> tuple[int, bytes]:
        address = scratch(1 << 16)
        ctypes.memset(address, i + 1, 1 << 16)
        together.wait(60)
        return address, ctypes.string_at(address, 1 << 16)

    together = threading.Barrier(4)
    found = in_threads(4, call)
    assert [content for _, content in found] == [bytes([i + 1]) * (1 << 16) for i in range(4)]
    starts = sorted(address for address, _ in found)
    assert all(b - a >= 1 << 16 for a, b in pairwise(starts))


def test_scratch_grows_and_is_kept() -> None:
    def call(_: int) -> None:
        address = scratch(100)
        for size in (1, 100, 4096):
            assert scratch(size) == address, "less than there is, yet it was allocated anew"
        for size in (5000, pages.LARGE // 8 + 1, 3 * pages.LARGE):
            address = scratch(size)
            assert address % 4096 == 0
            ctypes.memset(address, 1, size)
            assert scratch(size) == scratch(10) == address
        assert address % pages.LARGE == 0, "large scratch asks for large pages"

    in_threads(1, call)
