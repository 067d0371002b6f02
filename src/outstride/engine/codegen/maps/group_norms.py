"""Group norms: the moments of a group, and its elements normalised, with a chain of steps.

A task is a group of an image: some channels, which are neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import ELEMENTS
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, module
from outstride.engine.codegen.maps.moments import row_moments
from outstride.engine.codegen.maps.row_map import map_row
from outstride.engine.codegen.registers import fused
from outstride.engine.codegen.steps.chains import Chain, Ready
from outstride.engine.codegen.tasks import read_arguments, take_tasks
from outstride.engine.planner.machine import InstructionSet
from outstride.engine.planner.steps import Step, steps_name

#: The argument block: x and y of `tasks` groups of `width` channels of `positions` float32 elements; the
#: channels of an image are those of `groups`. `eps` is the bits of a double; weight and bias may be null.
GROUP_NORM_ARGUMENTS = (
    "x_at", "y_at", "weight_at", "bias_at", "operands_at", "scratch_at",
    "scratch_bytes", "tasks", "positions", "groups", "width", "levels", "eps",
)  # fmt: skip
GROUP_NORM_INDEX = {name: i for i, name in enumerate(GROUP_NORM_ARGUMENTS)}


def group_norm_source(chain: Sequence[Step], isa: InstructionSet, is_plain: bool) -> str:
    """The LLVM IR of the kernel of a norm and the chain behind it; plain is one without weight and bias."""
    f = Function("task", [("block", PTR), ("scratch", PTR), ("task", I64)], internal=True)
    block, scratch, task = f.parameters
    e = ELEMENTS["float32"]
    k = Vectors(f, e, isa.lanes(e.accumulator_bytes))
    a = read_arguments(f, block, GROUP_NORM_INDEX)
    count = f.mul(a["width"], a["positions"])
    start = f.mul(task, count)
    mean, variance = row_moments(k, f.at(a["x_at"], start, e.storage), count, a["levels"], scratch)
    inverse = _inverse_root(k, variance, a["eps"])
    steps = Chain.of(k, chain, a["operands_at"])
    first = f.mul(f.rem(task, a["groups"]), a["width"])
    with f.loop(0, a["width"]) as number:
        channel = f.add(first, number)
        ready = steps.of_channel(k, channel)
        begin = f.add(start, f.mul(number, a["positions"]))
        numbers = (mean, inverse) if is_plain else _affine(k, a, channel, mean, inverse)
        low, high = (elements.broadcast(f, value, k.lanes) for value in numbers)

        def normalised(
            value: Value, place: Operand, inside: Value | None, ready: Ready = ready, begin: Operand = begin,
            low: Value = low, high: Value = high,
        ) -> Value:  # fmt: skip
            if is_plain:
                apart = f.emit(k.vector, f"fsub {k.vector} {value.name}, {low.name}")
                made = f.emit(k.vector, f"fmul {k.vector} {apart.name}, {high.name}")
            else:
                made = fused(k, value, low, high)
            return ready.apply(k, made, f.add(begin, place), inside)

        source, target = (f.at(a[name], begin, e.storage) for name in ("x_at", "y_at"))
        map_row(k, source, target, a["positions"], normalised)
    name = f"group_norm{'_plain' if is_plain else ''}{steps_name(chain)}"
    return module([f, take_tasks(GROUP_NORM_INDEX)], f"outstride {name}")


def _inverse_root(k: Vectors, variance: Value, eps: Value) -> Value:
    """1 / sqrt(variance + eps) in float64, rounded."""
    f = k.f
    wide = f.emit("double", f"fpext float {variance.name} to double")
    raised = elements.plus(f, wide, f.emit("double", f"bitcast i64 {eps.name} to double"))
    root = f.call("double", "llvm.sqrt.f64", raised)
    inverse = f.emit("double", f"fdiv double 1.0, {root.name}")
    return f.emit("float", f"fptrunc double {inverse.name} to float")


def _affine(
    k: Vectors, a: dict[str, Value], channel: Operand, mean: Value, inverse: Value
) -> tuple[Value, Value]:  # fmt: skip
    """The scale and the shift of a channel."""
    f, one = k.f, Vectors(k.f, k.e, 1)
    weight = _entry(k, a["weight_at"], channel, "1.0")
    bias = _entry(k, a["bias_at"], channel, "0.0")
    scale = f.emit("float", f"fmul float {inverse.name}, {weight.name}")
    negated = f.emit("float", f"fneg float {scale.name}")
    return scale, fused(one, negated, mean, bias)


def _entry(k: Vectors, base: Value, channel: Operand, fill: str) -> Value:
    """A channel's number of a vector, or `fill` where there is none."""
    f = k.f
    value = f.variable("float")
    f.set(value, Value(fill, "float"))
    with f.when(f.emit("i1", f"icmp ne ptr {base.name}, null")):
        f.set(value, f.load("float", f.at(base, channel, "float"), 4))
    return f.get(value, "float")
