"""Prefetching the input that is packed next, a few lines before each tile of what is packed now.

Packing reads rows that lie far apart, and each begins with a wait for memory; while tiles sum, memory has
nothing to do. A small table in scratch says what of the next rows is still to be prefetched.
"""

from __future__ import annotations

from outstride.engine.codegen.box import Box, decode_box
from outstride.engine.codegen.context import Context
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value
from outstride.engine.codegen.packing.runs import first_input
from outstride.engine.planner.machine import LINE_BYTES
from outstride.engine.planner.tables import PREFETCH_TABLE_BYTES

#: The table: where the present row is and how much of it has been prefetched, bytes of a row and to the next
#: one, rows that are left, bytes to prefetch at once and in how many rows.
_FIELDS = ("row_at", "done", "length", "pitch", "left", "step", "rows")
_INDEX = {name: i for i, name in enumerate(_FIELDS)}
assert 8 * len(_FIELDS) <= PREFETCH_TABLE_BYTES, "the plan leaves less room than the table takes"


def prefetch_function() -> Function:
    """`prefetch(table)`: prefetch the next few lines."""
    f = Function("prefetch", [("table", PTR)], internal=True)
    table = f.parameters[0]
    length, pitch, step, rows = (f.load_i64(table, _INDEX[n]) for n in ("length", "pitch", "step", "rows"))
    with f.loop(0, f.minimum(rows, f.load_i64(table, _INDEX["left"]))):
        row = f.load(PTR, f.at(table, _INDEX["row_at"], I64), 8)
        done, left = (f.load_i64(table, _INDEX[n]) for n in ("done", "left"))
        with f.loop(0, step, LINE_BYTES) as at:
            f.prefetch(f.at(row, f.add(done, at), "i8"))
        reached = f.add(done, step)
        over = f.compare("sge", reached, length)
        _put(f, table, "row_at", f.select(over, f.at(row, pitch, "i8"), row))
        _put(f, table, "done", f.select(over, 0, reached))
        _put(f, table, "left", f.select(over, f.sub(left, 1), left))
    return f


def expect_next(k: Context, table: Value, number: Operand, box: Box, group: Operand, first: Operand) -> None:
    """Note what follows the channels from `first` on of a task's box: further channels, or the next box."""
    f, e, a = k.f, k.e, k.a
    with f.when(f.compare("ne", a["prefetch_bytes"], 0)):
        behind = f.add(first, a["channels_per_pass"])
        same = f.compare("slt", behind, a["channels"])
        following, next_group = decode_box(f, a, f.div(f.add(number, 1), a["m_tasks"]))
        channel = f.select(same, behind, 0)
        place = f.add(
            f.mul(f.select(same, group, f.mul(next_group, a["groups_per_task"])), a["x_stride_g"]),
            f.mul(channel, a["x_stride_c"]),
        )
        starts = (f.select(same, s, t) for s, t in zip(box.start, following.start, strict=True))
        place = f.add(place, f.mul(next(starts), a["x_stride_n"]))
        short = k.recipe.short or (None, None, None)
        for axis, start, cells in zip("dhw", starts, short, strict=True):
            if cells is not None and cells.run > 1:
                first = first_input(f, cells, start)
            else:
                first = f.mul(start, a[f"in_step_{axis}"])
            position = f.maximum(0, f.add(first, a[f"low_{axis}"]))
            place = f.add(place, f.mul(position, a[f"x_stride_{axis}"]))
        left = f.minimum(a["channels_per_pass"], f.sub(a["channels"], channel))
        _put(f, table, "row_at", f.at(a["x_at"], place, e.storage))
        _put(f, table, "done", f.i64(0))
        _put(f, table, "length", a["prefetch_bytes"])
        _put(f, table, "pitch", f.mul(a["x_stride_c"], e.storage_bytes))
        _put(f, table, "left", left)
        _put(f, table, "step", a["prefetch_step"])
        _put(f, table, "rows", a["prefetch_rows"])


def prefetch(k: Context, table: Value) -> None:
    """Before a tile: prefetch some more, where the plan says so."""
    with k.f.when(k.f.compare("ne", k.a["prefetch_bytes"], 0)):
        k.f.run("prefetch", table)


def _put(f: Function, table: Value, name: str, value: Operand) -> None:
    f.store(f.i64(value), f.at(table, _INDEX[name], I64), 8)
