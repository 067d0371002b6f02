"""Scratch memory: kept for each calling thread, so that calls at the same time never share it and pages stay touched."""

from __future__ import annotations

import ctypes
import threading

_PAGE = 4096
_local = threading.local()


def scratch(size_bytes: int) -> int:
    """The address of at least `size_bytes` bytes, aligned to a page, private to the calling thread."""
    if getattr(_local, "size", 0) < size_bytes:
        _local.memory = (ctypes.c_char * (size_bytes + _PAGE))()
        _local.size = size_bytes
        _local.address = -(-ctypes.addressof(_local.memory) // _PAGE) * _PAGE
    return int(_local.address)
