"""Which tiles of a result are on the disk: a file of lines, each whole or not there.

The first line says what the result belongs to. A line counts if the sum at its end is right; what follows a
line that was torn by the end of a process or of power is cut off. A tile is written down after its numbers
are on the disk, so what is written down is there.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from math import ceil, prod
from pathlib import Path
from time import monotonic
from typing import Any
from zlib import crc32

from outstride.tiling.box import Box

_VERSION = 1
#: Seconds of work that may have to be done again; what is written down more often waits for the disk.
SECONDS_BETWEEN_NOTES = 1.0

Belongs = Mapping[str, Any]


class Grid:
    """The tiles of one plan, by their places."""

    def __init__(self, shape: Sequence[int], steps: Sequence[int]) -> None:
        """``steps``: the size of a tile on every axis."""
        self.steps = tuple(steps)
        self._counts = tuple(ceil(n / step) for n, step in zip(shape, steps, strict=True))
        self.done: set[int] = set()

    def __len__(self) -> int:
        return prod(self._counts)

    def place(self, corner: Sequence[int]) -> int:
        """The number of the tile at these places along the axes."""
        found = 0
        for place, count in zip(corner, self._counts, strict=True):
            found = found * count + place
        return found

    def number(self, box: Box) -> int:
        """That of one of its tiles."""
        return self.place([a // step for (a, _), step in zip(box, self.steps, strict=True)])

    def covers(self, box: Box) -> bool:
        """Whether every tile that has a part of a box is done."""
        ranges = [range(a // step, ceil(b / step)) for (a, b), step in zip(box, self.steps, strict=True)]
        return all(self.place(corner) in self.done for corner in product(*ranges))


class Journal:
    """The lines about one result."""

    def __init__(self, path: Path) -> None:
        self._path, self._shape = path, tuple[int, ...]()
        self.belongs: Belongs | None = None
        self.grids: list[Grid] = []
        self.counts: Counter[str] = Counter()
        self.is_whole = False
        """Whether the result was about to get its name."""
        self.is_over = False
        """Whether all that was to be made with it has its name, too."""
        self.lost = 0
        """Tiles that were written down behind a line that is damaged: they are made again."""
        self._end = 0
        self._read()

    def _read(self) -> None:
        """Take over the lines that are whole."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return
        lines = content.split(b"\n")[:-1]
        for number, line in enumerate(lines):
            said, _, total = line.rpartition(b" ")
            if total != _sum_of(said):
                self.lost = sum(_is_tile(other) for other in lines[number + 1 :])
                break
            self._take(json.loads(said))
            self._end += len(line) + 1

    def _take(self, said: Any) -> None:
        if isinstance(said, int):
            self.grids[-1].done.add(said)
        elif "journal" in said and said["journal"] != _VERSION:
            self.belongs, self.grids = {"journal": said["journal"]}, [Grid((), ())]
        elif self.belongs is not None and "journal" in self.belongs:
            pass  # of another version nothing is read but that tiles are done
        elif "journal" in said:
            self.belongs, self._shape = said["belongs"], tuple(said["shape"])
        elif "tile" in said:
            self.grids.append(Grid(self._shape, said["tile"]))
        elif "counts" in said:
            self.counts = Counter(said["counts"])
        else:
            self.is_whole = True
            self.is_over = "over" in said

    @property
    def tile(self) -> tuple[int, ...] | None:
        """The size on every axis of the latest plan's tiles."""
        return self.grids[-1].steps if self.grids else None

    @property
    def done(self) -> int:
        """Tiles that are written down."""
        return sum(len(grid.done) for grid in self.grids)

    def covers(self, box: Box) -> bool:
        """Whether a tile, of whatever plan, is on the disk."""
        return any(grid.covers(box) for grid in self.grids if grid.done)

    def begin(self, belongs: Belongs, shape: Sequence[int], tile: Sequence[int]) -> None:
        """Say what is made, or go on with it, in tiles of that size on every axis of the result."""
        lines: list[Any] = []
        if self.belongs is None:
            lines.append({"journal": _VERSION, "shape": list(shape), "belongs": belongs})
        if self.tile != tuple(tile):
            lines.append({"tile": list(tile)})
        self._append(lines)

    def note(self, boxes: Sequence[Box], counts: Counter[str]) -> None:
        """Write down tiles of the latest plan, whose numbers are on the disk."""
        lines: list[Any] = [self.grids[-1].number(box) for box in boxes]
        if counts != self.counts:
            lines.append({"counts": dict(counts)})
        self._append(lines)

    def whole(self) -> None:
        """Write down that the result is whole and gets its name now."""
        self._append([{"whole": True}])

    def over(self) -> None:
        """Write down that all that was to be made with the result has its name."""
        self._append([{"over": True}])

    def clear(self) -> None:
        """Write down that nothing is done."""
        self._end = 0
        with self._path.open("wb") as file:
            os.fsync(file.fileno())

    def _append(self, lines: Sequence[Any]) -> None:
        if not lines:
            return
        texts = [json.dumps(line).encode() for line in lines]
        with self._path.open("r+b" if self._path.exists() else "x+b") as file:
            file.truncate(self._end)
            file.seek(self._end)
            file.write(b"".join(text + b" " + _sum_of(text) + b"\n" for text in texts))
            file.flush()
            os.fsync(file.fileno())
            self._end = file.tell()
        for line in lines:
            self._take(json.loads(json.dumps(line)))


def _sum_of(said: bytes) -> bytes:
    return b"%08x" % crc32(said)


def _is_tile(line: bytes) -> bool:
    """Whether a line is whole and says that a tile is done."""
    said, _, total = line.rpartition(b" ")
    return said.isdigit() and total == _sum_of(said)


class Notes:
    """Tiles that were written and wait to be written down."""

    def __init__(
        self, journal: Journal, sync: Callable[[Sequence[Box]], object], counts: Counter[str]
    ) -> None:
        self._journal, self._sync, self._counts = journal, sync, counts
        self._waiting: list[Box] = []
        self._latest = monotonic()

    def add(self, box: Box) -> None:
        """A tile was written."""
        self._waiting.append(box)
        if monotonic() - self._latest >= SECONDS_BETWEEN_NOTES:
            self.flush()

    def flush(self) -> None:
        """Have all that was written on the disk, and then written down."""
        boxes, self._waiting = self._waiting, []  # a second sync would not say what a first one lost
        if boxes:
            self._sync(boxes)
            self._journal.note(boxes, self._counts)
        self._latest = monotonic()
