"""The dataflow of many outputs on small maps: vectors hold the weights of neighbouring outputs.

Each pixel is broadcast to them. The results of a tile are transposed on their way to scratch, so that pixels
lie side by side; or they stay as they are, where the output is contiguous along the channels ("straight").
"""

from __future__ import annotations

from collections.abc import Sequence

from outstride.engine.planner.dataflow import Candidate, Tile
from outstride.engine.planner.dataflows.listed import Listed
from outstride.engine.planner.machine import Machine
from outstride.engine.planner.outer_products import fresh_share, outer_product_cycles
from outstride.engine.planner.problem import Problem


class Channels(Listed):
    """Vectors hold the weights of neighbouring outputs, and pixels are broadcast."""

    name = "channels"
    operands = "weights in lanes, inputs broadcast"

    def tiles(self, problem: Problem, machine: Machine) -> tuple[Tile, ...]:
        table = STRAIGHT_TILES if problem.out_unit == "channel" else TILES
        return table[machine.instruction_set.name]

    def outputs_together(self, tile: Tile) -> bool:
        return not tile.transposed

    def term_cycles(self, candidate: Candidate, row_tiles: Sequence[int]) -> float:
        del row_tiles
        c, tile, costs = candidate, candidate.tile, candidate.machine.costs
        # Pixels side by side share a line; where their channels do, terms share it.
        fresh = 0.0 if self.pixel_major(c.problem) else fresh_share(c.groups, c.axes[2].in_step, c.lanes)
        return outer_product_cycles(
            c, loads=tile.vectors, broadcasts=tile.rows, fill=costs.listed_fill * (tile.vectors + fresh)
        )


CHANNELS = Channels()


def _tiles(*shapes: tuple[int, int], transposed: bool) -> tuple[Tile, ...]:
    return tuple(Tile(CHANNELS, *shape, transposed=transposed, prefetches=True) for shape in shapes)


_OF_32_REGISTERS = _tiles((8, 2), (7, 2), transposed=True)
_OF_16_REGISTERS = _tiles((6, 2), transposed=True)
#: Of vectors of four outputs more make a tile, and four pixels a square that is transposed.
_OF_NEON = _tiles((8, 3), (7, 2), (4, 4), transposed=True)
#: The tiles of each instruction set. Each pixel is read through a pointer: 8 of them fit.
TILES: dict[str, tuple[Tile, ...]] = {
    "avx512": _OF_32_REGISTERS,
    "avx2": _OF_16_REGISTERS,
    "generic": _OF_16_REGISTERS,
    "neon": _OF_NEON,
}

_STRAIGHT_OF_32_REGISTERS = _tiles(
    (8, 3), (7, 3), (8, 2), (7, 2), (8, 1), (4, 4), (2, 4), (1, 4), transposed=False
)
_STRAIGHT_OF_16_REGISTERS = _tiles((6, 2), (8, 1), (2, 4), (1, 6), transposed=False)
_STRAIGHT_OF_NEON = _tiles(
    (8, 3), (7, 3), (6, 4), (4, 6), (8, 2), (8, 1), (4, 4), (2, 6), (1, 6), transposed=False
)
#: Those whose results stay vectors of outputs.
STRAIGHT_TILES: dict[str, tuple[Tile, ...]] = {
    "avx512": _STRAIGHT_OF_32_REGISTERS,
    "avx2": _STRAIGHT_OF_16_REGISTERS,
    "generic": _STRAIGHT_OF_16_REGISTERS,
    "neon": _STRAIGHT_OF_NEON,
}
#: The most vectors of outputs of a tile.
MOST_VECTORS = max(tile.vectors for tiles in STRAIGHT_TILES.values() for tile in tiles)
