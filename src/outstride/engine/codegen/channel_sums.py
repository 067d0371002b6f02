"""The gradient of a bias: every channel's sum over batch and space.

Sixteen lanes in float64 on every machine, element i of an image in lane i % 16, the images one after another,
folded in halves at the end: the order is one, whatever the threads or the instruction set. In float64 the sum
of millions of float32 is right to their last digit, at the speed of memory.
"""

from __future__ import annotations

from outstride.engine.codegen import elements
from outstride.engine.codegen.dots import fold
from outstride.engine.codegen.elements import ELEMENTS, Element
from outstride.engine.codegen.ir import I64, PTR, Function, Value, module, vector_type
from outstride.engine.codegen.tasks import read_arguments, take_tasks

LANES = 16

#: The argument block: data (batch, channels, positions), contiguous, to result (channels,).
CHANNEL_SUMS_ARGUMENTS = (
    "data_at", "result_at", "scratch_at", "next_task", "next_worker", "scratch_bytes", "tasks",
    "batch", "positions",
)  # fmt: skip
CHANNEL_SUMS_INDEX = {name: i for i, name in enumerate(CHANNEL_SUMS_ARGUMENTS)}


def channel_sums_source(dtype: str) -> str:
    """The LLVM IR of the kernel of a dtype; a task is a channel."""
    return module([_task(ELEMENTS[dtype]), take_tasks(CHANNEL_SUMS_INDEX)], f"outstride channel_sums_{dtype}")


def _task(e: Element) -> Function:
    f = Function("task", [("block", PTR), ("scratch", PTR), ("channel", I64)], internal=True)
    block, _, channel = f.parameters
    a = read_arguments(f, block, CHANNEL_SUMS_INDEX)
    vector = vector_type(LANES, "double")
    sums = f.variable(vector, Value("zeroinitializer", vector))

    def add(loaded: Value) -> None:
        wide = loaded if e.accumulator == "double" else f.emit(vector, _extended(loaded))
        f.set(sums, elements.plus(f, f.get(sums, vector), wide))

    whole = f.mul(f.div(a["positions"], LANES), LANES)
    with f.loop(0, a["batch"]) as image:
        start = f.mul(f.add(f.mul(image, a["tasks"]), channel), a["positions"])
        row = f.at(a["data_at"], start, e.storage)
        with f.loop(0, whole, LANES) as i:
            add(elements.load(f, e, f.at(row, i, e.storage), LANES))
        with f.when(f.compare("slt", whole, a["positions"])):
            rest = f.sub(a["positions"], whole)
            add(elements.load_first(f, e, f.at(row, whole, e.storage), LANES, rest))
    total = fold(f, ELEMENTS["float64"], f.get(sums, vector), LANES)
    if e.accumulator != "double":
        total = f.emit(e.accumulator, f"fptrunc double {total.name} to {e.accumulator}")
    elements.store(f, e, total, f.at(a["result_at"], channel, e.storage), 1)
    return f


def _extended(value: Value) -> str:
    return f"fpext {value.type} {value.name} to {vector_type(LANES, 'double')}"
