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
from outstride.engine.codegen.box import Box, decode_box
from outstride.engine.codegen.context import Context, Kernel
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value
from outstride.engine.codegen.nontemporal import store_line
from outstride.engine.codegen.steps import epilogue
from outstride.engine.planner.dataflow import Tile
from outstride.engine.planner.dataflows.in_place import IN_PLACE
from outstride.engine.planner.unrolled import Unrolled

#: Memory is prefetched so many bytes behind what a tile reads, in maps and in planes of one row: the
#: machine's own prefetcher does not follow loads under masks (docs/decisions/0026).
PREFETCH_BYTES, PREFETCH_BYTES_OF_A_ROW = 1024, 2048
#: How many masks a vector has, from the argument block.
MasksOfVector: TypeAlias = Callable[[Context], Operand]


def vectors_across(k: Context, box: Box) -> Operand:
    """Vectors of a row of a box."""
    return k.f.ceil_div(box.count[3], k.lanes)


@contextmanager
def tiles_of_row(k: Context, across: Operand) -> Iterator[tuple[Value, Operand]]:
    """For each tile of a row of so many vectors: the first of its own, and their number, about the same."""
    f = k.f
    first = f.variable(I64)
    f.set(first, f.i64(0))
    with f.forever() as done:
        q = f.get(first, I64)
        f.leave_when(f.compare("sge", q, across), done)
        left = f.sub(across, q)
        size = f.ceil_div(left, f.ceil_div(left, k.a["tile_vectors"]))
        yield q, size
        f.set(first, f.i64(f.add(q, size)))


#: What tiles are told: tensors at their plane and at the tile's first column, output channel, masks, rows.
TILE = (
    ("x", PTR), ("w", PTR), ("y", PTR), epilogue.PARAMETER, ("masks", PTR),
    ("plane", I64), ("first_row", I64), ("rows", I64),
)  # fmt: skip


def stored_nontemporally(k: Context, last: Value) -> Value:
    """Whether a tile's rows go by nontemporal stores: if they are parts of long ones, and whole."""
    long = k.f.compare("sge", k.a["out_size_w"], k.a["nontemporal"])
    return k.f.both(long, has_every_lane(k, last))


