"""The C library's mathematics, which torch calls for single elements."""

from __future__ import annotations

import ctypes
from functools import lru_cache


@lru_cache(maxsize=1)
def exponential_address() -> int | None:
    """Where this process has the exponential of float32 of its C library, or None."""
    try:
        return ctypes.cast(ctypes.CDLL(None).expf, ctypes.c_void_p).value
    except (AttributeError, OSError, TypeError):
        return None
