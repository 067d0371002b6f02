"""The dataflow "unpacked" in code: few rows times a matrix, whose weights are read once, where they lie.

Vectors hold the weights of neighbouring outputs. Where a matrix has those side by side,

    for channels, eight at a time:                    # their weights of a task's outputs stay in the cache
        for vector of outputs:
            for channel of them:
                for row:
                    sum[row] = fma(x[row][channel], w[channel][vector], sum[row])

Where it has channels side by side, as a linear layer does, squares are transposed in registers:

    for vector of outputs:
        for channels, as many at a time as a vector has lanes:
            load a vector of channels of each output, and transpose
            for channel of them:
                for row:
                    sum[row] = fma(x[row][channel], column[channel], sum[row])

Either is the order of law 4: there is one tap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Context, Kernel
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value
from outstride.engine.codegen.packing.transpose import transpose
from outstride.engine.codegen.registers import Sums, add_products, read_row, write_row, zero_sums
from outstride.engine.codegen.steps import epilogue
from outstride.engine.codegen.steps.epilogue import Place
from outstride.engine.planner.dataflow import Tile
from outstride.engine.planner.dataflows.unpacked import CHANNELS, TILES
from outstride.engine.planner.dtypes import WeightAxis


def functions(kernel: Kernel) -> list[Function]:
    """What a kernel is made of that reads weights where they lie."""
    axis = kernel.recipe.unpacked
    assert axis is not None, "the recipe of such a kernel says how weights lie"
    tiles = TILES[kernel.recipe.instruction_set]
    made = [made for tile in tiles for made in _TILES[axis](kernel, tile)]
    return [*made, _task(kernel, axis)]


#: What a tile's function is told: its first row and how many there are, the first weight, outputs, sums.
_TILE = (("x", PTR), ("rows", I64), ("w", PTR), ("outputs", I64), ("sums", PTR))


def _task(kernel: Kernel, axis: WeightAxis) -> Function:
    """Some outputs of all rows."""
    k = kernel.function("task", ("scratch", PTR), ("number", I64))
    f, e, a = k.f, k.e, k.a
    sums, number = k.parameters
    first = f.mul(number, a["chunk_outputs"])
    count = f.minimum(a["chunk_outputs"], f.sub(a["outputs"], first))
    w = f.at(a["w_at"], f.mul(first, a["w_stride_m"]), e.storage)
    _SUMS[axis](k, w, count, sums)
    with f.loop(0, count, k.lanes) as output:
        left = f.sub(count, output)
        inside = elements.first_lanes(f, left, k.lanes)
        own = epilogue.load(k, 0, f.add(first, output), left, k.lanes)
        with f.loop(0, a["cells_w"]) as row:
            total = f.load(k.vector, _sum(k, sums, row, output), e.accumulator_bytes)
            place = f.add(f.mul(row, a["y_stride_w"]), f.add(first, output))
            there = f.at(a["y_at"], place, e.storage)
            value = own.apply(k, total, Place(there, inside))
            elements.store_masked(f, e, value, there, k.lanes, inside)
    return f


def _sum(k: Context, sums: Value, row: Operand, output: Operand) -> Value:
    """Where the sum of an output of a row lies in scratch."""
    return k.f.at(sums, k.f.add(k.f.mul(row, k.a["temp_pitch"]), output), k.e.accumulator)


def _each_tile(k: Context, name: str, channel: Operand, w: Value, outputs: Operand, sums: Value) -> None:
    """Call a function of the plan's tile for all rows."""
    f, a = k.f, k.a
    with f.loop(0, a["cells_w"], a["tile_rows"]) as row:
        x = f.at(a["x_at"], f.add(f.mul(row, a["x_stride_w"]), channel), k.e.storage)
        for tile in TILES[k.recipe.instruction_set]:
            with f.when(f.compare("eq", a["tile_rows"], tile.rows)):
                rows = f.sub(a["cells_w"], row)
                f.run(f"{name}_{tile.rows}", k.block, x, rows, w, outputs, _sum(k, sums, row, 0))


def _inputs(k: Context, tile: Tile, x: Value, rows: Operand) -> list[Value]:
    """Where the rows of a tile begin; the last one stands for those beyond it."""
    f, last = k.f, k.f.sub(rows, 1)
    return [f.at(x, f.mul(f.minimum(i, last), k.a["x_stride_w"]), k.e.storage) for i in range(tile.rows)]


def _add(k: Context, sums: Sums, inputs: list[Value], channel: Operand, weights: Value) -> None:
    """The products of a channel: one of each row with a vector of weights."""
    for row, own in zip(sums, inputs, strict=True):
        add_products(k, row, k.f.at(own, channel, k.e.accumulator), [weights])


