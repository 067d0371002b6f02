"""The module of all register tiles of a dtype: compiled once, called by every loop nest through pointers."""

from __future__ import annotations

from collections.abc import Sequence

from outstride.engine.codegen.elements import ELEMENTS
from outstride.engine.codegen.ir import module
from outstride.engine.codegen.microkernel import microkernel
from outstride.engine.codegen.rowkernel import row_kernel
from outstride.engine.codegen.turning import square_functions
from outstride.engine.planner.machine import InstructionSet
from outstride.engine.planner.tiles import Tile


def tiles_source(accumulator: str, isa: InstructionSet, shapes: Sequence[Tile]) -> str:
    """The LLVM IR of register tiles that sum in `accumulator` ("float32" or "float64")."""
    e = ELEMENTS[accumulator]
    lanes = isa.lanes(e.accumulator_bytes)
    tiles = [(row_kernel if tile.dataflow == "rows" else microkernel)(tile, e, lanes) for tile in shapes]
    return module([*square_functions(shapes, e, lanes), *tiles], f"outstride tiles_{accumulator}_{isa.name}")
