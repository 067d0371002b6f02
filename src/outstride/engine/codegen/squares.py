"""Packing weights in vectors: in squares where a row's weights lie in kernel order, or rows side by side.

A convolution's row is contiguous over channels and kernel positions, a transposed convolution's over the
kernel positions of each channel. Either way a vector of each of 16 rows is loaded, the square transposed, and
vector j then holds one (channel, kernel position) of all rows, which is what the microkernel reads in one go.
Of a matrix, whose kernel has one position, rows may lie side by side: then vectors are moved as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import ELEMENTS
from outstride.engine.codegen.ir import I64, Operand, Value
from outstride.engine.codegen.transpose import transpose


@dataclass(frozen=True)
class Panel(Vectors):
    """The weights of a channel block for a tile's rows, while they are packed.

    `a` and `g` are the numbers of the argument block and of the phase group. Rows from `first_row` on, as far
    as there are `rows`, and `count` channels from `begin` on go from `source` to `target`.
    """

    a: dict[str, Value]
    g: dict[str, Value]
    source: Value
    target: Value
    first_row: Operand
    rows: Operand
    begin: Operand
    count: Operand


def pack_squares(p: Panel) -> None:
    """Emit the loops over squares of rows by weights."""
    f, e, a, lanes = p.f, p.e, p.a, p.lanes
    # The transposed square waits in memory, so that what becomes of a column is written, and compiled, once.
    square = f.variable(f"[{lanes * lanes} x {e.accumulator}]")
    joined = f.compare("eq", a["w_stride_c"], a["kernel"])
    length = f.select(joined, f.mul(p.count, a["kernel"]), a["kernel"])
    segments = f.select(joined, 1, p.count)
    with (
        f.loop(0, a["width"], lanes) as r,
        f.loop(0, segments) as segment,
        f.loop(0, length, lanes) as first,
    ):
        start = f.add(f.mul(f.add(p.begin, segment), a["w_stride_c"]), first)
        vectors = []
        inside = elements.lanes_within(f, 0, f.sub(length, first), lanes)
        for i in range(lanes):
            row = f.add(p.first_row, f.add(r, i))
            present = f.both(f.compare("slt", f.add(r, i), a["width"]), f.compare("slt", row, p.rows))
            pointer = f.at(p.source, f.add(f.mul(row, a["w_stride_m"]), start), e.storage)
            here = f.select(present, inside, Value("zeroinitializer", inside.type))
            vectors.append(elements.load_masked(f, e, pointer, lanes, here))
        channel = f.variable(I64, f.i64(f.add(segment, f.div(first, a["kernel"]))))
        place = f.variable(I64, f.i64(f.rem(first, a["kernel"])))
        room, count = f.sub(a["width"], r), f.minimum(lanes, f.sub(length, first))
        columns = transpose(f, vectors, lanes)
        of_matrix = f.compare("eq", a["kernel"], 1)
        with f.when(of_matrix):
            for j, column in enumerate(columns):
                with f.when(f.compare("slt", j, count)):
                    _store_term(p, column, f.add(first, j), r, room)
        for j, column in enumerate(columns):
            f.store(column, f.at(square, j * lanes, e.accumulator), 64)
        with f.loop(0, f.select(of_matrix, 0, count)) as number:
            at = f.at(square, f.mul(number, lanes), e.accumulator)
            column = f.load(p.vector, at, 64)
            c, k = f.get(channel, I64), f.get(place, I64)
            _store(p, column, (r, room), (c, k))
            following = f.add(k, 1)
            wraps = f.compare("eq", following, a["kernel"])
            f.set(place, f.i64(f.select(wraps, 0, following)))
            f.set(channel, f.i64(f.add(c, f.word(wraps))))


def _store(p: Panel, column: Value, rows: tuple[Operand, Operand], weight: tuple[Value, Value]) -> None:
    """One (channel, kernel position) of so many rows from one on, unless the phase group has no such tap."""
    f = p.f
    (first, count), (channel, place) = rows, weight
    tap = f.load_i64(p.g["tap_of_at"], place)
    with f.when(f.compare("sge", tap, 0)):
        _store_term(p, column, f.add(f.mul(tap, p.count), channel), first, count)


def _store_term(p: Panel, column: Value, term: Operand, first: Operand, count: Operand) -> None:
    """A term of so many rows from one on."""
    f, e = p.f, p.e
    target = f.at(p.target, f.add(f.mul(term, p.a["width"]), first), e.accumulator)
    wide = ELEMENTS["float64" if e.accumulator == "double" else "float32"]
    elements.store_first(f, wide, column, target, p.lanes, count)


def pack_vectors(p: Panel) -> None:
    """Emit the loops over vectors of rows that lie side by side, of a matrix."""
    f, e, a, lanes = p.f, p.e, p.a, p.lanes
    with f.loop(0, a["width"], lanes) as r:
        row, room = f.add(p.first_row, r), f.sub(a["width"], r)
        inside = elements.lanes_within(f, 0, f.minimum(room, f.sub(p.rows, row)), lanes)
        with f.loop(0, p.count) as channel:
            place = f.add(row, f.mul(f.add(p.begin, channel), a["w_stride_c"]))
            vector = elements.load_masked(f, e, f.at(p.source, place, e.storage), lanes, inside)
            _store_term(p, vector, channel, r, room)
