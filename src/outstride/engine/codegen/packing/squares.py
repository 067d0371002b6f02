"""Packing weights in vectors: in squares of rows by weights, or in vectors of rows at one distance.

A convolution's row is contiguous over channels and kernel positions, a transposed convolution's over the
kernel positions of each channel; where channels lie side by side it is so over the channels at each position.
In all of these a vector of each of some rows is loaded, the square transposed, and vector j then holds one
(channel, kernel position) of all rows, which is what the microkernel reads in one go. Where rows lie at one
small distance from each other, vectors of them are dealt out: those of a matrix that lie side by side, and
the outputs and phases of a transposed layer whose kernel is small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from outstride.engine.codegen import elements
from outstride.engine.codegen.arguments import POSITION_FIELDS
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import ELEMENTS, Element
from outstride.engine.codegen.ir import I64, Operand, Value, vector_type
from outstride.engine.codegen.packing.transpose import load_rows, transpose

#: The most elements from row to row of which vectors are dealt out: so many are read for one that is written.
MOST_ROW_STEP = 4


@dataclass(frozen=True)
class Panel(Vectors):
    """The weights of a channel block for a tile's rows, while they are packed.

    `a` are the numbers of the argument block. Rows from `first_row` on and `count` channels from `begin` on
    go from `source` to `target`, where the chunk begins. `before` are the channels that lie there before
    those of the block, of this tile and others. With `masks`, masked loads are instructions.
    """

    a: dict[str, Value]
    source: Value
    target: Value
    first_row: Operand
    begin: Operand
    count: Operand
    before: Operand
    masks: bool

    @property
    def packed(self) -> Element:
        """What packed weights are."""
        return ELEMENTS["float64" if self.e.accumulator == "double" else "float32"]

    def term(self, place: Operand, taps: Operand, tap: Operand, channel: Operand) -> Operand:
        """Where a term of the first row goes, in a phase group that begins at a place with so many taps."""
        f = self.f
        term = f.add(f.mul(self.before, taps), f.add(f.mul(tap, self.count), channel))
        return f.add(place, f.mul(term, self.a["width"]))


def pack_squares(p: Panel, rows: Operand, starts: Value) -> None:
    """Emit the loops over squares of so many rows by weights, of all phase groups of one phase.

    `starts` is room for a number for each kernel position.
    """
    f, a = p.f, p.a
    with f.loop(0, a["kernel"]) as position:
        _, place, taps, tap = (_field(p, position, name) for name in POSITION_FIELDS)
        here = f.select(f.compare("slt", tap, 0), -1, p.term(place, taps, tap, 0))
        f.store(here, f.at(starts, position, I64), 8)
    narrow = f.compare("sle", a["width"], p.lanes // 2)
    with f.when(narrow):
        _pack_squares(p, rows, starts, p.lanes // 2)
    with f.when(f.negate(narrow)):
        _pack_squares(p, rows, starts, p.lanes)


def _pack_squares(p: Panel, rows: Operand, starts: Value, side: int) -> None:
    """The same, `side` rows at a time, which are one square or two side by side."""
    f, e, a, lanes = p.f, p.e, p.a, p.lanes
    square = f.variable(f"[{side * lanes} x {e.accumulator}]")
    joined = f.compare("eq", a["w_stride_c"], a["run"])
    length = f.select(joined, f.mul(p.count, a["run"]), a["run"])
    ahead = f.select(joined, lanes, a["w_stride_c"])
    # Where in a term, and in the kernel's positions, the next column belongs.
    behind, place = f.variable(I64), f.variable(I64)
    with (
        f.loop(0, a["width"], side) as r,
        f.loop(0, a["kernel"], a["run"]) as position,
        f.loop(0, f.select(joined, 1, p.count)) as segment,
    ):
        row = f.add(p.first_row, r)
        start = f.add(_field(p, position, "offset"), f.mul(f.add(p.begin, segment), a["w_stride_c"]))
        line = f.at(p.source, f.add(start, f.mul(row, a["w_stride_m"])), e.storage)
        f.set(behind, f.i64(f.add(r, f.mul(segment, a["width"]))))
        f.set(place, f.i64(position))
        room, last = f.sub(a["width"], r), f.add(position, a["run"])
        with f.loop(0, length, lanes) as first:
            count = f.minimum(lanes, f.sub(length, first))
            of_rows = side, f.sub(rows, row)
            place_of_rows = f.at(line, first, e.storage)
            held = load_rows(p, place_of_rows, a["w_stride_m"], of_rows, count, ahead, masks=p.masks)
            for j, column in enumerate(transpose(f, held, lanes)):
                f.store(column, f.at(square, j * lanes, e.accumulator), e.accumulator_bytes)
            with f.loop(0, count) as number:
                # Of two squares side by side the second one has the weights behind those of the first.
                half = f.add(f.mul(f.rem(number, side), lanes), f.mul(f.div(number, side), side))
                now, at = f.get(behind, I64), f.get(place, I64)
                term = f.load_i64(starts, at)
                with f.when(f.compare("sge", term, 0)):
                    target = f.at(p.target, f.add(term, now), e.accumulator)
                    copy_first(p, f.at(square, half, e.accumulator), target, room, side)
                following = f.add(at, 1)
                wraps = f.compare("eq", following, last)
                f.set(place, f.i64(f.select(wraps, position, following)))
                f.set(behind, f.i64(f.add(now, f.select(wraps, a["width"], 0))))


def _field(p: Panel, position: Operand, name: str) -> Value:
    """What is known of a kernel position."""
    fields = len(POSITION_FIELDS)
    place = p.f.add(p.f.mul(position, fields), POSITION_FIELDS.index(name))
    return p.f.load_i64(p.a["positions_at"], place)


def copy_first(p: Panel, source: Value, target: Value, count: Operand, most: int) -> None:
    """The first `count` elements, at most so many, in vectors of powers of two: masks would take longer."""
    f, e = p.f, p.packed
    whole = f.compare("sge", count, most)

    def move(size: int, at: Operand) -> None:
        value = f.load(vector_type(size, e.accumulator), f.at(source, at, e.accumulator), e.accumulator_bytes)
        f.store(value, f.at(target, at, e.accumulator), e.accumulator_bytes)

    with f.when(whole):
        move(most, 0)
    with f.when(f.negate(whole)):
        at: Operand = 0
        size = most // 2
        while size:
            bit = f.emit(I64, f"and i64 {f.ref(count)}, {size}")
            with f.when(f.compare("ne", bit, 0)):
                move(size, at)
            at, size = f.add(at, bit), size // 2


def pack_rows(p: Panel, g: dict[str, Value], rows: Operand) -> None:
    """Emit the loops over vectors of so many rows at one distance, of a phase group."""
    for step in range(1, MOST_ROW_STEP + 1):
        with p.f.when(p.f.compare("eq", g["row_step"], step)):
            _pack_rows(p, g, rows, step)


def _pack_rows(p: Panel, g: dict[str, Value], rows: Operand, step: int) -> None:
    f, e, a, lanes = p.f, p.e, p.a, p.lanes
    room = f.variable(p.vector)
    with f.loop(0, g["taps"]) as tap, f.loop(0, a["width"], lanes) as r:
        row = f.add(p.first_row, r)
        # Up to the last row's weight and no further: beyond it there may be nothing.
        left = f.add(f.mul(f.sub(f.sub(rows, row), 1), step), 1)
        inside = [elements.lanes_within(f, part * lanes, left, lanes) for part in range(step)]
        whole = f.compare("sge", left, step * lanes)
        begin = f.add(f.mul(row, step), f.load_i64(g["taps_at"], tap))
        begin = f.add(begin, f.mul(p.begin, a["w_stride_c"]))
        with f.loop(0, p.count) as c:
            line = f.at(p.source, f.add(begin, f.mul(c, a["w_stride_c"])), e.storage)
            if p.masks:
                _deal(p, line, inside, room)
            else:
                with f.when(whole):
                    _deal(p, line, [None] * step, room)
                with f.when(f.negate(whole)):
                    _deal(p, line, inside, room)
            term = p.term(g["w_offset"], g["taps"], tap, c)
            target = f.at(p.target, f.add(term, r), e.accumulator)
            copy_first(p, room, target, f.sub(a["width"], r), lanes)


def _deal(p: Panel, line: Value, masks: Sequence[Value | None], room: Value) -> None:
    """Every so many elements of vectors that lie in a line; none has a mask where all of them are there."""
    f, e, lanes = p.f, p.e, p.lanes
    parts = elements.load_behind(f, e, line, lanes, masks)
    f.store(elements.deal(f, parts, lanes, 0), room, e.accumulator_bytes)
