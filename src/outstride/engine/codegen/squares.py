"""Packing weights in squares: where a row's weights lie in kernel order, 16 rows are read and turned.

A convolution's row is contiguous over channels and kernel positions, a transposed convolution's over the
kernel positions of each channel. Either way a vector of every row is loaded, the square transposed, and
vector j then holds one (channel, kernel position) of all rows, which is what the microkernel reads in one go.
"""

from __future__ import annotations

from dataclasses import dataclass

from outstride.engine.codegen import elements
from outstride.engine.codegen.elements import ELEMENTS, Element
from outstride.engine.codegen.ir import I64, Function, Operand, Value, vector_type
from outstride.engine.codegen.transpose import transpose


@dataclass(frozen=True)
class Block:
    """A block of channels of a tile's rows: from where, to where, which rows exist, which channels."""

    source: Value
    target: Value
    first_row: Operand
    rows: Operand
    begin: Operand
    count: Operand


def pack_squares(f: Function, e: Element, a: dict[str, Value], g: dict[str, Value], block: Block) -> None:
    """Emit the loops over squares of rows by weights."""
    lanes = 64 // e.accumulator_bytes
    # The turned square waits in memory, so that what becomes of a column is written, and compiled, once.
    turned = f.variable(f"[{lanes * lanes} x {e.accumulator}]")
    joined = f.compare("eq", a["w_stride_c"], a["kernel"])
    length = f.select(joined, f.mul(block.count, a["kernel"]), a["kernel"])
    segments = f.select(joined, 1, block.count)
    with (
        f.loop(0, a["width"], lanes) as r,
        f.loop(0, segments) as segment,
        f.loop(0, length, lanes) as first,
    ):
        start = f.add(f.mul(f.add(block.begin, segment), a["w_stride_c"]), first)
        vectors = []
        inside = elements.lanes_within(f, 0, f.sub(length, first), lanes)
        for i in range(lanes):
            row = f.add(block.first_row, f.add(r, i))
            present = f.both(f.compare("slt", f.add(r, i), a["width"]), f.compare("slt", row, block.rows))
            pointer = f.at(block.source, f.add(f.mul(row, a["w_stride_m"]), start), e.storage)
            here = f.select(present, inside, Value("zeroinitializer", inside.type))
            vectors.append(elements.load_masked(f, e, pointer, lanes, here))
        channel = f.variable(I64, f.i64(f.add(segment, f.div(first, a["kernel"]))))
        place = f.variable(I64, f.i64(f.rem(first, a["kernel"])))
        room = f.sub(a["width"], r)
        for j, column in enumerate(transpose(f, vectors, lanes)):
            f.store(column, f.at(turned, j * lanes, e.accumulator), 64)
        with f.loop(0, f.minimum(lanes, f.sub(length, first))) as number:
            at = f.at(turned, f.mul(number, lanes), e.accumulator)
            column = f.load(vector_type(lanes, e.accumulator), at, 64)
            c, k = f.get(channel, I64), f.get(place, I64)
            _store(f, e, lanes, a, g, block, column, r, room, c, k)
            following = f.add(k, 1)
            wraps = f.compare("eq", following, a["kernel"])
            f.set(place, f.i64(f.select(wraps, 0, following)))
            f.set(channel, f.i64(f.add(c, f.word(wraps))))


def _store(
    f: Function, e: Element, lanes: int, a: dict[str, Value], g: dict[str, Value], block: Block,
    column: Value, r: Operand, room: Operand, channel: Value, place: Value,
) -> None:  # fmt: skip
    """One (channel, kernel position) of the rows from r on, unless the phase group has no such tap."""
    tap = f.load_i64(g["tap_of_at"], place)
    with f.when(f.compare("sge", tap, 0)):
        term = f.add(f.mul(tap, block.count), channel)
        target = f.at(block.target, f.add(f.mul(term, a["width"]), r), e.accumulator)
        wide = ELEMENTS["float64" if e.accumulator == "double" else "float32"]
        elements.store_first(f, wide, column, target, lanes, room)
