"""What each position along one axis reads of the input: exact, periodic, one interval per output phase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import gcd, lcm

from outstride.models.operators.reach import Reach

Interval = tuple[int, int]
"""First and last input position that is read, both counted."""

MOST_PHASES = 1 << 14


@dataclass(frozen=True)
class Field:
    """Position ``period * m + r`` reads the input from ``jump * m + low`` to ``jump * m + high``.

    ``reads[r]`` is (low, high), or None where nothing is read. Its nominal middle is the input position
    ``stride * q + centre``. Borders are left aside: intervals run on beyond the input.
    """

    period: int
    jump: int
    reads: tuple[Interval | None, ...]
    stride: Fraction
    centre: Fraction

    @classmethod
    def start(cls) -> Field:
        """The input itself: each position reads itself."""
        return cls(1, 1, ((0, 0),), Fraction(1), Fraction(0))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Input positions from the first to the last that each phase reads; 0 for a hole."""
        return tuple(0 if read is None else read[1] - read[0] + 1 for read in self.reads)

    @property
    def offset(self) -> Fraction:
        """Input pixels by which the middle lies beside that of a plain rescaling, half-pixel centres.

        A plain rescaling puts position q at ``(q + 1/2) * stride - 1/2``. Positive: towards the high side.
        """
        return self.centre - (self.stride - 1) / 2

    def at(self, position: int) -> Interval | None:
        """The interval that one position reads."""
        turns, phase = divmod(position, self.period)
        read = self.reads[phase]
        return None if read is None else (read[0] + self.jump * turns, read[1] + self.jump * turns)

    def through(self, reach: Reach) -> Field:
        """The field of what the reach makes of this: the union of what its taps read, as an interval."""
        return _through(self, reach)

    def table(self, period: int, size: int) -> Field:
        """The same over a longer period, or over the whole axis where no period fits."""
        jump = Fraction(self.jump * period, self.period)
        whole = period % self.period == 0 and jump.denominator == 1
        assert whole or period >= size
        return Field(period, round(jump), tuple(map(self.at, range(period))), self.stride, self.centre)


def union(fields: Sequence[Field], size: int) -> Field:
    """What is read where several tensors of ``size`` positions meet, element by element.

    Fields of one stride meet periodically. Others drift apart, so that the intervals are written down for
    every position. Stride and centre are those of the first.
    """
    first = fields[0]
    if all(field == first for field in fields):
        return first
    period = lcm(*(field.period for field in fields))
    if any(field.stride != first.stride for field in fields) or period > max(size, MOST_PHASES):
        # A multiple of the first one's period that covers the axis: beyond it nothing is read.
        period = -(-size // first.period) * first.period
    tables = [field.table(period, size).reads for field in fields]
    reads = tuple(map(hull, zip(*tables, strict=True)))
    jump = first.jump * period // first.period
    return shortest(Field(period, jump, reads, first.stride, first.centre))


def hull(reads: Sequence[Interval | None]) -> Interval | None:
    """The interval from the first to the last position of several."""
    found = [read for read in reads if read is not None]
    return (min(low for low, _ in found), max(high for _, high in found)) if found else None


@lru_cache(maxsize=4096)
def _through(field: Field, reach: Reach) -> Field:
    # The reach's phases repeat only once the positions that they read do: after `turns` of its periods.
    turns = field.period // gcd(field.period, abs(reach.jump)) if reach.jump else 1
    period = reach.period * turns
    reads = []
    for q in range(period):
        m, r = divmod(q, reach.period)
        reads.append(hull([field.at(reach.jump * m + t) for t in reach.taps[r]]))
    jump = reach.jump * turns // field.period * field.jump
    stride, centre = field.stride * reach.scale, field.centre + field.stride * reach.shift
    return shortest(Field(period, jump, tuple(reads), stride, centre))


def shortest(field: Field) -> Field:
    """The same field with the least period."""
    for period in range(1, field.period):
        if field.period % period or field.jump * period % field.period:
            continue
        jump = field.jump * period // field.period
        if all(_moved(field.reads[r], field.reads[r - period], jump) for r in range(period, field.period)):
            return Field(period, jump, field.reads[:period], field.stride, field.centre)
    return field


def _moved(read: Interval | None, before: Interval | None, jump: int) -> bool:
    if read is None or before is None:
        return read is before
    return read == (before[0] + jump, before[1] + jump)
