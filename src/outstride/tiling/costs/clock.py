"""How long cycles take, and how a number of seconds is written."""

from __future__ import annotations

from functools import lru_cache

from outstride.engine.launch.peak import peak
from outstride.engine.runtime import decline, machine
from outstride.tiling.surroundings import computing_by

#: Where no kernel runs that could tell.
_USUAL = 3e9
_MINUTE, _HOUR = 60, 3600
#: Share of a time from which on a part of it is named beside it.
NAMED = 0.05


@lru_cache(1)
def cycles_a_second() -> float:
    """Those in which this machine multiplies and adds now: systems state another rate than that at work."""
    if decline() is not None:
        return _USUAL
    isa = machine().instruction_set
    with computing_by(1):
        return peak() / (2 * isa.lanes(4) * isa.fma_per_cycle)


def spelled(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
    if seconds < 100 * _MINUTE:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.3g} h"
