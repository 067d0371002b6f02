"""The dataflow "rows" in code: some rows of one output at once, which share input rows.

With one output channel a loaded vector would serve a single multiply-add. Output row r uses input row t with
kernel row t - r, so that every loaded vector serves all rows of the tile that it reaches:

    for block in channel blocks:
        for kd, t in input planes and rows of the tile:
            for k in kernel columns x channels:       # rows low..high are those with 0 <= t - r < taps_h
                acc[r][j] = fma(w[kd, t - r, k], x[t, k, j], acc[r][j])

Row r still adds its terms in kernel order: t ascends, so t - r does. In a transposed layer the input rows
descend as the taps ascend: its rows are counted from the last one, by a negative pitch.
"""

from __future__ import annotations

from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import Element
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value
from outstride.engine.codegen.loops import TileLoop
from outstride.engine.codegen.registers import (
    add_products,
    read_row,
    vectors_at,
    write_row,
    zero_sums,
)
from outstride.engine.planner.dataflow import Tile

PARAMETERS = (
    ("x", PTR),
    ("w", PTR),
    ("results", PTR),
    ("row_pitch", I64),  # from one row to the next, in the strip and in the results; negative: upwards
    ("full_blocks", I64),
    ("full", PTR),
    ("full_channels", I64),
    ("taps_d", I64),
    ("taps_h", I64),
    ("taps_w", I64),
    ("block_pitch", I64),
    ("rest", PTR),
    ("rest_channels", I64),
    ("resume", I64),
)


def microkernel(tile: Tile, e: Element, lanes: int) -> Function:
    """The function that computes `tile.rows` output rows, `tile.vectors` vectors of each."""
    f = Function(tile.name, PARAMETERS)
    k = Vectors(f, e, lanes)
    (
        x, w, results, row_pitch, full_blocks, full, full_channels, taps_d, taps_h, taps_w, block_pitch,
        rest, rest_channels, resume,
    ) = f.parameters  # fmt: skip
    sums = zero_sums(k, tile.rows, tile.vectors)

    def place(r: int) -> Value:
        return f.at(results, f.mul(row_pitch, r), e.accumulator)

    with f.when(f.compare("ne", resume, 0)):
        for r, row in enumerate(sums):
            read_row(k, place(r), row)
    taps = f.mul(f.mul(taps_d, taps_h), taps_w)
    blocks = f.add(full_blocks, f.word(f.compare("ne", rest_channels, 0)))
    input_rows = f.add(taps_h, tile.rows - 1)
    with f.loop(0, blocks) as block:
        whole = f.compare("slt", block, full_blocks)
        table = f.select(whole, full, rest)
        channels = f.select(whole, full_channels, rest_channels)
        columns = f.mul(taps_w, channels)
        source = f.at(x, f.mul(block, block_pitch), e.accumulator)
        panel = f.at(w, f.mul(f.mul(block, full_channels), taps), e.accumulator)
        with f.loop(0, taps_d) as kd, f.loop(0, input_rows) as t:
            low = f.maximum(0, f.sub(t, f.sub(taps_h, 1)))
            high = f.minimum(t, tile.rows - 1)
            line = f.at(source, f.mul(t, row_pitch), e.accumulator)
            plane = f.mul(kd, taps_h)
            places = f.at(table, f.mul(plane, columns), "i32")
            weights = f.at(panel, f.mul(f.add(plane, t), columns), e.accumulator)
            for case in f.cases(f.add(f.mul(low, tile.rows), high), tile.rows**2):
                first, last = divmod(case, tile.rows)
                reached = {r: sums[r] for r in range(first, last + 1)}
                if reached:
                    _columns(k, tile, line, weights, places, columns, reached)
    # What a row writes beyond its end is the beginning of the row below, which is written later.
    with f.when(f.compare("sgt", row_pitch, 0)):
        for r, row in enumerate(sums):
            write_row(k, place(r), row)
    with f.when(f.compare("slt", row_pitch, 0)):
        for r, row in reversed(list(enumerate(sums))):
            write_row(k, place(r), row)
    return f


def _columns(
    k: Vectors, tile: Tile, line: Value, weights: Value, places: Value, columns: Operand,
    rows: dict[int, list[Value]],
) -> None:  # fmt: skip
    """One input row: every kernel column and channel, into the rows that it reaches."""
    f, e = k.f, k.e
    panels = {r: f.at(weights, f.mul(f.sub(0, columns), r), e.accumulator) for r in rows}
    with f.loop(0, columns) as column:
        loaded = vectors_at(k, tile.vectors, f.at(line, f.load_i32(places, column), e.accumulator))
        for r, row in rows.items():
            add_products(k, row, f.at(panels[r], column, e.accumulator), loaded)


def over_row_groups(loop: TileLoop) -> None:
    """Groups of rows, and along them the tile's vectors, from the right.

    What a vector writes beyond the end of its row is the beginning of the next, which is then still to
    come.
    """
    k, box, g = loop.k, loop.box, loop.g
    f, a = k.f, k.a
    across = f.ceil_div(box.count[3], a["tile_pixels"])
    with (
        f.loop(0, loop.times("rows", box.count[0])) as n,
        f.loop(0, box.count[1]) as d,
        f.loop(0, box.count[2], a["tile_rows"]) as h,
        f.loop(0, across) as i,
    ):
        q = f.mul(f.sub(f.sub(across, 1), i), a["tile_pixels"])
        start = f.add(f.mul(n, a["image_pitch"]), f.mul(d, a["depth_pitch"]))
        first = f.select(f.compare("sgt", a["row_way"], 0), h, f.sub(f.add(h, a["tile_rows"]), 1))
        place = f.add(start, f.add(f.mul(first, a["strip_w"]), q))
        x, out = (f.at(base, place, k.e.accumulator) for base in (loop.strip, loop.row))
        loop.prefetch()
        loop.call(
            x, loop.w, out, f.mul(a["row_way"], a["strip_w"]), *loop.blocks, g["taps_d"], g["taps_h"],
            g["taps_w"], *loop.rest,
        )  # fmt: skip
