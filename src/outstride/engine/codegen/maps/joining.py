"""Rows of two tensors put one behind the other, as integers; where one has none the other is copied."""

from __future__ import annotations

from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, module, vector_type
from outstride.engine.codegen.tasks import read_arguments, take_tasks
from outstride.engine.planner.machine import InstructionSet

#: The argument block: row r of y is `x_width` elements at r * `x_pitch` of x, and behind them `z_width` at
#: r * `z_pitch` of z; rows of y are `y_pitch` apart. A task has `block_rows` of `rows`.
JOINING_ARGUMENTS = (
    "x_at", "z_at", "y_at", "scratch_at", "scratch_bytes", "tasks",
    "rows", "block_rows", "x_width", "x_pitch", "z_width", "z_pitch", "y_pitch",
)  # fmt: skip
JOINING_INDEX = {name: i for i, name in enumerate(JOINING_ARGUMENTS)}

#: Vectors at a time.
_VECTORS = 4


def joining_source(item_bytes: int, isa: InstructionSet) -> str:
    """The LLVM IR of the kernel for numbers of so many bytes."""
    f = Function("task", [("block", PTR), ("scratch", PTR), ("task", I64)], internal=True)
    block, _, task = f.parameters
    a, element, lanes = read_arguments(f, block, JOINING_INDEX), f"i{8 * item_bytes}", isa.lanes(item_bytes)
    first = f.mul(task, a["block_rows"])
    with f.loop(first, f.minimum(f.add(first, a["block_rows"]), a["rows"])) as row:
        there = f.at(a["y_at"], f.mul(row, a["y_pitch"]), element)
        behind = f.at(there, a["x_width"], element)
        for name, target in (("x", there), ("z", behind)):
            here = f.at(a[f"{name}_at"], f.mul(row, a[f"{name}_pitch"]), element)
            copy_row(f, element, lanes, here, target, a[f"{name}_width"])
    return module([f, take_tasks(JOINING_INDEX)], f"outstride joining_{item_bytes}")


def copy_row(
    f: Function, element: str, lanes: int, source: Value, target: Value, count: Operand
) -> None:  # fmt: skip
    """Copy so many elements that lie side by side."""
    item_bytes = int(element[1:]) // 8

    def move(place: Operand, lanes: int) -> None:
        value = f.load(vector_type(lanes, element), f.at(source, place, element), item_bytes)
        f.store(value, f.at(target, place, element), item_bytes)

    if count == 1:
        move(0, 1)
        return
    many = _VECTORS * lanes
    bulk = f.mul(f.div(count, many), many)
    with f.loop(0, bulk, many) as i:
        for v in range(_VECTORS):
            move(f.add(i, v * lanes), lanes)
    begin: Operand = bulk
    while lanes:
        end = f.mul(f.div(count, lanes), lanes)
        with f.loop(begin, end, lanes) as i:
            move(i, lanes)
        begin, lanes = end, lanes // 2
