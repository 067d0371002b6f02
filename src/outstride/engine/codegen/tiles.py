"""The module of all register tiles of a dtype: compiled once, called by every loop nest through pointers."""

from __future__ import annotations

from collections.abc import Sequence

from outstride.engine.codegen.dataflows import MICROKERNELS
from outstride.engine.codegen.dataflows.channels import square_functions
from outstride.engine.codegen.elements import ELEMENTS
from outstride.engine.codegen.ir import module
from outstride.engine.planner.dataflow import Tile
from outstride.engine.planner.machine import InstructionSet


def tiles_source(accumulator: str, isa: InstructionSet, tiles: Sequence[Tile]) -> str:
    """The LLVM IR of register tiles that sum in `accumulator` ("float32" or "float64")."""
    e = ELEMENTS[accumulator]
    lanes = isa.lanes(e.accumulator_bytes)
    functions = [MICROKERNELS[tile.dataflow.name](tile, e, lanes) for tile in tiles]
    squares = square_functions(tiles, e, lanes)
    return module([*squares, *functions], f"outstride tiles_{accumulator}_{isa.name}")
