"""The register tile: one outer product per term, in the order of law 4.

    for block in channel blocks:              # `full` long, the last one `rest` long
        for first, last in runs of taps:      # but for those outside the input for the whole box
            for k in taps x channels of run:  # offsets come from a table, weights stream in this very order
                acc[i][j] = fma(broadcast_i, vector_j, acc[i][j])

In the dataflow "pixels" the vectors are inputs (contiguous along the width) and the broadcasts are weights;
in "channels" it is the other way round and each broadcast reads its own pixel; in "lanes" each pixel reads a
vector, whose lanes are the input channels of the outputs. Either way an output element sees the same chain of
fused multiply-adds.
"""

from __future__ import annotations

from itertools import product

from outstride.engine.codegen.elements import Element, broadcast, plus, zero
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, vector_type
from outstride.engine.codegen.turning import side_of
from outstride.engine.planner.tiles import Tile

#: Parameters of both microkernels.
PARAMETERS = (
    ("x", PTR),  # first input of the tile, in the packed strip
    (
        "pixels",
        PTR,
    ),  # "channels" and "lanes": i32 offsets of the tile's pixels in the strip; listed: and in the results
    ("w", PTR),  # packed weights of the tile
    ("results", PTR),  # accumulators of the tile, a row per output channel
    ("results_pitch", I64),
    ("full_blocks", I64),
    ("full", PTR),
    ("full_channels", I64),
    ("taps", I64),
    ("runs", PTR),  # i64 pairs of taps [first, last)
    ("run_count", I64),
    ("block_pitch", I64),  # strip elements from one channel block to the next
    ("rest", PTR),
    ("rest_channels", I64),  # 0: no partial block
    ("resume", I64),  # 0: start from +0; 1: go on from the results
    ("bias", PTR),  # "pixels": what is added to every row in the end; null: nothing
    ("ahead", I64),  # with weights far away: elements from each to the one that memory is asked for
)


def microkernel(tile: Tile, e: Element, lanes: int, *, listed: bool = False) -> Function:
    """The function that computes a tile; with `listed` its rows of results are listed as pixels are."""
    f = Function(tile.name, PARAMETERS)
    (
        x, pixels, w, results, pitch, full_blocks, full, full_channels, taps, runs, run_count, block_pitch,
        rest, rest_channels, resume, bias, ahead,
    ) = f.parameters  # fmt: skip
    along = tile.dataflow == "pixels"
    accumulators = zero_accumulators(f, e, tile.rows, tile.vectors, lanes)
    beside = pixels
    if listed:
        lanes_of = _listed_rows
    elif tile.outputs_together:
        lanes_of = _pixel_vectors
    elif along:
        lanes_of = _row_vectors
    else:
        lanes_of = _row_lanes
        beside = f.variable(f"[{tile.vectors * side_of(tile, lanes) * lanes} x {e.accumulator}]")
    with f.when(f.compare("ne", resume, 0)):
        lanes_of(f, e, tile, lanes, results, pitch, beside, accumulators, write=False)

    bases = [x] if along else [f.at(x, f.load_i32(pixels, i), e.accumulator) for i in range(tile.rows)]
    weight = f.variable(PTR)
    width = tile.rows if along else tile.vectors * lanes
    block_weights = f.mul(f.mul(full_channels, taps), width)
    blocks = f.add(full_blocks, f.word(f.compare("ne", rest_channels, 0)))
    with f.loop(0, blocks) as block:
        whole = f.compare("slt", block, full_blocks)
        table = f.select(whole, full, rest)
        channels = f.select(whole, full_channels, rest_channels)
        start = f.mul(block, block_pitch)
        here = [f.at(b, start, e.accumulator) for b in bases]
        panel = f.at(w, f.mul(block, block_weights), e.accumulator)
        with f.loop(0, run_count) as run:
            first, last = (f.mul(f.load_i64(runs, f.add(f.mul(run, 2), i)), channels) for i in range(2))
            f.set(weight, f.at(panel, f.mul(first, width), e.accumulator))
            with f.loop(first, last) as k:
                if tile.far:
                    later = f.at(f.get(weight, PTR), ahead, e.accumulator)
                    for j in range(tile.vectors):
                        f.prefetch(f.at(later, j * lanes, e.accumulator))
                _term(f, tile, e, lanes, weight, here, f.load_i32(table, k), accumulators, width)
    if along and not listed:
        with f.when(f.emit("i1", f"icmp ne ptr {bias.name}, null")):
            _add_bias(f, e, lanes, bias, accumulators)
    lanes_of(f, e, tile, lanes, results, pitch, beside, accumulators, write=True)
    return f


def _add_bias(f: Function, e: Element, lanes: int, bias: Value, accumulators: list[list[Value]]) -> None:
    for i, row in enumerate(accumulators):
        scalar = f.load(e.accumulator, f.at(bias, i, e.accumulator), e.accumulator_bytes)
        spread = broadcast(f, scalar, lanes)
        for a in row:
            f.set(a, plus(f, f.get(a, spread.type), spread))


