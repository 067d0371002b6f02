"""The weight gradient of a matrix that few rows went through: sums of outer products, written where they lie.

    for outputs, a few at a time, for vectors of channels, a few at a time:
        for row:  acc[output][vector] = fma(y[row][output], x[row][vector], acc[output][vector])

Both operands are read as they are: to pack them, and to bring sums of other vectors in the gradient's order,
costs as much as summing a few rows. The order of the sum is that of `codegen.gradient` for one box.
"""

from __future__ import annotations

from collections.abc import Mapping

from outstride.engine.codegen import elements
from outstride.engine.codegen.arguments import FEW_ROWS_INDEX
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import ELEMENTS
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, module
from outstride.engine.codegen.registers import add_products, zero_sums
from outstride.engine.codegen.tasks import read_arguments, take_tasks
from outstride.engine.planner.machine import InstructionSet


def few_rows_source(dtype: str, isa: InstructionSet) -> str:
    """The LLVM IR of the kernel of a dtype; a task is some outputs."""
    functions = [_task(dtype, isa), take_tasks(FEW_ROWS_INDEX)]
    return module(functions, f"outstride few_rows_{dtype}_{isa.name}")


def _task(dtype: str, isa: InstructionSet) -> Function:
    """All channels of some outputs, as many at a time as there are sums in registers."""
    e = ELEMENTS[dtype]
    f = Function("task", [("block", PTR), ("scratch", PTR), ("number", I64)], internal=True)
    block, _, number = f.parameters
    a = read_arguments(f, block, FEW_ROWS_INDEX)
    k = Vectors(f, e, isa.lanes(e.accumulator_bytes))
    many = isa.registers == 32
    outputs, vectors = (8, 3) if many else (4, 2)
    width = vectors * k.lanes
    whole = f.mul(f.div(a["channels"], width), width)
    begin = f.mul(number, a["outputs_per_task"])
    end = f.minimum(f.add(begin, a["outputs_per_task"]), a["outputs"])
    with f.loop(begin, end, outputs) as first:
        # The last output stands for those beyond it.
        own = [f.minimum(f.add(first, i), f.sub(end, 1)) for i in range(outputs)]
        with f.loop(0, whole, width) as channel:
            _sum(k, a, own, channel, vectors, None)
        with f.loop(whole, a["channels"], k.lanes) as channel:
            _sum(k, a, own, channel, 1, elements.first_lanes(f, f.sub(a["channels"], channel), k.lanes))
    return f


def _sum(
    k: Vectors, a: Mapping[str, Value], outputs: list[Operand], channel: Operand, vectors: int,
    inside: Value | None,
) -> None:  # fmt: skip
    """The gradients of some outputs in the weights of neighbouring channels; of one vector those `inside`."""
    f, e, lanes = k.f, k.e, k.lanes
    sums = zero_sums(k, len(outputs), vectors)
    with f.loop(0, a["rows"]) as row:
        x = f.at(a["x_at"], f.add(f.mul(row, a["x_stride"]), channel), e.storage)
        y = f.at(a["y_at"], f.mul(row, a["y_stride"]), e.storage)
        if inside is None:
            loaded = [elements.load(f, e, f.at(x, j * lanes, e.storage), lanes) for j in range(vectors)]
        else:
            loaded = [elements.load_masked(f, e, x, lanes, inside)]
        for output, own in zip(outputs, sums, strict=True):
            add_products(k, own, f.at(y, f.mul(output, a["y_stride_m"]), e.storage), loaded)
    for output, own in zip(outputs, sums, strict=True):
        place = f.add(f.mul(output, a["channels"]), channel)
        target = f.at(a["result_at"], place, e.storage)
        for j, total in enumerate(own):
            # +0 as where splits are added: whether a sum of zeros began with +0 does not show.
            value = elements.plus(f, f.get(total, k.vector), elements.zero(e, lanes))
            there = f.at(target, j * lanes, e.storage)
            if inside is None:
                elements.store(f, e, value, there, lanes)
            else:
                elements.store_masked(f, e, value, there, lanes, inside)
