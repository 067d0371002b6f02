"""What dataflows have in common whose vectors hold outputs: the rows of their tiles are pixels by list.

Any pixels may share a tile: those of several rows, or of columns that use the same taps.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from outstride.engine.planner.blocking import Blocking, ColumnRange
from outstride.engine.planner.dataflow import Candidate, Tile
from outstride.engine.planner.dataflows.packed import Packed, narrow
from outstride.engine.planner.machine import Costs
from outstride.engine.planner.problem import Problem
from outstride.engine.planner.strip import Strip

#: The most ranges of columns of a box: an input of one column makes one for each tap, of which it has one.
MOST_RANGES = 17


class Listed(Packed):
    """A dataflow whose vectors hold outputs and whose pixels are listed."""

    lists_pixels = True
    tile_module = "outer_products"

    def outputs(self, tile: Tile, lanes: int) -> int:
        return tile.vectors * lanes

    def pixels(self, tile: Tile, lanes: int) -> int:
        del lanes
        return tile.rows

    def loops(self, problem: Problem) -> tuple[str, ...]:
        return ("channels", "stored") if problem.stores_pixels else ("channels",)

    def loop(self, blocking: Blocking) -> str:
        return "stored" if blocking.direct else "channels"

    def tiles_over(self, tile: Tile, blocking: Blocking, lanes: int) -> int:
        del lanes
        return sum(blocking.listed_tiles(tile.rows))

    def column_ranges(self, tile: Tile, blocking: Blocking) -> list[ColumnRange]:
        """The pixels of each range fill whole tiles."""
        n, d, h, _ = blocking.box
        # Of single planes pixels come row by row, each row of all images, so that tiles of a border row are
        # full of pixels that leave out the same taps; deeper boxes keep neighbouring rows together.
        images, planes, rows = (1, n * h, n) if d == 1 else (d * h, h, 1)
        place, ranges = 0, []
        for (first, columns), tiles in zip(blocking.columns, blocking.listed_tiles(tile.rows), strict=True):
            ranges.append(
                ColumnRange(first, columns, place, images * columns, planes * columns, rows * columns)
            )
            place += tiles * tile.rows
        return ranges

    def widths(self, candidate: Candidate) -> Iterator[tuple[int, bool]]:
        """All columns, or those that use the same taps on their own.

        Or so few that boxes at a wide border leave out the taps beyond it.
        """
        axis, columns = candidate.axes[2], max(1, candidate.axes[2].cells)
        yield columns, False
        if candidate.problem.short:
            yield from narrow(columns)
            return
        if len(axis.ranges) < 2:
            return
        if len(axis.ranges) <= MOST_RANGES:
            yield columns, True
        border = max(length for _, length in (axis.ranges[0], axis.ranges[-1]))
        if candidate.tile.rows <= border < columns:
            yield ceil(columns / ceil(columns / border)), False

    def may_store(self, problem: Problem) -> bool:
        return problem.stores_pixels

    def worth_storing(self, candidate: Candidate, box: tuple[int, ...], strip: Strip) -> bool:
        """Of boxes whose pixels come in the order of memory: whole rows of one image."""
        del strip
        return box[0] == 1 and box[3] == candidate.cells[3]

    def tile_cycles(self, costs: Costs) -> float:
        return costs.output_tile

    def tiles_look(self, box: tuple[int, int, int, int]) -> bool:
        return 1 in box[:2]

    def results(self, tile: Tile, blocking: Blocking, lanes: int) -> int:
        return self.tiles_over(tile, blocking, lanes) * tile.rows
