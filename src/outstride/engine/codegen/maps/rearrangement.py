"""Rows put together from elements of another tensor: nearest resizing and pixel shuffling as copies.

A row may take its elements from a few source rows in turn (those of a pixel shuffle, or one row as often as
it is repeated): then vectors of them are interleaved in registers. Any other row takes them one by one, from
where a table says.
"""

from __future__ import annotations

from outstride.engine.codegen.interleave import interleave
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, module, vector_type
from outstride.engine.codegen.tasks import read_arguments, take_tasks
from outstride.engine.planner.machine import InstructionSet

#: The argument block: x to y (planes, rows, width), contiguous. Element 0 of row r of plane p is at
#: (p / depth) * image_stride + depths[p % depth] + rows[r] of x; source row s is s * source_pitch further, or
#: element w is columns[w] further. A task has `block_rows` rows of a plane.
REARRANGEMENT_ARGUMENTS = (
    "x_at", "y_at", "scratch_at", "scratch_bytes", "tasks",
    "blocks", "block_rows", "rows", "width", "depth", "image_stride", "source_pitch", "depths_at", "rows_at",
    "columns_at",
)  # fmt: skip
REARRANGEMENT_INDEX = {name: i for i, name in enumerate(REARRANGEMENT_ARGUMENTS)}

#: How many source rows are interleaved; rows of others take their elements one by one (0).
SOURCES = (1, 2, 3, 4)
#: Elements at a time where they come one by one.
_UNROLLED = 4


def rearrangement_source(item_bytes: int, isa: InstructionSet, sources: int) -> str:
    """The LLVM IR of the kernel for elements of so many bytes, in rows of so many source rows (or 0: any)."""
    f = Function("task", [("block", PTR), ("scratch", PTR), ("task", I64)], internal=True)
    block, _, task = f.parameters
    a = read_arguments(f, block, REARRANGEMENT_INDEX)
    element = f"i{8 * item_bytes}"
    number, plane = f.rem(task, a["blocks"]), f.div(task, a["blocks"])
    image, depth = f.div(plane, a["depth"]), f.rem(plane, a["depth"])
    start = f.add(f.mul(image, a["image_stride"]), f.load_i64(a["depths_at"], depth))
    source = f.at(a["x_at"], start, element)
    target = f.at(a["y_at"], f.mul(f.mul(plane, a["rows"]), a["width"]), element)
    first = f.mul(number, a["block_rows"])
    with f.loop(first, f.minimum(f.add(first, a["block_rows"]), a["rows"])) as row:
        here = f.at(source, f.load_i64(a["rows_at"], row), element)
        there = f.at(target, f.mul(row, a["width"]), element)
        if sources:
            _interleaved(f, a, (here, there), sources, isa.lanes(item_bytes), element)
        else:
            _one_by_one(f, a, (here, there), element)
    heading = f"outstride rearrangement_{item_bytes}_{sources}"
    return module([f, take_tasks(REARRANGEMENT_INDEX)], heading)


def _interleaved(
    f: Function, a: dict[str, Value], places: tuple[Value, Value], sources: int, lanes: int, element: str
) -> None:  # fmt: skip
    """A row of source rows in turn, in vectors that are shorter towards its end."""
    source, target = places
    item_bytes = int(element[1:]) // 8
    count = f.div(a["width"], sources)
    begin: Operand = 0
    while lanes:
        end = f.mul(f.div(count, lanes), lanes)
        type_ = vector_type(lanes, element)
        with f.loop(begin, end, lanes) as i:
            parts = []
            for number in range(sources):
                place = f.at(source, f.add(f.mul(a["source_pitch"], number), i), element)
                parts.append(f.load(type_, place, item_bytes))
            first = f.at(target, f.mul(i, sources), element)
            for j, vector in enumerate(interleave(f, parts, lanes)):
                f.store(vector, f.at(first, j * lanes, element), item_bytes)
        begin, lanes = end, lanes // 2


def _one_by_one(f: Function, a: dict[str, Value], places: tuple[Value, Value], element: str) -> None:
    """A row of elements from anywhere."""
    source, target = places
    item_bytes = int(element[1:]) // 8
    whole = f.mul(f.div(a["width"], _UNROLLED), _UNROLLED)
    for step, begin, end in ((_UNROLLED, 0, whole), (1, whole, a["width"])):
        with f.loop(begin, end, step) as i:
            for place in (f.add(i, j) for j in range(step)):
                at = f.at(source, f.load_i32(a["columns_at"], place), element)
                f.store(f.load(element, at, item_bytes), f.at(target, place, element), item_bytes)
