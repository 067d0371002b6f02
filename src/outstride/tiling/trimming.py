"""Memory that is free goes back to the system where a budget needs it.

The C library keeps what is freed for the next call, in pieces between others that are in use: after boxes of
several sizes that can be several times what any of them takes. To give it back costs time, so that is done
only where what comes next would not fit.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/statm")
#: Share of a budget that may come on top of what could not be given back, before that is tried again.
_SLACK = 0.125


@cache
def _trim() -> Callable[[int], Any] | None:
    """What glibc has for it; other libraries give back by themselves, or not at all."""
    try:
        found: Callable[[int], Any] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    return found


def _resident() -> int:
    """Bytes of the process that are in memory; 0 where the system does not say."""
    try:
        return int(_STATUS.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


class Room:
    """A budget for all that the process takes from now on."""

    def __init__(self, budget: int) -> None:
        self._budget, self._before = budget, _resident()

    def make(self, needed: int) -> None:
        """See to it that so much fits, as far as what is free can be given back."""
        trim = _trim()
        if trim is None or self._lacking(needed) <= 0:
            return
        trim(0)
        if (lacking := self._lacking(needed)) > 0:  # in use, and not only by tiles
            self._before += lacking + int(_SLACK * self._budget)

    def _lacking(self, needed: int) -> int:
        return _resident() - self._before + needed - self._budget
