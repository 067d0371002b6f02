"""Packing weights: once a weight version, into the order in which the microkernel reads them.

    [group][chunk of outputs][phase group][tile][channel block][tap][channel of the block][row of the tile]

Rows that stand for no output are zeros, so that no tile has an edge. The element at `spoiled_at` becomes NaN
when a weight is infinite or NaN: then no term may be left out, for zero times it is not zero.
"""

from __future__ import annotations

from dataclasses import dataclass

from outstride.codegen import elements
from outstride.codegen.arguments import WEIGHT_GROUP_FIELDS, WEIGHT_GROUP_INDEX, WEIGHT_INDEX
from outstride.codegen.elements import ELEMENTS, Element
from outstride.codegen.ir import I64, PTR, Function, Operand, Value, module
from outstride.codegen.tasks import read_arguments, take_tasks
from outstride.planner.machine import CHANNEL_BLOCK

#: Rows for which a task has room, four times those of the widest tile: 2 vectors of 16 outputs.
WIDEST = 128


def weights_source(dtype: str) -> str:
    """The LLVM IR of the packing kernel of a dtype."""
    return module([_task(dtype), take_tasks(WEIGHT_INDEX)], f"outstride weights_{dtype}")


@dataclass(frozen=True)
class _Rows:
    """For every row of a tile the weights of its output and member, and how far its channels lie apart."""

    nothing: Value
    lines: Value
    pitches: Value


def _task(dtype: str) -> Function:
    e = ELEMENTS[dtype]
    f = Function("task", [("block", PTR), ("scratch", PTR), ("number", I64)], internal=True)
    block, _, number = f.parameters
    a = read_arguments(f, block, WEIGHT_INDEX)
    group, chunk = f.div(number, a["chunks"]), f.rem(number, a["chunks"])
    first = f.mul(chunk, a["chunk_outputs"])
    source = f.at(a["w_at"], f.add(f.mul(group, a["w_stride_g"]), f.mul(first, a["w_stride_m"])), e.storage)
    start = f.add(f.mul(group, a["packed_stride_g"]), f.mul(chunk, a["packed_stride_chunk"]))
    target = f.at(a["packed_at"], start, e.accumulator)
    nothing = f.variable(e.storage, Value("0" if e.storage == "i16" else "0.0", e.storage))
    kept = _Rows(nothing, f.variable(f"[{WIDEST} x ptr]"), f.variable(f"[{WIDEST} x i64]"))
    spoiled = f.variable(e.accumulator, elements.zero(e, 1))
    outputs = f.minimum(a["chunk_outputs"], f.sub(a["outputs"], first))
    with f.loop(0, a["phase_groups"]) as index:
        entry = f.at(a["phase_groups_at"], f.mul(index, len(WEIGHT_GROUP_FIELDS)), I64)
        g = read_arguments(f, entry, WEIGHT_GROUP_INDEX)
        position = f.variable(PTR, f.at(target, g["w_offset"], e.accumulator))
        rows = f.mul(outputs, g["members"])
        with f.loop(0, g["tiles"]) as tile:
            blocks = f.ceil_div(a["channels"], CHANNEL_BLOCK)
            with f.loop(0, blocks) as number_of_block, f.loop(0, g["taps"]) as tap:
                begin = f.mul(number_of_block, CHANNEL_BLOCK)
                with f.loop(0, a["width"]) as i:
                    row = f.add(f.mul(tile, a["width"]), i)
                    present = f.compare("slt", row, rows)
                    _find_row(f, e, a, g, kept, source, present, row, tap, begin, i)
                count = f.minimum(CHANNEL_BLOCK, f.sub(a["channels"], begin))
                with f.loop(0, count) as c:
                    _pack_channel(f, e, a, kept, c, position, spoiled)
    found = f.get(spoiled, e.accumulator)
    with f.when(f.emit("i1", f"fcmp uno {e.accumulator} {found.name}, {found.name}")):
        f.store(found, a["spoiled_at"], e.accumulator_bytes)
    return f


def _find_row(
    f: Function, e: Element, a: dict[str, Value], g: dict[str, Value], kept: _Rows, source: Value,
    present: Value, row: Operand, tap: Operand, begin: Operand, i: Operand,
) -> None:  # fmt: skip
    """Where the weights of a tile's row i begin at a tap and channel; a row of no output reads a zero."""
    member = f.rem(row, g["members"])
    offset = f.load_i64(g["taps_at"], f.add(f.mul(member, g["taps"]), tap))
    place = f.add(f.mul(f.div(row, g["members"]), a["w_stride_m"]), offset)
    place = f.add(place, f.mul(begin, a["w_stride_c"]))
    line = f.select(present, f.at(source, place, e.storage), kept.nothing)
    f.store(line, f.at(kept.lines, i, PTR), 8)
    f.store(f.select(present, a["w_stride_c"], 0), f.at(kept.pitches, i, I64), 8)


def _pack_channel(
    f: Function, e: Element, a: dict[str, Value], kept: _Rows, c: Operand, position: Value, spoiled: Value
) -> None:
    """One channel of every row, to where packing has come."""
    here = f.get(position, PTR)
    with f.loop(0, a["width"]) as i:
        line = f.load(PTR, f.at(kept.lines, i, PTR), 8)
        where = f.mul(c, f.load_i64(kept.pitches, i))
        item = elements.load(f, e, f.at(line, where, e.storage), 1)
        f.store(item, f.at(here, i, e.accumulator), e.accumulator_bytes)
        # +-0 for a finite weight, NaN for any other.
        trace = f.emit(e.accumulator, f"fmul {e.accumulator} {item.name}, 0.0")
        before = f.get(spoiled, e.accumulator)
        f.set(spoiled, f.emit(e.accumulator, f"fadd {e.accumulator} {before.name}, {trace.name}"))
    f.set(position, f.at(here, a["width"], e.accumulator))