def has_every_lane(k: Context, kept: Value) -> Value:
    """Whether a kept mask has all lanes."""
    bits = k.f.load(f"i{k.lanes}", kept, k.lanes // 8)
    return k.f.emit("i1", f"icmp eq i{k.lanes} {bits.name}, -1")


def is_made_apart(k: Context, unrolled: Unrolled) -> bool:
    """Whether a long row is made beside the output: where nothing has to be read at its place there."""
    return unrolled.alone and not k.recipe.epilogue.reads_tensors


def finished(
    k: Context, loaded: epilogue.Loaded, totals: list[Value], row: Value, present: Value
) -> list[Value]:  # fmt: skip
    """The outputs of a row from its sums, whose vectors exist as the masks at `present` say."""
    f, lanes = k.f, k.lanes
    places = (
        epilogue.Place(f.at(row, j * lanes, k.e.storage), elements.kept_mask(f, present, j, lanes))
        for j in range(len(totals))
    )
    return [loaded.apply(k, total, place) for total, place in zip(totals, places, strict=True)]


def store_row(
    k: Context, values: list[Value], row: Value, present: Value, nontemporal: Value | None, *,
    apart: bool = False,
) -> None:  # fmt: skip
    """Round and store the outputs of a row that exist, by nontemporal stores where whole vectors are aligned.

    With `apart` vectors that are whole are stored without masks: more code, and faster where rows are most of
    the work.
    """
    f, e, lanes = k.f, k.e, k.lanes
    places = [f.at(row, j * lanes, e.storage) for j in range(len(values))]
    ordinary = None
    if nontemporal is not None:
        aligned = f.compare("eq", f.bytes_to_multiple(row, lanes * e.storage_bytes), 0)
        nontemporal = f.both(nontemporal, aligned)
        with f.when(nontemporal):
            for value, place in zip(values, places, strict=True):
                elements.store_nontemporal(f, e, value, place, lanes)
        ordinary = f.negate(nontemporal)
    with nullcontext() if ordinary is None else f.when(ordinary):
        part = None
        if apart:
            whole = has_every_lane(k, f.at(present, len(values) - 1, f"i{lanes}"))
            with f.when(whole):
                for value, place in zip(values, places, strict=True):
                    elements.store(f, e, value, place, lanes)
            part = f.negate(whole)
        with nullcontext() if part is None else f.when(part):
            for j, (value, place) in enumerate(zip(values, places, strict=True)):
                inside = elements.kept_mask(f, present, j, lanes)
                elements.store_masked(f, e, value, place, lanes, inside)


def tile_function(kernel: Kernel, tile: Tile) -> Context:
    """Begin the function of a tile: `<tile>(block, ...)`, with the parameters `TILE`."""
    return kernel.function(tile.name, *TILE)


def task_function(kernel: Kernel, unrolled: Unrolled, masks_of_vector: MasksOfVector) -> Function:
    """A box of some groups: survey it, then sum every image and output, a tile's width at a time."""
    k = kernel.function("task", ("scratch", PTR), ("number", I64))
    f, e, a, lanes = k.f, k.e, k.a, k.lanes
    scratch, number = k.parameters
    tiles = IN_PLACE.tiles_of(unrolled)
    box, number_of_groups = decode_box(f, a, number)
    f.run("survey", k.block, scratch, *box.numbers)
    across, each = vectors_across(k, box), masks_of_vector(k)
    first_group = f.mul(number_of_groups, a["groups_per_task"])
    last_group = f.minimum(f.add(first_group, a["groups_per_task"]), a["groups"])
    plane = f.mul(box.start[1], a["in_step_d"])
    line = f.at(scratch, a["line_bytes_offset"], "i8")
    long = f.compare("sge", a["out_size_w"], a["nontemporal"])
    # Wide rows are made from end to end before the next ones: memory is read as it lies.
    wide = f.compare("sgt", across, f.add(a["tile_vectors"], 1))
    rows: Operand = unrolled.widest.rows
    for tile in tiles:
        rows = f.select(f.compare("eq", a["tile_vectors"], tile.vectors), tile.rows, rows)
    together = f.select(wide, rows, box.count[2])
    apart = is_made_apart(k, unrolled)
    if apart:
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
        channel = f.i64(f.add(epilogue.first_channel(k, group), output))
        begin = f.mul(box.start[3], unrolled.out_step)
        own = f.at(a["y_at"], f.add(f.add(target, sheet), begin), e.storage)
        made = f.add(box.start[2], top)
        row = own
        if apart:  # the line stands for the only row that is made
            row = f.select(long, f.at(line, f.sub(0, f.mul(made, a["y_stride_h"])), e.storage), own)
        with tiles_of_row(k, across) as (q, size):
            column = f.add(box.start[3], f.mul(q, lanes))
            x = f.at(a["x_at"], f.add(source, f.mul(column, k.recipe.in_step)), e.storage)
            y = f.at(row, f.mul(f.mul(q, lanes), unrolled.out_step), e.storage)
            w = f.at(a["w_at"], panel, e.accumulator)
            masks = f.at(scratch, f.mul(q, each), f"i{lanes}")
            for tile in tiles:
                with f.when(f.compare("eq", size, tile.vectors)):
                    f.run(
                        tile.name, k.block, x, w, y, channel, masks, plane,
                        made, f.minimum(together, f.sub(box.count[2], top)),
                    )  # fmt: skip
        if apart:
            with f.when(long):
                count = f.minimum(f.mul(box.count[3], unrolled.out_step), f.sub(a["out_size_w"], begin))
                there = f.at(own, f.mul(made, a["y_stride_h"]), e.storage)
                store_line(k, line, there, count)
    return f
