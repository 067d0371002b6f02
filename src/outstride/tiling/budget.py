"""How much memory there is to be used, and how a number of bytes is written."""

from __future__ import annotations

import re
from pathlib import Path

from outstride.errors import ArgumentError

#: Bytes that a tile's tensors should take, so that they stay in the last-level cache.
NEAR_BYTES = 40 * 10**6
#: Up to how many times the whole's work is worth it.
MOST_RECOMPUTED = 1.1
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
#: Share of the machine's free memory that is taken where nobody says how much.
_SHARE = 0.25
#: What is taken to be free where the system does not say.
_USUAL_BYTES = 8 * 10**9


def spelled(count: float) -> str:
    """Bytes with a unit."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def rounded_up(count: int) -> int:
    """The next number of bytes that is spelled just so."""
    unit = int("1".ljust(len(str(count)) - 2, "0"))
    return -(-count // unit) * unit


def budget_of(memory: int | str | None) -> int:
    """Bytes that the tensors of a tile may take."""
    if memory is None:
        return int(_free_bytes() * _SHARE)
    if isinstance(memory, int) and not isinstance(memory, bool) and memory > 0:
        return memory
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?\s*", str(memory), re.IGNORECASE)
    if found is None or float(found[1]) == 0:
        raise ArgumentError(
            f"'memory' must be a number of bytes: got {memory!r}; legal: 2000000000, '2GB' or '500MB'"
        )
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _free_bytes() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return _USUAL_BYTES
    free = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return free[0] * 1024 if free else _USUAL_BYTES
