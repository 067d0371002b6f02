"""Instance norms: the statistics of some channels, and their elements normalised, with a chain of steps.

A task has as many channels as a vector has lanes, or fewer where threads would be left without. Where there
are fewer the last one takes the other lanes, too.
"""

from __future__ import annotations

from collections.abc import Sequence

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import ELEMENTS
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, module
from outstride.engine.codegen.maps.row_map import map_row
from outstride.engine.codegen.maps.statistics import statistics
from outstride.engine.codegen.registers import fused
from outstride.engine.codegen.steps.chains import Chain, Ready
from outstride.engine.codegen.tasks import read_arguments, take_tasks
from outstride.engine.planner.machine import InstructionSet
from outstride.engine.planner.steps import Step, steps_name

#: The argument block: x and y of `rows` of `positions` float32 elements; row r is of channel r % channels. A
#: task has `group` rows. `eps` is the bits of a double; weight and bias may be null.
INSTANCE_NORM_ARGUMENTS = (
    "x_at", "y_at", "weight_at", "bias_at", "operands_at", "scratch_at",
    "scratch_bytes", "tasks", "rows", "positions", "channels", "group", "eps",
)  # fmt: skip
INSTANCE_NORM_INDEX = {name: i for i, name in enumerate(INSTANCE_NORM_ARGUMENTS)}


def instance_norm_source(chain: Sequence[Step], isa: InstructionSet) -> str:
    """The LLVM IR of the kernel of a norm and the chain behind it."""
    f = Function("task", [("block", PTR), ("scratch", PTR), ("task", I64)], internal=True)
    block, scratch, task = f.parameters
    e = ELEMENTS["float32"]
    k = Vectors(f, e, isa.lanes(e.accumulator_bytes))
    a = read_arguments(f, block, INSTANCE_NORM_INDEX)
    lanes = k.lanes
    first = f.mul(task, a["group"])
    last = f.sub(f.minimum(f.add(first, a["group"]), a["rows"]), 1)
    numbers = [f.minimum(f.add(first, i), last) for i in range(lanes)]
    rows = [f.at(a["x_at"], f.mul(number, a["positions"]), e.storage) for number in numbers]
    eps = f.emit("double", f"bitcast i64 {a['eps'].name} to double")
    mean, inverse = statistics(k, rows, a["positions"], eps, scratch)
    places = [f.at(scratch, part * lanes, e.storage) for part in range(2)]
    for values, fill, place in (("weight_at", 1.0, places[0]), ("bias_at", 0.0, places[1])):
        _gather(k, a, values, fill, first, last, place)
    weight, bias = (elements.load(f, e, place, lanes) for place in places)
    scale = f.emit(k.vector, f"fmul {k.vector} {inverse.name}, {weight.name}")
    negated = f.emit(k.vector, f"fneg {k.vector} {mean.name}")
    for value, place in zip((scale, fused(k, negated, scale, bias)), places, strict=True):
        elements.store(f, e, value, place, lanes)
    _normalise(k, a, Chain.of(k, chain, a["operands_at"]), (first, last), places)
    return module([f, take_tasks(INSTANCE_NORM_INDEX)], f"outstride instance_norm{steps_name(chain)}")


def _gather(
    k: Vectors, a: dict[str, Value], name: str, fill: float, first: Operand, last: Operand, target: Value
) -> None:  # fmt: skip
    """Write the numbers of the channels of rows, or `fill` where there are none."""
    f, e, source = k.f, k.e, a[name]
    absent = f.emit("i1", f"icmp eq ptr {source.name}, null")
    value = f.variable(e.storage)
    with f.loop(0, k.lanes) as i:
        f.set(value, Value(str(fill), e.storage))
        with f.when(f.negate(absent)):
            channel = f.rem(f.minimum(f.add(first, i), last), a["channels"])
            f.set(value, f.load(e.storage, f.at(source, channel, e.storage), e.storage_bytes))
        f.store(f.get(value, e.storage), f.at(target, i, e.storage), e.storage_bytes)


def _normalise(
    k: Vectors, a: dict[str, Value], chain: Chain, rows: tuple[Operand, Operand], places: Sequence[Value]
) -> None:  # fmt: skip
    """Write rows [first, last], each with its scale and shift, and the chain on them."""
    f, e = k.f, k.e
    first, last = rows
    with f.loop(first, f.add(last, 1)) as row:
        number = f.sub(row, first)
        scale, shift = (
            elements.broadcast(f, elements.load(f, e, f.at(place, number, e.storage), 1), k.lanes)
            for place in places
        )
        ready = chain.of_channel(k, f.rem(row, a["channels"]))
        start = f.mul(row, a["positions"])

        def normalised(
            value: Value, place: Operand, inside: Value | None, ready: Ready = ready,
            scale: Value = scale, shift: Value = shift, start: Operand = start,
        ) -> Value:  # fmt: skip
            return ready.apply(k, fused(k, value, scale, shift), f.add(start, place), inside)

        source, target = (f.at(a[name], start, e.storage) for name in ("x_at", "y_at"))
        map_row(k, source, target, a["positions"], normalised)
