"""What dataflows have in common whose vectors hold outputs: the rows of their tiles are pixels by list.

Any pixels may share a tile: those of several rows, or of columns that use the same taps.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from outstride.engine.planner.blocking import UNCUT, Blocking, Cut, Region
from outstride.engine.planner.dataflow import Candidate, Tile
from outstride.engine.planner.dataflows.packed import Packed, narrow
from outstride.engine.planner.gather_form import GatherAxis
from outstride.engine.planner.machine import Costs
from outstride.engine.planner.problem import Problem
from outstride.engine.planner.strip import Strip

#: The most ranges of an axis, and regions of a box: an input of one column makes a range for each tap, of
#: which it has one.
MOST_RANGES, MOST_REGIONS = 17, 128
#: The most of their taps that planes or rows use where it is worth trying to cut them: tiles look as well.
MOST_USED = 11 / 12


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

    def regions(self, tile: Tile, blocking: Blocking) -> list[Region]:
        """The pixels of each region fill whole tiles."""
        n, place, regions = blocking.box[0], 0, []
        for region, tiles in zip(blocking.regions, blocking.listed_tiles(tile.rows), strict=True):
            (first_d, d), (first_h, h), (first_w, w) = region
            # Of single planes pixels come row by row, each row of all images, so that tiles of a border row
            # are full of pixels that leave out the same taps; deeper ones keep neighbouring rows together.
            images, planes, rows = (1, n * h, n) if d == 1 else (d * h, h, 1)
            pitches = (images * w, planes * w, rows * w)
            regions.append(Region(first_d, first_h, first_w, d, h, w, place, *pitches))
            place += tiles * tile.rows
        return regions

    def widths(self, candidate: Candidate) -> Iterator[tuple[int, Cut]]:
        """All columns, or cells that use the same taps on their own: of the columns, of other axes as well.

        Or so few that boxes at a wide border leave out the taps beyond it.
        """
        axis, columns = candidate.axes[2], max(1, candidate.axes[2].cells)
        yield columns, UNCUT
        if candidate.problem.short:
            yield from narrow(columns)
            return
        for cut in _cuts(candidate.axes):
            yield columns, cut
        if len(axis.ranges) < 2:
            return
        border = max(length for _, length in (axis.ranges[0], axis.ranges[-1]))
        if candidate.tile.rows <= border < columns:
            yield ceil(columns / ceil(columns / border)), UNCUT

    def may_store(self, problem: Problem) -> bool:
        return problem.stores_pixels

    def worth_storing(self, candidate: Candidate, box: tuple[int, ...], strip: Strip) -> bool:
        """Of boxes whose pixels come in the order of memory: part of a row, rows of a plane, or planes."""
        del strip
        _, _, height, width = candidate.cells
        whole = box[3] == width and (box[1] == 1 or box[2] == height)
        return box[0] == 1 and (whole or box[1] == box[2] == 1)

    def tile_cycles(self, costs: Costs) -> float:
        return costs.output_tile

    def tiles_look(self, box: tuple[int, int, int, int]) -> bool:
        return 1 in box[:2]

    def results(self, tile: Tile, blocking: Blocking, lanes: int) -> int:
        return self.tiles_over(tile, blocking, lanes) * tile.rows


def _cuts(axes: tuple[GatherAxis, ...]) -> Iterator[Cut]:
    """The width, and the axes before it, as far as taps read nothing but padding."""
    regions = 1
    for i, axis in reversed(list(enumerate(axes))):
        regions *= len(axis.ranges)
        if not axis.ranges or len(axis.ranges) > MOST_RANGES or regions > MOST_REGIONS:
            return
        if i == 2 and not axis.all_inside:
            yield False, False, True
        elif i < 2 and axis.useful <= MOST_USED:
            yield i == 0, True, True
