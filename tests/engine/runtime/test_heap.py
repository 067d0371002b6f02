"""Free memory is given back where the C library has a function for that."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from unittest import mock

import pytest

from outstride.engine.runtime.heap import heap_trimmer

_STATUS = Path("/proc/self/statm")


@pytest.mark.skipif(heap_trimmer() is None or not _STATUS.exists(), reason="the system gives back by itself")
def test_what_is_free_between_what_is_in_use_is_given_back() -> None:
    trim = heap_trimmer()
    assert trim is not None
    pieces = [bytes([n % 251]) * 100_000 for n in range(500)]
    kept = pieces[::50]
    del pieces
    before = _resident_bytes()
    trim(0)
    assert before - _resident_bytes() > 25_000_000
    assert kept == [bytes([n % 251]) * 100_000 for n in range(0, 500, 50)]


def _resident_bytes() -> int:
    return int(_STATUS.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_library_without_it_is_left_alone() -> None:
    heap_trimmer.cache_clear()
    try:
        with mock.patch.object(ctypes, "CDLL", return_value=object()):
            assert heap_trimmer() is None
    finally:
        heap_trimmer.cache_clear()
