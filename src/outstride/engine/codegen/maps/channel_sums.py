"""The gradient of a bias: every channel's sum over batch and space.

Sixteen lanes in float64 on every machine, element i of an image in lane i % 16, the images one after another,
folded in halves at the end: the order is one, whatever the threads or the instruction set. In float64 the sum
of millions of float32 is right to their last digit, at the speed of memory.

Where channels lie side by side a task sums some of them together, position by position, with a row of sums
for each of the sixteen lanes: the order is the same.
"""

from __future__ import annotations

from outstride.engine.codegen import elements
from outstride.engine.codegen.elements import ELEMENTS, Element
from outstride.engine.codegen.gradients.dots import fold
from outstride.engine.codegen.ir import I64, PTR, Function, Value, module, vector_type
from outstride.engine.codegen.tasks import read_arguments, take_tasks

LANES = 16

#: The argument block: data (batch, channels, positions), contiguous, to result (channels,).
CHANNEL_SUMS_ARGUMENTS = (
    "data_at", "result_at", "scratch_at", "scratch_bytes", "tasks",
    "batch", "positions",
)  # fmt: skip
CHANNEL_SUMS_INDEX = {name: i for i, name in enumerate(CHANNEL_SUMS_ARGUMENTS)}

#: Channels side by side that a task sums together, whose rows of sums stay in the first-level cache, and
#: those of a vector.
TOGETHER, VECTOR = 128, 8
SCRATCH_BYTES = LANES * TOGETHER * 8
#: The argument block: data of `channels` side by side, so many elements from position to position and from
#: image to image, to result (channels,).
TOGETHER_ARGUMENTS = (*CHANNEL_SUMS_ARGUMENTS, "channels", "position_pitch", "image_pitch")
TOGETHER_INDEX = {name: i for i, name in enumerate(TOGETHER_ARGUMENTS)}


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


def _extended(value: Value, lanes: int = LANES) -> str:
    return f"fpext {value.type} {value.name} to {vector_type(lanes, 'double')}"


def sums_together_source(dtype: str) -> str:
    """The LLVM IR of the kernel of a dtype for channels side by side; a task is some of them."""
    functions = [_task_together(ELEMENTS[dtype]), take_tasks(TOGETHER_INDEX)]
    return module(functions, f"outstride sums_together_{dtype}")


def _task_together(e: Element) -> Function:
    f = Function("task", [("block", PTR), ("scratch", PTR), ("number", I64)], internal=True)
    block, sums, number = f.parameters
    a = read_arguments(f, block, TOGETHER_INDEX)
    first = f.mul(number, TOGETHER)
    count = f.minimum(TOGETHER, f.sub(a["channels"], first))
    data = f.at(a["data_at"], first, e.storage)
    vector = vector_type(VECTOR, "double")
    with f.loop(0, LANES * TOGETHER, VECTOR) as i:
        f.store(Value("zeroinitializer", vector), f.at(sums, i, "double"), 8)

    def add(lanes: int, element: Value, place: Value) -> None:
        loaded = elements.load(f, e, element, lanes)
        wide = vector_type(lanes, "double")
        own = loaded if e.accumulator == "double" else f.emit(wide, _extended(loaded, lanes))
        f.store(elements.plus(f, f.load(wide, place, 8), own), place, 8)

    whole = f.mul(f.div(count, VECTOR), VECTOR)
    with f.loop(0, a["batch"]) as image, f.loop(0, a["positions"]) as i:
        start = f.add(f.mul(image, a["image_pitch"]), f.mul(i, a["position_pitch"]))
        line, row = f.at(data, start, e.storage), f.at(sums, f.mul(f.rem(i, LANES), TOGETHER), "double")
        for lanes, begin, end in ((VECTOR, 0, whole), (1, whole, count)):
            with f.loop(begin, end, lanes) as c:
                add(lanes, f.at(line, c, e.storage), f.at(row, c, "double"))
    half = LANES // 2
    while half:
        with f.loop(0, half * TOGETHER, VECTOR) as c:
            near, far = (f.at(sums, f.add(c, start), "double") for start in (0, half * TOGETHER))
            f.store(elements.plus(f, f.load(vector, near, 8), f.load(vector, far, 8)), near, 8)
        half //= 2
    with f.loop(0, count) as c:
        total = f.load("double", f.at(sums, c, "double"), 8)
        if e.accumulator != "double":
            total = f.emit(e.accumulator, f"fptrunc double {total.name} to {e.accumulator}")
        elements.store(f, e, total, f.at(a["result_at"], f.add(first, c), e.storage), 1)
    return f
