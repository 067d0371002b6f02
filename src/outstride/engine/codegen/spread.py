"""Strided transposed layers of one channel a group: inputs are read where they lie, outputs interleaved.

A cell is the outputs of an input element. A register tile is some rows of cells by some vectors of cells,
with an accumulator for every phase of each, and which input meets which of them is written out:

    for u in input rows of the tile:
        for o in input offsets along the width:
            vectors = x[u, o...]               # lanes beyond the input are +0 and not read
            for (r, kh) in output rows that reach u, (p, kw) in phases that read o:
                acc[r][p] = fma(w[kh, kw], vectors, acc[r][p])

Input rows and offsets descend, so the terms of an output come by ascending kernel row and column: the order
of law 4. In the end the phases of a vector of cells are interleaved in registers: neighbouring outputs.
"""

from __future__ import annotations

from outstride.engine.codegen import elements
from outstride.engine.codegen.arguments import INDEX
from outstride.engine.codegen.bands import (
    AHEAD_BYTES,
    AHEAD_BYTES_OF_A_ROW,
    TILE,
    store_row,
    stored_past_caches,
    task_function,
    tiles_of_row,
    vectors_across,
)
from outstride.engine.codegen.box import BOX, Box
from outstride.engine.codegen.elements import Element
from outstride.engine.codegen.ir import PTR, Function, Value, vector_type
from outstride.engine.codegen.microkernel import fused, zero_accumulators
from outstride.engine.codegen.results import bias_of, interleave
from outstride.engine.codegen.tasks import read_arguments
from outstride.engine.planner.recipe import Recipe
from outstride.engine.planner.tiles import Tile
from outstride.engine.planner.windows import Spread


def spread_functions(recipe: Recipe, spread: Spread, e: Element, lanes: int) -> list[Function]:
    """`survey`, the tiles and `task` of a layer that makes several outputs of an input element."""
    each = spread.masks(recipe.in_step, spread.kernel_size[1])
    return [
        _survey(spread, lanes, each),
        *(_tile(spread, e, lanes, tile) for tile in spread.tiles),
        task_function(recipe, spread, e, lanes, lambda *_: each),
    ]


def _survey(spread: Spread, lanes: int, each: int) -> Function:
    """`survey(block, scratch, box)`: which lanes of a row exist, as bits in the order in which they are read.

    Tiles of a row one behind the other; in each the offsets with their vectors, and at last the vectors of
    outputs.
    """
    f = Function("survey", [("block", PTR), ("scratch", PTR), *BOX], internal=True, rare=True)
    block, scratch, *numbers = f.parameters
    a = read_arguments(f, block, INDEX)
    box, step = Box.of(numbers), spread.stride[1]
    offsets = [offset for offset, _ in spread.columns]
    begin = f.mul(box.start[3], step)
    size = f.minimum(f.mul(box.count[3], step), f.sub(a["out_size_w"], begin))
    with tiles_of_row(f, a, vectors_across(f, box, lanes)) as (q, vectors):
        masks = f.at(scratch, f.mul(q, each), f"i{lanes}")
        with f.loop(0, vectors) as j:
            column = f.mul(f.add(q, j), lanes)
            start = f.add(box.start[3], column)
            for i, offset in enumerate(offsets):
                inside = elements.lanes_within(f, f.add(start, offset), a["in_size_w"], lanes)
                elements.keep_mask(f, inside, masks, f.add(f.mul(vectors, i), j), lanes)
            made = f.at(masks, f.mul(vectors, len(offsets)), f"i{lanes}")
            for k in range(step):
                inside = elements.lanes_within(f, f.add(f.mul(column, step), k * lanes), size, lanes)
                elements.keep_mask(f, inside, made, f.add(f.mul(j, step), k), lanes)
    return f


def _tile(spread: Spread, e: Element, lanes: int, tile: Tile) -> Function:
    """`<tile>(...)`: rows of cells of a plane, `tile.rows` at a time, as many vectors as the tile has."""
    f = Function(tile.name, TILE, internal=True)
    block, x, w, y, bias, masks, plane, first_row, rows = f.parameters
    a = read_arguments(f, block, INDEX)
    high, wide = spread.stride
    vector, vectors = vector_type(lanes, e.accumulator), tile.vectors
    added = elements.broadcast(f, bias_of(f, e, bias, 0, 1, 1), lanes)
    deep = f.add(plane, a["low_d"])
    sheet = f.at(x, f.mul(deep, a["x_stride_d"]), e.storage)
    exists = f.compare("ult", deep, a["in_size_d"])
    present = f.at(masks, len(spread.columns) * vectors, f"i{lanes}")
    # A row that is alone is made beside the output, and stored past the caches as a whole.
    past: Value | None = None
    if not spread.alone:
        past = stored_past_caches(f, a, lanes, f.at(present, vectors * wide - 1, f"i{lanes}"))
    with f.loop(0, rows, tile.rows) as h:
        sums = zero_accumulators(f, e, tile.rows * high, wide * vectors, lanes)
        top = f.add(first_row, h)
        for at, reached in spread.rows(tile.rows):
            u = f.add(top, at)
            with f.when(f.both(exists, f.compare("ult", u, a["in_size_h"]))):
                line = f.at(sheet, f.mul(u, a["x_stride_h"]), e.storage)
                _line(f, spread, e, lanes, line, w, masks, sums, reached)
        for r, row in enumerate(sums):
            out = f.add(f.mul(top, high), r)
            made = f.compare("slt", r // high, f.sub(rows, h))
            with f.when(f.both(made, f.compare("slt", out, a["out_size_h"]))):
                values = []
                for j in range(vectors):
                    parts = [f.get(row[p * vectors + j], vector) for p in range(wide)]
                    values += [elements.plus(f, value, added) for value in interleave(f, parts, lanes)]
                target = f.at(y, f.mul(out, a["y_stride_h"]), e.storage)
                store_row(f, e, lanes, values, target, present, past, apart=True)
    return f


def _line(
    f: Function, spread: Spread, e: Element, lanes: int, line: Value, w: Value, masks: Value,
    sums: list[list[Value]], reached: list[tuple[int, int]],
) -> None:  # fmt: skip
    """One input row: every offset along the width, into the rows (r, kh) that reach it."""
    vectors = len(sums[0]) // spread.stride[1]
    ahead = AHEAD_BYTES_OF_A_ROW if spread.alone else AHEAD_BYTES
    vector = vector_type(lanes, e.accumulator)
    for i, (offset, users) in enumerate(spread.columns):
        read = []
        for j in range(vectors):
            inside = elements.kept_mask(f, masks, i * vectors + j, lanes)
            place = f.at(line, offset + j * lanes, e.storage)
            read.append(elements.load_masked(f, e, place, lanes, inside))
            if i == 0:
                f.prefetch(f.at(place, ahead, "i8"))
        for r, kh in reached:
            for p, kw in users:
                weight = f.at(w, spread.places[kh, kw], e.accumulator)
                factor = elements.broadcast(f, f.load(e.accumulator, weight, e.accumulator_bytes), lanes)
                for total, v in zip(sums[r][p * vectors :], read, strict=False):
                    f.set(total, fused(f, e, lanes, factor, v, f.get(total, vector)))
