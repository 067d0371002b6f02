"""The dataflow of most layers: vectors hold neighbouring pixels, and each weight is broadcast to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil

from outstride.engine.planner.blocking import UNCUT, Blocking, Cut
from outstride.engine.planner.dataflow import Candidate, Tile
from outstride.engine.planner.dataflows.packed import Packed, narrow
from outstride.engine.planner.gather_form import GatherAxis
from outstride.engine.planner.machine import LINE_BYTES, Costs, Machine
from outstride.engine.planner.outer_products import fresh_share, outer_product_cycles
from outstride.engine.planner.problem import Problem
from outstride.engine.planner.strip import Strip, shared_border

#: Weights of products of so many bytes are asked for before they are read: a pass takes a piece of those of
#: each tile, and no prefetcher of the machine foresees the next one.
LEAST_PREFETCHED_BYTES = 2 << 20
#: So many times as many tiles are worth it where results need no moving, and so many results of an output
#: are enough. Of 80 each store waited for memory (docs/decisions/0023).
MORE_TILES, LEAST_STORED = 1.05, 512


class Pixels(Packed):
    """Vectors of pixels run along the width of the strip, over row ends; weights are broadcast.

    Where results may be stored as they are, tiles store them themselves, row by row ("direct").
    """

    name = "pixels"
    tile_module = "outer_products"

    def tiles(self, problem: Problem, machine: Machine) -> tuple[Tile, ...]:
        if problem.short and problem.out_unit == "channel":
            return ()  # sums of products are vectors of what is contiguous in the output
        tiles = TILES[machine.instruction_set.name]
        if problem.short and problem.weight_bytes >= LEAST_PREFETCHED_BYTES:
            return tuple(replace(tile, prefetches=True) for tile in tiles)
        return tiles

    def outputs(self, tile: Tile, lanes: int) -> int:
        del lanes
        return tile.rows

    def pixels(self, tile: Tile, lanes: int) -> int:
        return tile.vectors * lanes

    def loops(self, problem: Problem) -> tuple[str, ...]:
        return ("pixels", "direct") if problem.stores_directly else ("pixels",)

    def loop(self, blocking: Blocking) -> str:
        return "direct" if blocking.direct else "pixels"

    def tiles_over(self, tile: Tile, blocking: Blocking, lanes: int) -> int:
        step, box, strip = tile.pixels(lanes), blocking.box, blocking.strip
        if blocking.direct:
            rows, length = strip.rows_together(box)
            return rows * ceil(length / step)
        if blocking.nested:
            plane = (box[2] - 1) * strip.extent[2] + box[3]
            return box[1] * ceil(plane / step)
        return ceil(blocking.extent / step)

    def gap(self, axis: GatherAxis) -> int:
        return axis.reach[1] - axis.reach[0] - shared_border(axis, axis.cells)

    def may_store(self, problem: Problem) -> bool:
        return problem.stores_directly and not problem.nontemporal

    def worth_storing(self, candidate: Candidate, box: tuple[int, ...], strip: Strip) -> bool:
        """Of boxes with enough of an output for memory to foresee what is next, whose rows lose few lanes.

        Where results are stored later, tiles run on from row to row and lose lanes to the gaps alone.
        """
        if box[2] * box[3] < LEAST_STORED:
            return False
        tile = candidate.tile.pixels(candidate.lanes)
        rows, length = strip.rows_together(box)
        later = (rows - 1) * max(length, strip.extent[2]) + length
        return rows * ceil(length / tile) <= MORE_TILES * ceil(later / tile)

    def widths(self, candidate: Candidate) -> Iterator[tuple[int, Cut]]:
        return whole_or_two_tiles(candidate)

    def term_cycles(self, candidate: Candidate, row_tiles: Sequence[int]) -> float:
        del row_tiles
        c, costs, vectors = candidate, candidate.machine.costs, candidate.tile.vectors
        of_line = c.machine.instruction_set.vector_bytes / LINE_BYTES
        crossing = 0.0 if c.problem.short else costs.crossing  # planes begin with a line
        fresh = fresh_share(c.groups, c.axes[2].in_step, c.lanes)
        return outer_product_cycles(
            c, loads=vectors * (1 + crossing * of_line), broadcasts=c.tile.rows,
            fill=costs.fill * (vectors * of_line + 1) * fresh,
        )  # fmt: skip

    def tile_cycles(self, costs: Costs) -> float:
        return costs.pixel_tile

    def tiles_look(self, box: tuple[int, int, int, int]) -> bool:
        return box[0] == box[1] == 1


def whole_or_two_tiles(candidate: Candidate) -> Iterator[tuple[int, Cut]]:
    """All columns; or two tiles, so that more rows fit and less of their surroundings is packed again."""
    columns, two = max(1, candidate.axes[2].cells), 2 * candidate.tile.pixels(candidate.lanes)
    yield columns, UNCUT
    if candidate.problem.short:
        yield from narrow(columns)
        return
    below, above = candidate.axes[1].reach
    if columns > two and above > below + 1:
        yield two, UNCUT


PIXELS = Pixels()

_OF_32_REGISTERS = tuple(Tile(PIXELS, *shape) for shape in ((8, 3), (4, 5), (3, 7), (1, 8)))
_OF_16_REGISTERS = tuple(Tile(PIXELS, *shape) for shape in ((6, 2), (4, 2), (3, 3), (1, 6)))
#: Vectors of four elements lose few lanes in any row: few outputs have more of them, two a tile of their own.
_OF_NEON = tuple(Tile(PIXELS, *shape) for shape in ((8, 3), (4, 6), (3, 7), (2, 8), (1, 12)))
#: The tiles of each instruction set: accumulators, a vector of each column and a broadcast fit its registers.
#: Few enough that one module holds them all, so that another size never asks for other code (law 6); between
#: them they lose few lanes on any count of outputs.
TILES: dict[str, tuple[Tile, ...]] = {
    "avx512": _OF_32_REGISTERS,
    "avx2": _OF_16_REGISTERS,
    "generic": _OF_16_REGISTERS,
    "neon": _OF_NEON,
}
#: The most outputs of a tile.
MOST_OUTPUTS = max(tile.rows for tiles in TILES.values() for tile in tiles)
