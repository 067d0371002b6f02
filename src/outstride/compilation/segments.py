"""Segments: lines whose rows are made in bands, and which rows of which line are made when."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from outstride.models.operators.reach import Window


@dataclass(frozen=True)
class Seen:
    """What was seen of a line that makes rows: how many, of which rows of its inputs, and its bytes."""

    line: int
    rows: int
    source_rows: int
    reach: Window
    alike: tuple[int, ...]
    """Places of which a row of the value needs the same row."""
    place: int
    size_bytes: int
    source_bytes: int
    weight_bytes: int

    def needs(self, first: int, end: int) -> tuple[int, int]:
        """The rows of the source that some of its value need."""
        low, high = self.reach.reads(first, end)
        return max(0, min(low, self.source_rows)), max(0, min(high, self.source_rows))


@dataclass(frozen=True)
class Segment:
    """Lines one behind the other, each of which reads the value of the one before."""

    lines: tuple[Seen, ...]
    threads: int
    bands: int
    """For each thread."""

    @property
    def first(self) -> int:
        """Its first line."""
        return self.lines[0].line

    @property
    def last(self) -> int:
        """Its last line."""
        return self.lines[-1].line

    def strands(self) -> list[list[tuple[int, int, int]]]:
        """For each thread the rows [first, end) of lines, by their number in the segment, in their order."""
        rows = self.lines[-1].rows
        made = [0] * len(self.lines)
        found = []
        for thread in range(self.threads):
            begin, end = (rows * (thread + k) // self.threads for k in (0, 1))
            bounds = [begin + (end - begin) * band // self.bands for band in range(self.bands + 1)]
            # Whatever the thread before did not make, too: nothing may need it here.
            made = [first for first, _ in self._needed(bounds[0], bounds[1], made)]
            strand = []
            for low, high in pairwise(bounds):
                until = [line.rows for line in self.lines]
                if high < rows:
                    until = [there for _, there in self._needed(low, high, made)]
                for number, there in enumerate(until):
                    if there > made[number]:
                        strand.append((number, made[number], there))
                        made[number] = there
            found.append(strand)
        return found

    def _needed(self, first: int, end: int, made: list[int]) -> list[tuple[int, int]]:
        """The rows of each line that some of the last one need, from what is made on."""
        needed, behind = list[tuple[int, int]](), list[tuple[Seen, tuple[int, int]]]()
        for number, line in reversed(list(enumerate(self.lines))):
            if behind:
                also = [rows for later, rows in behind if line.place in later.alike]
                lows, highs = zip(behind[-1][0].needs(*behind[-1][1]), *also, strict=True)
                first, end = min(lows), max(highs)
            behind.append((line, (min(first, made[number]), end)))
            needed.append(behind[-1][1])
        return needed[::-1]

    @property
    def made_again(self) -> float:
        """The largest share of its rows that a line makes more than once."""
        made = [0] * len(self.lines)
        for strand in self.strands():
            for number, first, end in strand:
                made[number] += end - first
        return max(rows / line.rows - 1 for rows, line in zip(made, self.lines, strict=True))
