"""What kernels that read in place share: a task is a band of rows of some planes, and tiles walk over it.

Which lanes of a vector exist depends on the column alone, so a task finds it out once, as a bit for each
lane, for all rows, planes and groups: `survey`. Then its tiles sum, from left to right: rows of a plane,
some vectors wide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeAlias

from outstride.engine.codegen import elements
from outstride.engine.codegen.arguments import INDEX
from outstride.engine.codegen.box import Box, decode_box
from outstride.engine.codegen.elements import Element
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value
from outstride.engine.codegen.results import write_line_past_caches
from outstride.engine.codegen.tasks import read_arguments
from outstride.engine.planner.recipe import Recipe
from outstride.engine.planner.windows import Spread, Window

#: So many bytes ahead of what a tile reads memory is asked for, in maps and in planes of one row: the
#: machine's own prefetcher does not follow loads under masks (docs/decisions/0026).
AHEAD_BYTES, AHEAD_BYTES_OF_A_ROW = 1024, 2048
#: How many masks a vector has, from the argument block.
MasksOfVector: TypeAlias = Callable[[Function, dict[str, Value]], Operand]


def vectors_across(f: Function, box: Box, lanes: int) -> Operand:
    """Vectors of a row of a box."""
    return f.ceil_div(box.count[3], lanes)


@contextmanager
def tiles_of_row(f: Function, a: dict[str, Value], across: Operand) -> Iterator[tuple[Value, Operand]]:
    """For each tile of a row of so many vectors: the first of its own, and their number, about the same."""
    first = f.variable(I64)
    f.set(first, f.i64(0))
    with f.forever() as done:
        q = f.get(first, I64)
        f.leave_when(f.compare("sge", q, across), done)
        left = f.sub(across, q)
        size = f.ceil_div(left, f.ceil_div(left, a["tile_vectors"]))
        yield q, size
        f.set(first, f.i64(f.add(q, size)))


#: What tiles are told: tensors at their plane and at the tile's first column, masks, and the rows.
TILE = (
    ("block", PTR), ("x", PTR), ("w", PTR), ("y", PTR), ("bias", PTR), ("masks", PTR),
    ("plane", I64), ("first_row", I64), ("rows", I64),
)  # fmt: skip


def stored_past_caches(f: Function, a: dict[str, Value], lanes: int, last: Value) -> Value:
    """Whether a tile's rows are stored past the caches: if they are parts of long ones, and whole."""
    long = f.compare("sge", a["out_size_w"], a["past_caches"])
    return f.both(long, has_every_lane(f, lanes, last))


