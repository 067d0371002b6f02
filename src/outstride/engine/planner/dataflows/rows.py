"""The dataflow of few outputs: a tile is some rows of one output, which share the rows of the input.

With one or two outputs a vector of inputs would serve a product or two; here it serves every row of the tile
that some tap leads to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

from outstride.engine.planner.blocking import Blocking, Cut
from outstride.engine.planner.dataflow import Candidate, Tile
from outstride.engine.planner.dataflows.packed import Packed
from outstride.engine.planner.dataflows.pixels import whole_or_two_tiles
from outstride.engine.planner.machine import LINE_BYTES, Costs, Machine
from outstride.engine.planner.problem import Problem

#: With more outputs than this the other dataflows have enough to do with every vector they load.
FEW_OUTPUTS = 2


class Rows(Packed):
    """Vectors of pixels run along the rows of one output, and weights are broadcast to the rows they reach.

    A tile writes beyond the ends of its rows, so it cannot go on from sums of an earlier pass.
    """

    name = "rows"
    tile_module = "rows"
    of_rows = True
    resumes = False

    def tiles(self, problem: Problem, machine: Machine) -> tuple[Tile, ...]:
        """Few outputs, and rows of cells that read rows next to each other, with taps next to each other."""
        step, transposed = problem.stride[1], problem.operator == "conv_transpose"
        neighbours = problem.dilation[1] == 1 and (transposed or step == 1)
        shared = problem.kernel_size[1] > (step if transposed else 1)
        fits = (
            neighbours
            and shared
            and not problem.short
            and problem.outputs <= FEW_OUTPUTS
            and problem.out_unit != "channel"
        )
        return TILES[machine.instruction_set.name] if fits else ()

    def outputs(self, tile: Tile, lanes: int) -> int:
        del tile, lanes
        return 1

    def pixels(self, tile: Tile, lanes: int) -> int:
        return tile.vectors * lanes

    def loops(self, problem: Problem) -> tuple[str, ...]:
        del problem
        return ("rows",)

    def tiles_over(self, tile: Tile, blocking: Blocking, lanes: int) -> int:
        n, d, h, w = blocking.box
        return n * d * ceil(h / tile.rows) * ceil(w / tile.pixels(lanes))

    def rows_together(self, tile: Tile) -> int:
        return tile.rows

    def aligned(self, problem: Problem) -> bool:
        return problem.channels == 1

    def widths(self, candidate: Candidate) -> Iterator[tuple[int, Cut]]:
        return whole_or_two_tiles(candidate)

    def term_cycles(self, candidate: Candidate, row_tiles: Sequence[int]) -> float:
        c, channels = candidate, candidate.problem.channels
        sums = list(zip(row_tiles, c.groups, strict=True))
        terms = sum(t * g.taps for t, g in sums) * channels
        busy = sum(t * g.taps * self._tap_cycles(c, g.extent[1]) for t, g in sums if g.taps)
        return busy * channels / max(terms, 1)

    def _tap_cycles(self, c: Candidate, taps_h: int) -> float:
        """Cycles of one tap: an input row is loaded once for all rows that it reaches."""
        tile, isa, costs = c.tile, c.machine.instruction_set, c.machine.costs
        total = 0.0
        for t in range(taps_h + tile.rows - 1):
            rows = min(t, tile.rows - 1) - max(0, t - taps_h + 1) + 1
            read = tile.vectors * (1 + costs.crossing * isa.vector_bytes / LINE_BYTES)
            loads = read / isa.fma_per_cycle + costs.broadcast * rows
            total += max(rows * tile.vectors / isa.fma_per_cycle, loads)
        return total / taps_h

    def tile_cycles(self, costs: Costs) -> float:
        return costs.pixel_tile

    def tiles_look(self, box: tuple[int, int, int, int]) -> bool:
        del box
        return False

    def reach(self, tile: Tile, blocking: Blocking, lanes: int) -> int:
        """The last group of rows may lie beyond the box in part."""
        return super().reach(tile, blocking, lanes) + (tile.rows - 1) * blocking.strip.extent[2]


ROWS = Rows()
#: The tiles of each instruction set.
TILES: dict[str, tuple[Tile, ...]] = {
    "avx512": (Tile(ROWS, 4, 4),),
    "avx2": (Tile(ROWS, 3, 3),),
    "generic": (Tile(ROWS, 3, 3),),
    "neon": (Tile(ROWS, 4, 4),),
}
