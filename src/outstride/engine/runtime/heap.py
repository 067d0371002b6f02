"""What the C library keeps of memory that was freed, in pieces between others that are in use."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any


@cache
def heap_trimmer() -> Callable[[int], Any] | None:
    """What gives such pieces back to the system, except for so many bytes at the end.

    Glibc has it; other libraries give back by themselves, or not at all.
    """
    try:
        found: Callable[[int], Any] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    return found
