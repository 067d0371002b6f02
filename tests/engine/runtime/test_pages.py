"""Large pages are asked for where they can be, those of files let go of, and neither raises."""

from __future__ import annotations

import ctypes
import mmap
import sys
from itertools import product
from pathlib import Path

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


def test_only_whole_pages_of_files_are_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, content = mmap.PAGESIZE, bytes(range(256)) * (5 * mmap.PAGESIZE // 256)
    (tmp_path / "file").write_bytes(content)
    with (tmp_path / "file").open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    assert memory[:] == content  # all of it was read
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    anonymous = ctypes.create_string_buffer(b"x" * (3 * page))
    asked: list[tuple[int, int, int]] = []
    monkeypatch.setattr(pages, "_madvise", lambda: lambda *a: asked.append(a))
    runtime.release_file(ctypes.addressof(anonymous), len(anonymous))
    runtime.release_file(start, page - 1)
    assert not asked
    runtime.release_file(start + 1, 4 * page)
    if sys.platform.startswith("linux"):
        assert [(first - start, size) for first, size, _ in asked] == [(page, 3 * page)]
    memory[:1] = b"y"  # this page is no longer the file's
    runtime.release_file(start, 5 * page)
    assert len(asked) <= 1


def test_what_is_let_go_of_is_there_for_who_reads_it(tmp_path: Path) -> None:
    content = bytes(range(256)) * (5 * mmap.PAGESIZE // 256)
    (tmp_path / "file").write_bytes(content)
    with (tmp_path / "file").open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    memory[-1:] = b"y"
    expected = content[:-1] + b"y"
    assert memory[:] == expected
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for address, size in ((start, len(content)), (start + 1, 1), (0, 0), (0, 1 << 20), (1 << 63, 1 << 20)):
        runtime.release_file(address, size)
    assert memory[:] == expected
