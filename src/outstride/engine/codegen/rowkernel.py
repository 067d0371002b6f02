"""The register tile of layers with few outputs: some output rows at once, which share input rows.

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

from outstride.engine.codegen.elements import Element, broadcast
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, vector_type
from outstride.engine.codegen.microkernel import fused, move_row, vectors_at, zero_accumulators
from outstride.engine.planner.tiles import Tile

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


def row_kernel(tile: Tile, e: Element, lanes: int) -> Function:
    """The function that computes `tile.rows` output rows, `tile.vectors` vectors of each."""
    f = Function(tile.name, PARAMETERS)
    (
        x, w, results, row_pitch, full_blocks, full, full_channels, taps_d, taps_h, taps_w, block_pitch,
        rest, rest_channels, resume,
    ) = f.parameters  # fmt: skip
    accumulators = zero_accumulators(f, e, tile.rows, tile.vectors, lanes)

    def move(*, write: bool, way: int = 1) -> None:
        for r, row in list(enumerate(accumulators))[::way]:
            move_row(f, e, lanes, f.at(results, f.mul(row_pitch, r), e.accumulator), row, write=write)

    with f.when(f.compare("ne", resume, 0)):
        move(write=False)
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
                rows = {r: accumulators[r] for r in range(first, last + 1)}
                if rows:
                    _columns(f, e, tile, lanes, line, weights, places, columns, rows)
    # What a row writes beyond its end is the beginning of the row below, which is written later.
    with f.when(f.compare("sgt", row_pitch, 0)):
        move(write=True)
    with f.when(f.compare("slt", row_pitch, 0)):
        move(write=True, way=-1)
    return f


def _columns(
    f: Function, e: Element, tile: Tile, lanes: int, line: Value, weights: Value, places: Value,
    columns: Operand, rows: dict[int, list[Value]],
) -> None:  # fmt: skip
    """One input row: every kernel column and channel, into the rows that it reaches."""
    vector = vector_type(lanes, e.accumulator)
    panels = {r: f.at(weights, f.mul(f.sub(0, columns), r), e.accumulator) for r in rows}
    with f.loop(0, columns) as k:
        loaded = vectors_at(f, e, tile.vectors, lanes, f.at(line, f.load_i32(places, k), e.accumulator))
        for r, row in rows.items():
            scalar = f.load(e.accumulator, f.at(panels[r], k, e.accumulator), e.accumulator_bytes)
            spread = broadcast(f, scalar, lanes)
            for a, v in zip(row, loaded, strict=True):
                f.set(a, fused(f, e, lanes, spread, v, f.get(a, vector)))
