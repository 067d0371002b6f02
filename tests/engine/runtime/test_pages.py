"""Large pages are asked for where they can be, and never raise."""

from __future__ import annotations

import ctypes
import sys
from itertools import product

import pytest

from outstride.engine import runtime
from outstride.engine.runtime import pages


def test_asking_for_large_pages_never_raises() -> None:
    memory = (ctypes.c_char * (3 * pages.LARGE + 4096))()
    start = ctypes.addressof(memory)
    for address, size in product(
        (start, start + 1, start + 4095), (0, 1, 4096, pages.LARGE, len(memory) - 4096)
    ):
        runtime.prefer_large(address, size)
    runtime.prefer_large(0, 0)
    runtime.prefer_large(1 << 46, 4 * pages.LARGE)  # nothing is there
    ctypes.memset(start, 1, len(memory))


def test_only_whole_large_pages_inside_the_memory_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int, int]] = []
    monkeypatch.setattr(pages, "_madvise", lambda: lambda *a: asked.append(a))
    large = pages.LARGE
    for address, size in (
        (large, large),
        (large + 1, 3 * large),
        (10 * large - 4096, large + 4096),
        (5, large),
    ):
        before = len(asked)
        runtime.prefer_large(address, size)
        for first, length, _ in asked[before:]:
            assert first % large == length % large == 0 < length
            assert address <= first
            assert first + length <= address + size
    assert [(first // large, length // large) for first, length, _ in asked] == [(1, 1), (2, 2), (10, 1)]
    monkeypatch.setattr(pages, "_madvise", lambda: None)
    runtime.prefer_large(large, large)


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_other_systems_are_not_asked(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert pages._madvise.__wrapped__() is None