def has_every_lane(f: Function, lanes: int, kept: Value) -> Value:
    """Whether a kept mask has all lanes."""
    bits = f.load(f"i{lanes}", kept, lanes // 8)
    return f.emit("i1", f"icmp eq i{lanes} {bits.name}, -1")


def store_row(
    f: Function, e: Element, lanes: int, values: list[Value], row: Value, present: Value,
    past: Value | None, *, apart: bool = False,
) -> None:  # fmt: skip
    """Round and store the outputs of a row that exist, `past` the caches where whole vectors are aligned.

    With `apart` vectors that are whole are stored without masks: more code, and faster where rows are most of
    the work.
    """
    places = [f.at(row, j * lanes, e.storage) for j in range(len(values))]
    ordinary = None
    if past is not None:
        aligned = f.compare("eq", f.bytes_to_multiple(row, lanes * e.storage_bytes), 0)
        past = f.both(past, aligned)
        with f.when(past):
            for value, place in zip(values, places, strict=True):
                elements.store_past_caches(f, e, value, place, lanes)
        ordinary = f.negate(past)
    with nullcontext() if ordinary is None else f.when(ordinary):
        part = None
        if apart:
            whole = has_every_lane(f, lanes, f.at(present, len(values) - 1, f"i{lanes}"))
            with f.when(whole):
                for value, place in zip(values, places, strict=True):
                    elements.store(f, e, value, place, lanes)
            part = f.negate(whole)
        with nullcontext() if part is None else f.when(part):
            for j, (value, place) in enumerate(zip(values, places, strict=True)):
                inside = elements.kept_mask(f, present, j, lanes)
                elements.store_masked(f, e, value, place, lanes, inside)


def task_function(
    recipe: Recipe, window: Window | Spread, e: Element, lanes: int, masks_of_vector: MasksOfVector
) -> Function:  # fmt: skip
    """A box of some groups: survey it, then sum every image and output, a tile's width at a time."""
    f = Function("task", [("block", PTR), ("scratch", PTR), ("number", I64)], internal=True)
    block, scratch, number = f.parameters
    a = read_arguments(f, block, INDEX)
    box, number_of_groups = decode_box(f, a, number)
    f.run("survey", block, scratch, *box.numbers)
    across, each = vectors_across(f, box, lanes), masks_of_vector(f, a)
    absent = f.emit("i1", f"icmp eq ptr {a['bias_at'].name}, null")
    first_group = f.mul(number_of_groups, a["groups_per_task"])
    last_group = f.minimum(f.add(first_group, a["groups_per_task"]), a["groups"])
    plane = f.mul(box.start[1], a["in_step_d"])
    line = f.at(scratch, a["line_bytes_offset"], "i8")
    long = f.compare("sge", a["out_size_w"], a["past_caches"])
    # Wide rows are made from end to end before the next ones: memory is read as it lies.
    wide = f.compare("sgt", across, f.add(a["tile_vectors"], 1))
    rows: Operand = window.widest.rows
    for tile in window.tiles:
        rows = f.select(f.compare("eq", a["tile_vectors"], tile.vectors), tile.rows, rows)
    together = f.select(wide, rows, box.count[2])
    if window.alone:
        together = f.select(long, 1, together)
    with (
        f.loop(0, box.count[0]) as image,
        f.loop(first_group, last_group) as group,
        f.loop(0, a["outputs"]) as output,
        f.loop(0, box.count[2], together) as top,
    ):
        n = f.add(box.start[0], image)
        source = f.add(f.mul(n, a["x_stride_n"]), f.mul(group, a["x_stride_g"]))
        target = f.add(f.mul(n, a["y_stride_n"]), f.mul(group, a["y_stride_g"]))
        sheet = f.add(f.mul(output, a["y_stride_m"]), f.mul(box.start[1], a["y_stride_d"]))
        panel = f.add(f.mul(group, a["w_stride_g"]), f.mul(output, a["w_stride_chunk"]))
        own_bias = f.at(a["bias_at"], f.add(f.mul(group, a["outputs"]), output), e.storage)
        bias = f.select(absent, Value("null", PTR), own_bias)
        begin = f.mul(box.start[3], window.out_step)
        own = f.at(a["y_at"], f.add(f.add(target, sheet), begin), e.storage)
        made = f.add(box.start[2], top)
        row = own
        if window.alone:  # the line stands for the only row that is made
            row = f.select(long, f.at(line, f.sub(0, f.mul(made, a["y_stride_h"])), e.storage), own)
        with tiles_of_row(f, a, across) as (q, size):
            column = f.add(box.start[3], f.mul(q, lanes))
            x = f.at(a["x_at"], f.add(source, f.mul(column, recipe.in_step)), e.storage)
            y = f.at(row, f.mul(f.mul(q, lanes), window.out_step), e.storage)
            w = f.at(a["w_at"], panel, e.accumulator)
            masks = f.at(scratch, f.mul(q, each), f"i{lanes}")
            for tile in window.tiles:
                with f.when(f.compare("eq", size, tile.vectors)):
                    f.run(
                        tile.name, block, x, w, y, bias, masks, plane,
                        made, f.minimum(together, f.sub(box.count[2], top)),
                    )  # fmt: skip
        if window.alone:
            with f.when(long):
                count = f.minimum(f.mul(box.count[3], window.out_step), f.sub(a["out_size_w"], begin))
                there = f.at(own, f.mul(made, a["y_stride_h"]), e.storage)
                write_line_past_caches(f, e, lanes, line, there, count)
    return f
