"""Squares of accumulators between registers, where a lane is an output, and memory, where a row is one.

They are functions, called once a square by every tile, so that the shuffles are compiled once.
"""

from __future__ import annotations

from collections.abc import Sequence

from outstride.engine.codegen import elements
from outstride.engine.codegen.elements import Element
from outstride.engine.codegen.ir import I64, PTR, Function, vector_type
from outstride.engine.codegen.transpose import transpose
from outstride.engine.planner.tiles import Tile


def side_of(tile: Tile, lanes: int) -> int:
    """Pixels of a tile's squares: the least power of two that holds its pixels, at most a vector's lanes."""
    return min(lanes, 1 << (tile.rows - 1).bit_length())


def square_functions(tiles: Sequence[Tile], e: Element, lanes: int) -> list[Function]:
    """The functions that these tiles call."""
    sides = sorted({side_of(tile, lanes) for tile in tiles if tile.by_pixel and not tile.outputs_together})
    return [f for side in sides for f in (_write(side, e, lanes), _read(side, e, lanes))]


def _write(side: int, e: Element, lanes: int) -> Function:
    """`write_square(results, pitch, pixels)`: lane l of pixel p goes to results[l * pitch + p]."""
    vector, part = (vector_type(n, e.accumulator) for n in (lanes, side))
    pixels = [(f"pixel{i}", vector) for i in range(side)]
    f = Function(f"write_square_{side}", [("results", PTR), ("pitch", I64), *pixels], internal=True)
    results, pitch, *held = f.parameters
    for r, row in enumerate(transpose(f, held, lanes)):
        # Row r of the transposed squares: the results of lanes r, r + side, ...
        for first in range(0, lanes, side):
            kept = elements.mask([first + i for i in range(side)])
            value = f.emit(part, f"shufflevector {vector} {row.name}, {vector} poison, {kept}")
            place = f.at(results, f.mul(pitch, r + first), e.accumulator)
            f.store(value, place, e.accumulator_bytes)
    return f


def _read(side: int, e: Element, lanes: int) -> Function:
    """`read_square(results, pitch, target)`: the same back, pixel p to vector p of `target`."""
    head = [("results", PTR), ("pitch", I64), ("target", PTR)]
    f = Function(f"read_square_{side}", head, internal=True)
    results, pitch, target = f.parameters
    vector, part = (vector_type(n, e.accumulator) for n in (lanes, side))
    rows = []
    for r in range(side):
        places = [f.at(results, f.mul(pitch, r + first), e.accumulator) for first in range(0, lanes, side)]
        parts = [f.load(part, place, e.accumulator_bytes) for place in places]
        names = f"{part} {parts[0].name}, {part} {parts[-1].name}"
        joined = elements.mask(list(range(lanes)))
        rows.append(f.emit(vector, f"shufflevector {names}, {joined}") if len(parts) > 1 else parts[0])
    for p, value in enumerate(transpose(f, rows, lanes)):
        f.store(value, f.at(target, p * lanes, e.accumulator), e.accumulator_bytes)
    return f