def _term(
    f: Function, tile: Tile, e: Element, lanes: int, weight: Value, here: list[Value], offset: Value,
    accumulators: list[list[Value]], width: int,
) -> None:  # fmt: skip
    """One term of every sum of the tile."""
    vector = vector_type(lanes, e.accumulator)
    wk = f.get(weight, PTR)
    if tile.dataflow == "pixels":
        vectors = vectors_at(f, e, tile.vectors, lanes, f.at(here[0], offset, e.accumulator))
        scalars = [(wk, i) for i in range(tile.rows)]
    else:
        vectors = vectors_at(f, e, tile.vectors, lanes, wk)
        scalars = [(f.at(b, offset, e.accumulator), 0) for b in here]
    if tile.dataflow == "lanes":
        for row, (pointer, _) in zip(accumulators, scalars, strict=True):
            for a, x, v in zip(row, vectors_at(f, e, tile.vectors, lanes, pointer), vectors, strict=True):
                f.set(a, fused(f, e, lanes, x, v, f.get(a, vector)))
        f.set(weight, f.at(wk, width, e.accumulator))
        return
    for row, (pointer, i) in zip(accumulators, scalars, strict=True):
        scalar = f.load(e.accumulator, f.at(pointer, i, e.accumulator), e.accumulator_bytes)
        spread = broadcast(f, scalar, lanes)
        for a, v in zip(row, vectors, strict=True):
            f.set(a, fused(f, e, lanes, spread, v, f.get(a, vector)))
    f.set(weight, f.at(wk, width, e.accumulator))


def fused(f: Function, e: Element, lanes: int, a: Value, b: Value, c: Value) -> Value:
    """fma(a, b, c), rounded once."""
    return f.call(c.type, f"llvm.fma.{'v' + str(lanes) if lanes > 1 else ''}{e.mangled}", a, b, c)


def zero_accumulators(f: Function, e: Element, rows: int, columns: int, lanes: int) -> list[list[Value]]:
    """Variables for the sums of a tile, all +0."""
    start = zero(e, lanes)
    return [[f.variable(start.type, start) for _ in range(columns)] for _ in range(rows)]


def vectors_at(f: Function, e: Element, count: int, lanes: int, pointer: Value) -> list[Value]:
    """`count` neighbouring vectors."""
    vector = vector_type(lanes, e.accumulator)
    return [
        f.load(vector, f.at(pointer, j * lanes, e.accumulator), e.accumulator_bytes) for j in range(count)
    ]


def _row_vectors(
    f: Function, e: Element, tile: Tile, lanes: int, results: Value, pitch: Operand, beside: Value,
    accumulators: list[list[Value]], *, write: bool,
) -> None:  # fmt: skip
    """Move the tile between registers and results when a vector lies along a row of results."""
    del tile, beside  # rows of results lie `pitch` apart, as many as there are accumulators
    for i, row in enumerate(accumulators):
        move_row(f, e, lanes, f.at(results, f.mul(i, pitch), e.accumulator), row, write=write)


def _pixel_vectors(
    f: Function, e: Element, tile: Tile, lanes: int, results: Value, pitch: Operand, beside: Value,
    accumulators: list[list[Value]], *, write: bool,
) -> None:  # fmt: skip
    """The same when the results of a pixel lie side by side, pixel by pixel."""
    del pitch, beside
    for i, row in enumerate(accumulators):
        start = f.at(results, i * tile.vectors * lanes, e.accumulator)
        move_row(f, e, lanes, start, row, write=write)


def _listed_rows(
    f: Function, e: Element, tile: Tile, lanes: int, results: Value, pitch: Operand, beside: Value,
    accumulators: list[list[Value]], *, write: bool,
) -> None:  # fmt: skip
    """The same when each broadcast operand has a row of results of its own, listed behind the operands."""
    del pitch  # the list says where rows lie
    for i, row in enumerate(accumulators):
        start = f.at(results, f.load_i32(beside, tile.rows + i), e.accumulator)
        move_row(f, e, lanes, start, row, write=write)


def move_row(f: Function, e: Element, lanes: int, start: Value, row: list[Value], *, write: bool) -> None:
    """Move a row of accumulators to memory or back."""
    vector = vector_type(lanes, e.accumulator)
    for j, a in enumerate(row):
        pointer = f.at(start, j * lanes, e.accumulator)
        if write:
            f.store(f.get(a, vector), pointer, e.accumulator_bytes)
        else:
            f.set(a, f.load(vector, pointer, e.accumulator_bytes))


def _row_lanes(
    f: Function, e: Element, tile: Tile, lanes: int, results: Value, pitch: Operand, beside: Value,
    accumulators: list[list[Value]], *, write: bool,
) -> None:  # fmt: skip
    """The same when each lane belongs to a row of results of its own: turned, a square of pixels at a time.

    A square reaches over the tile's last pixel to the next tile's first ones. What lay there is kept in
    the room `beside` and put back, for the next tile goes on from it.
    """
    side, vector = side_of(tile, lanes), vector_type(lanes, e.accumulator)
    for j, first in product(range(tile.vectors), range(0, tile.rows, side)):
        start = f.at(results, f.add(f.mul(pitch, j * lanes), first), e.accumulator)
        held = [row[j] for row in accumulators[first : first + side]]
        square = f.at(beside, j * side * lanes, e.accumulator)
        places = [f.at(square, p * lanes, e.accumulator) for p in range(side)]
        if write:
            kept = [f.load(vector, place, e.accumulator_bytes) for place in places[len(held) :]]
            f.run(f"write_square_{side}", start, pitch, *(f.get(a, vector) for a in held), *kept)
        else:
            f.run(f"read_square_{side}", start, pitch, square)
            for a, place in zip(held, places, strict=False):
                f.set(a, f.load(vector, place, e.accumulator_bytes))
