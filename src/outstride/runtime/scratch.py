"""Scratch memory, kept for each calling thread: calls at the same time never share it, pages stay touched.

It asks for large pages: a strip walks through one small page for every channel, more than the processor's
first-level table of addresses has entries.
"""

from __future__ import annotations

import ctypes
import threading

from outstride.runtime.pages import LARGE, prefer_large

_SMALL = 4096
_local = threading.local()


def scratch(size_bytes: int) -> int:
    """The address of at least `size_bytes` bytes, aligned to a page, private to the calling thread."""
    if getattr(_local, "size", 0) < size_bytes:
        page = LARGE if size_bytes > LARGE // 8 else _SMALL
        size = -(-size_bytes // page) * page
        _local.memory = (ctypes.c_char * (size + page))()
        _local.size = size
        _local.address = -(-ctypes.addressof(_local.memory) // page) * page
        prefer_large(_local.address, size)
    return int(_local.address)
