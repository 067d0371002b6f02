"""The C library's mathematics, which torch calls for single elements."""

from __future__ import annotations

import ctypes
from functools import lru_cache


@lru_cache(maxsize=8)
def library_function(name: str) -> int | None:
    """Where this process has a function of its C library, such as ``expf``, or None."""
    try:
        return ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value
    except (AttributeError, OSError, TypeError):
        return None
