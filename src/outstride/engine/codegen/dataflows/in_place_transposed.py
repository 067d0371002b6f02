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
from outstride.engine.codegen.box import BOX, Box
from outstride.engine.codegen.context import Context, Kernel
from outstride.engine.codegen.dataflows.in_place_tasks import (
    PREFETCH_BYTES,
    PREFETCH_BYTES_OF_A_ROW,
    finished,
    is_made_apart,
    store_row,
    stored_nontemporally,
    task_function,
    tile_function,
    tiles_of_row,
    vectors_across,
)
from outstride.engine.codegen.interleave import interleave
from outstride.engine.codegen.ir import PTR, Function, Value
from outstride.engine.codegen.registers import Sums, add_products, zero_sums
from outstride.engine.codegen.steps import epilogue, prologue
from outstride.engine.planner.dataflow import Tile
from outstride.engine.planner.dataflows.in_place import IN_PLACE
from outstride.engine.planner.unrolled import UnrolledPhases


def transposed_functions(kernel: Kernel, unrolled: UnrolledPhases) -> list[Function]:
    """`survey`, the tiles and `task` of a layer that makes several outputs of an input element."""
    each = unrolled.masks(kernel.recipe.in_step, unrolled.kernel_size[1])
    return [
        _survey(kernel, unrolled, each),
        *(_tile(kernel, unrolled, tile) for tile in IN_PLACE.tiles_of(unrolled)),
        task_function(kernel, unrolled, lambda _: each),
    ]


def _survey(kernel: Kernel, unrolled: UnrolledPhases, each: int) -> Function:
    """`survey(block, scratch, box)`: which lanes of a row exist, as bits in the order in which they are read.

    Tiles of a row one behind the other; in each the offsets with their vectors, and at last the vectors of
    outputs.
    """
    k = kernel.function("survey", ("scratch", PTR), *BOX, rare=True)
    f, a, lanes = k.f, k.a, k.lanes
    scratch, *numbers = k.parameters
    box, step = Box.of(numbers), unrolled.stride[1]
    offsets = [offset for offset, _ in unrolled.columns]
    begin = f.mul(box.start[3], step)
    size = f.minimum(f.mul(box.count[3], step), f.sub(a["out_size_w"], begin))
    with tiles_of_row(k, vectors_across(k, box)) as (q, vectors):
        masks = f.at(scratch, f.mul(q, each), f"i{lanes}")
        with f.loop(0, vectors) as j:
            column = f.mul(f.add(q, j), lanes)
            start = f.add(box.start[3], column)
            for i, offset in enumerate(offsets):
                inside = elements.lanes_within(f, f.add(start, offset), a["in_size_w"], lanes)
                elements.keep_mask(f, inside, masks, f.add(f.mul(vectors, i), j), lanes)
            made = f.at(masks, f.mul(vectors, len(offsets)), f"i{lanes}")
            for phase in range(step):
                inside = elements.lanes_within(f, f.add(f.mul(column, step), phase * lanes), size, lanes)
                elements.keep_mask(f, inside, made, f.add(f.mul(j, step), phase), lanes)
    return f


def _tile(kernel: Kernel, unrolled: UnrolledPhases, tile: Tile) -> Function:
    """`<tile>(...)`: rows of cells of a plane, `tile.rows` at a time, as many vectors as the tile has."""
    k = tile_function(kernel, tile)
    f, e, a, lanes = k.f, k.e, k.a, k.lanes
    x, w, y, channel, masks, plane, first_row, rows = k.parameters
    high, wide = unrolled.stride
    vectors = tile.vectors
    loaded = epilogue.load(k, channel, 0, 1, 1).broadcast(k)
    deep = f.add(plane, a["low_d"])
    sheet = f.at(x, f.mul(deep, a["x_stride_d"]), e.storage)
    exists = f.compare("ult", deep, a["in_size_d"])
    present = f.at(masks, len(unrolled.columns) * vectors, f"i{lanes}")
    # A row that is alone is made beside the output, and goes by nontemporal stores as a whole.
    nontemporal: Value | None = None
    if not is_made_apart(k, unrolled):
        nontemporal = stored_nontemporally(k, f.at(present, vectors * wide - 1, f"i{lanes}"))
    with f.loop(0, rows, tile.rows) as h:
        sums = zero_sums(k, tile.rows * high, wide * vectors)
        top = f.add(first_row, h)
        for at, reached in unrolled.rows(tile.rows):
            u = f.add(top, at)
            with f.when(f.both(exists, f.compare("ult", u, a["in_size_h"]))):
                line = f.at(sheet, f.mul(u, a["x_stride_h"]), e.storage)
                _line(k, unrolled, line, w, masks, sums, reached)
        for r, row in enumerate(sums):
            out = f.add(f.mul(top, high), r)
            made = f.compare("slt", r // high, f.sub(rows, h))
            with f.when(f.both(made, f.compare("slt", out, a["out_size_h"]))):
                totals = []
                for j in range(vectors):
                    parts = [f.get(row[p * vectors + j], k.vector) for p in range(wide)]
                    totals += interleave(f, parts, lanes)
                target = f.at(y, f.mul(out, a["y_stride_h"]), e.storage)
                values = finished(k, loaded, totals, target, present)
                store_row(k, values, target, present, nontemporal, apart=True)
    return f


def _line(
    k: Context, unrolled: UnrolledPhases, line: Value, w: Value, masks: Value, sums: Sums,
    reached: list[tuple[int, int]],
) -> None:  # fmt: skip
    """One input row: every offset along the width, into the rows (r, kh) that reach it."""
    f, e, lanes = k.f, k.e, k.lanes
    vectors = len(sums[0]) // unrolled.stride[1]
    further = PREFETCH_BYTES_OF_A_ROW if unrolled.alone else PREFETCH_BYTES
    for i, (offset, users) in enumerate(unrolled.columns):
        read = []
        for j in range(vectors):
            inside = elements.kept_mask(f, masks, i * vectors + j, lanes)
            place = f.at(line, offset + j * lanes, e.storage)
            read.append(prologue.taken(k, elements.load_masked(f, e, place, lanes, inside), lanes))
            if i == 0:
                f.prefetch(f.at(place, further, "i8"))
        for r, kh in reached:
            for p, kw in users:
                weight = f.at(w, unrolled.places[kh, kw], e.accumulator)
                add_products(k, sums[r][p * vectors : (p + 1) * vectors], weight, read)
