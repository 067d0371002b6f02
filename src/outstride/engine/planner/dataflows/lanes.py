"""The dataflow of depthwise layers that are contiguous along the channels: vectors hold inputs and weights.

Each output has an input channel of its own, so a term is a product of vectors, lane by lane.
"""

from __future__ import annotations

from collections.abc import Sequence

from outstride.engine.planner.dataflow import Candidate, Tile
from outstride.engine.planner.dataflows.listed import Listed
from outstride.engine.planner.machine import Machine
from outstride.engine.planner.outer_products import outer_product_cycles
from outstride.engine.planner.problem import Problem


class Lanes(Listed):
    """Vectors hold neighbouring channels of inputs, and their weights."""

    name = "lanes"
    operands = "inputs and weights in lanes"

    def tiles(self, problem: Problem, machine: Machine) -> tuple[Tile, ...]:
        return TILES[machine.instruction_set.name] if problem.depthwise else ()

    def outputs_together(self, tile: Tile) -> bool:
        del tile
        return True

    def term_cycles(self, candidate: Candidate, row_tiles: Sequence[int]) -> float:
        del row_tiles
        tile = candidate.tile
        return outer_product_cycles(candidate, loads=tile.vectors + tile.rows * tile.vectors, broadcasts=0)


LANES = Lanes()
#: The tiles of each instruction set.
TILES: dict[str, tuple[Tile, ...]] = {
    "avx512": (Tile(LANES, 8, 2),),
    "avx2": (Tile(LANES, 6, 2),),
    "generic": (Tile(LANES, 6, 2),),
    "neon": (Tile(LANES, 8, 2),),
}
