"""Scratch memory, kept for each calling thread: calls at the same time never share it, pages stay touched.

It asks for large pages: a strip walks through one small page for every channel, more than the processor's
first-level table of addresses has entries.
"""

from __future__ import annotations

import ctypes
import threading

from outstride.engine.runtime.pages import LARGE, prefer_large

_SMALL = 4096


class _Buffer(threading.local):
    """The memory that this thread has."""

    memory: ctypes.Array[ctypes.c_char]
    size = 0
    address = 0


_buffer = _Buffer()


def scratch(size_bytes: int) -> int:
    """The address of at least `size_bytes` bytes, aligned to a page, private to the calling thread."""
    if _buffer.size < size_bytes:
        page = LARGE if size_bytes > LARGE // 8 else _SMALL
        size = -(-size_bytes // page) * page
        _buffer.memory = (ctypes.c_char * (size + page))()
        _buffer.size = size
        _buffer.address = -(-ctypes.addressof(_buffer.memory) // page) * page
        prefer_large(_buffer.address, size)
    return _buffer.address