# -- outputs side by side ------------------------------------------------------------------------------------
def _sum_vectors(k: Context, w: Value, count: Operand, sums: Value) -> None:
    """Some channels at a time, the others one by one."""
    f, e, a = k.f, k.e, k.a
    pixels = f.mul(f.ceil_div(a["cells_w"], a["tile_rows"]), a["tile_rows"])
    with f.loop(0, f.mul(pixels, a["temp_pitch"]), k.lanes) as i:
        f.store(elements.zero(e, k.lanes), f.at(sums, i, e.accumulator), e.accumulator_bytes)
    whole = f.mul(f.div(a["channels"], CHANNELS), CHANNELS)
    for channels, begin, end in ((CHANNELS, 0, whole), (1, whole, a["channels"])):
        with f.loop(begin, end, channels) as channel:
            here = f.at(w, f.mul(channel, a["w_stride_c"]), e.storage)
            _each_tile(k, f"add_{channels}", channel, here, count, sums)


def _vector_tiles(kernel: Kernel, tile: Tile) -> list[Function]:
    return [_vector_tile(kernel, tile, channels) for channels in (CHANNELS, 1)]


def _vector_tile(kernel: Kernel, tile: Tile, channels: int) -> Function:
    """`add_<channels>_<rows>(block, ...)`: the products of some channels are added to sums in scratch."""
    k = kernel.function(f"add_{channels}_{tile.rows}", *_TILE)
    f, e, a, lanes = k.f, k.e, k.a, k.lanes
    x, rows, w, outputs, sums = k.parameters
    inputs = _inputs(k, tile, x, rows)
    lines = [f.at(w, f.mul(channel, a["w_stride_c"]), e.storage) for channel in range(channels)]
    whole = f.mul(f.div(outputs, lanes), lanes)

    def add(output: Operand, inside: Value | None) -> None:
        totals = zero_sums(k, tile.rows, 1)
        for i, row in enumerate(totals):
            read_row(k, _sum(k, sums, i, output), row)
        for channel, line in enumerate(lines):
            here = f.at(line, output, e.storage)
            if inside is None:
                weights = elements.load(f, e, here, lanes)
            else:
                weights = elements.load_masked(f, e, here, lanes, inside)
            _add(k, totals, inputs, channel, weights)
        for i, row in enumerate(totals):
            write_row(k, _sum(k, sums, i, output), row)

    with f.loop(0, whole, lanes) as output:
        add(output, None)
    rest = f.sub(outputs, whole)
    with f.when(f.compare("sgt", rest, 0)):
        add(whole, elements.first_lanes(f, rest, lanes))
    return f


# -- channels side by side -----------------------------------------------------------------------------------
def _sum_squares(k: Context, w: Value, count: Operand, sums: Value) -> None:
    """A tile's outputs after the other."""
    f, e, a = k.f, k.e, k.a
    with f.loop(0, count, a["tile_outputs"]) as output:
        here = f.at(w, f.mul(output, a["w_stride_m"]), e.storage)
        _each_tile(k, "sum", 0, here, f.sub(count, output), f.at(sums, output, e.accumulator))


def _square_tile(kernel: Kernel, tile: Tile) -> list[Function]:
    """`sum_<rows>(block, ...)`: the whole sums of a tile; the last output stands for those beyond it."""
    k = kernel.function(f"sum_{tile.rows}", *_TILE)
    f, e, a, lanes = k.f, k.e, k.a, k.lanes
    x, rows, w, outputs, sums = k.parameters
    inputs, last = _inputs(k, tile, x, rows), f.sub(outputs, 1)
    lines = [f.at(w, f.mul(f.minimum(i, last), a["w_stride_m"]), e.storage) for i in range(lanes)]
    totals = zero_sums(k, tile.rows, 1)
    whole = f.mul(f.div(a["channels"], lanes), lanes)
    with f.loop(0, whole, lanes) as channel:
        square = [elements.load(f, e, f.at(line, channel, e.storage), lanes) for line in lines]
        for i, column in enumerate(transpose(f, square, lanes)):
            _add(k, totals, inputs, f.add(channel, i), column)
    rest = f.sub(a["channels"], whole)
    with f.when(f.compare("sgt", rest, 0)):
        inside = elements.first_lanes(f, rest, lanes)
        square = [elements.load_masked(f, e, f.at(line, whole, e.storage), lanes, inside) for line in lines]
        room = f.variable(f"[{lanes * lanes} x {e.accumulator}]")
        for i, column in enumerate(transpose(f, square, lanes)):
            f.store(column, f.at(room, i * lanes, e.accumulator), e.accumulator_bytes)
        with f.loop(0, rest) as number:
            column = elements.load(f, e, f.at(room, f.mul(number, lanes), e.accumulator), lanes)
            _add(k, totals, inputs, f.add(whole, number), column)
    for i, row in enumerate(totals):
        write_row(k, _sum(k, sums, i, 0), row)
    return [f]


#: What writes the functions of a tile, and the sums of a task, by the axis that weights have side by side.
_TILES: Mapping[WeightAxis, Callable[[Kernel, Tile], list[Function]]] = {
    "output": _vector_tiles, "channel": _square_tile
}  # fmt: skip
_SUMS: Mapping[WeightAxis, Callable[[Context, Value, Operand, Value], None]] = {
    "output": _sum_vectors, "channel": _sum_squares
}  # fmt: skip
