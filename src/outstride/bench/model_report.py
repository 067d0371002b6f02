"""Lay the rows of whole models out as text for a terminal: milliseconds of all, then what stands beside."""

from __future__ import annotations

from collections.abc import Sequence

from outstride.bench.contenders import CONTENDERS
from outstride.bench.report import failures, megabytes, milliseconds, number
from outstride.bench.table import Row

FIXED = {"model": 16, "threads": 7}
ENDING = {
    "times torch": 11,
    "best peer": 10,
    "times": 5,
    "residual": 8,
    "first s": 7,
    "theirs": 6,
    "MB": 6,
    "theirs MB": 9,
}
MILLISECONDS_WIDTH = 9


def line(row: Row, contenders: Sequence[str]) -> str:
    """One model: milliseconds of each, then how ours and the best peer's other figures stand."""
    ours, peer = (row.timings.get(name or "") for name in (row.ours, row.best_peer))
    pairs = [(timing.first_ms, timing.memory_bytes) if timing else (None, None) for timing in (ours, peer)]
    (first_ms, held), (their_first_ms, their_held) = pairs
    ending = [
        number(row.ratio, ".2f"),
        CONTENDERS[row.best_peer].short if row.best_peer else "-",
        number(row.lead, ".2f"),
        number(ours.residual if ours else None, ".1e"),
        seconds(first_ms),
        seconds(their_first_ms),
        megabytes(held),
        megabytes(their_held),
    ]
    times = [milliseconds(row.median_ms(name)) for name in contenders]
    return "  ".join([_aligned([row.job.id, str(row.threads), *times, *ending], contenders), *failures(row)])


def heading(contenders: Sequence[str]) -> str:
    """The names above the columns of `line`."""
    return _aligned([*FIXED, *(CONTENDERS[name].short for name in contenders), *ENDING], contenders)


def seconds(value_ms: float | None) -> str:
    return number(None if value_ms is None else value_ms / 1e3, ".2f")


def _aligned(parts: Sequence[str], contenders: Sequence[str]) -> str:
    middle = [max(MILLISECONDS_WIDTH, len(CONTENDERS[name].short)) for name in contenders]
    first, *others = zip(parts, [*FIXED.values(), *middle, *ENDING.values()], strict=True)
    return "  ".join([first[0].ljust(first[1]), *(part.rjust(width) for part, width in others)])
