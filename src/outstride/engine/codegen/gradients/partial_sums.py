"""From the partial sums of a weight gradient to the gradient: splits added in order, transposed, rounded.

Partial sums lie [split][group][block of outputs][(channel, tap)][output of the block], the gradient
[group][output][(channel, tap)]; squares are transposed in registers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import ELEMENTS, Element
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, module
from outstride.engine.codegen.packing.transpose import transpose
from outstride.engine.codegen.tasks import read_arguments, take_tasks
from outstride.engine.planner.machine import InstructionSet

PARTIAL_SUMS_ARGUMENTS = (
    "partial_at", "result_at", "scratch_at", "scratch_bytes", "tasks",
    "splits", "split_stride", "output_blocks", "width", "outputs", "rows", "rows_per_task", "slabs",
)  # fmt: skip
PARTIAL_SUMS_INDEX = {name: i for i, name in enumerate(PARTIAL_SUMS_ARGUMENTS)}


def partial_sums_source(dtype: str, isa: InstructionSet) -> str:
    """The LLVM IR of the kernel of a dtype; a task is a slab of rows of one block of outputs."""
    e = ELEMENTS[dtype]
    functions = [_task(e, isa.lanes(e.accumulator_bytes)), take_tasks(PARTIAL_SUMS_INDEX)]
    return module(functions, f"outstride partial_sums_{dtype}_{isa.name}")


def _task(e: Element, lanes: int) -> Function:
    f = Function("task", [("block", PTR), ("scratch", PTR), ("number", I64)], internal=True)
    block, _, number = f.parameters
    a = read_arguments(f, block, PARTIAL_SUMS_INDEX)
    part, begin = f.div(number, a["slabs"]), f.mul(f.rem(number, a["slabs"]), a["rows_per_task"])
    end = f.minimum(f.add(begin, a["rows_per_task"]), a["rows"])
    first = f.mul(f.rem(part, a["output_blocks"]), a["width"])
    outputs = f.minimum(a["width"], f.sub(a["outputs"], first))
    source = f.at(a["partial_at"], f.mul(f.mul(part, a["rows"]), a["width"]), e.accumulator)
    line = f.add(f.mul(f.div(part, a["output_blocks"]), a["outputs"]), first)
    target = f.at(a["result_at"], f.mul(line, a["rows"]), e.storage)
    k = Vectors(f, e, lanes)
    write_rows(k, partial(_square, k, a, source), target, a["rows"], (begin, end), outputs)
    return f


def write_rows(
    k: Vectors, square: Callable[[Operand, Operand], list[Value]], target: Value, pitch: Operand,
    rows: tuple[Operand, Operand], outputs: Operand,
) -> None:  # fmt: skip
    """Write rows [begin, end) of sums of so many outputs, whose gradients lie `pitch` apart, rounded once.

    `square` makes the vectors of as many rows as there are lanes, from a row and an output on.
    """
    f, e, lanes = k.f, k.e, k.lanes
    begin, end = rows
    with f.loop(begin, end, lanes) as row, f.loop(0, outputs, lanes) as output:
        for j, column in enumerate(transpose(f, square(row, output), lanes)):
            own = f.add(output, j)
            with f.when(f.compare("slt", own, outputs)):
                place = f.at(target, f.add(f.mul(own, pitch), row), e.storage)
                elements.store_first(f, e, column, place, lanes, f.sub(end, row))


def sums_of_rows(
    k: Vectors, sums: Value, width: Operand, rows: Operand, at: tuple[Operand, Operand]
) -> list[Value]:  # fmt: skip
    """Sums of as many rows as there are lanes, from one and an output on; the last row stands for others."""
    f, e, (row, output) = k.f, k.e, at
    last = f.sub(rows, 1)
    places = (f.add(f.mul(f.minimum(f.add(row, i), last), width), output) for i in range(k.lanes))
    loaded = (f.load(k.vector, f.at(sums, n, e.accumulator), e.accumulator_bytes) for n in places)
    # Whether terms that add zero were left out shows in the sign of a zero, and no more once +0 is added.
    return [elements.plus(f, each, elements.zero(e, k.lanes)) for each in loaded]


def _square(k: Vectors, a: dict[str, Value], source: Value, row: Operand, output: Operand) -> list[Value]:
    """The totals of as many rows as there are lanes; the last row stands for those beyond it."""
    f, e, vector = k.f, k.e, k.vector
    last = f.sub(a["rows"], 1)
    places = [
        f.at(source, f.add(f.mul(f.minimum(f.add(row, i), last), a["width"]), output), e.accumulator)
        for i in range(k.lanes)
    ]
    totals = [f.variable(vector, f.load(vector, place, e.accumulator_bytes)) for place in places]
    with f.loop(1, a["splits"]) as split:
        for place, total in zip(places, totals, strict=True):
            other = f.at(place, f.mul(split, a["split_stride"]), e.accumulator)
            part = f.load(vector, other, e.accumulator_bytes)
            f.set(total, elements.plus(f, f.get(total, vector), part))
    # Whether terms that add zero were left out shows in the sign of a zero, and no more once +0 is added.
    nothing = elements.zero(e, k.lanes)
    return [elements.plus(f, f.get(total, vector), nothing) for total in totals]
