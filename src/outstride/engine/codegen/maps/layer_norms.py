"""Layer norms: the moments of some rows, and their elements normalised.

A task has as many rows as torch's vectors have lanes; the last one takes the lanes that are left.
"""

from __future__ import annotations

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import ELEMENTS
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, module
from outstride.engine.codegen.maps.moments import ROOM_BYTES, WIDTH, moments_of_rows
from outstride.engine.codegen.maps.row_map import map_row
from outstride.engine.codegen.registers import fused
from outstride.engine.codegen.tasks import read_arguments, take_tasks
from outstride.engine.planner.machine import InstructionSet

#: The argument block: x and y of `rows` of `positions` float32 elements; `eps` is the bits of a float32. A
#: chain's counter takes `room_pitch` bytes of scratch.
LAYER_NORM_ARGUMENTS = (
    "x_at", "y_at", "weight_at", "bias_at", "scratch_at", "scratch_bytes",
    "tasks", "rows", "positions", "levels", "eps",
    "room_pitch",
)  # fmt: skip
LAYER_NORM_INDEX = {name: i for i, name in enumerate(LAYER_NORM_ARGUMENTS)}
#: Bytes of scratch: the chains' counters, and a square of vectors.
LAYER_NORM_ROOM_BYTES = WIDTH * (ROOM_BYTES + 4 * WIDTH)


def layer_norm_source(isa: InstructionSet, weight: bool, bias: bool) -> str:
    """The LLVM IR of the kernel of a norm with a weight, a bias, or neither."""
    f = Function("task", [("block", PTR), ("scratch", PTR), ("task", I64)], internal=True)
    block, scratch, task = f.parameters
    e = ELEMENTS["float32"]
    k, eight = Vectors(f, e, isa.lanes(e.accumulator_bytes)), Vectors(f, e, WIDTH)
    a = read_arguments(f, block, LAYER_NORM_INDEX)
    first = f.mul(task, WIDTH)
    last = f.sub(f.minimum(f.add(first, WIDTH), a["rows"]), 1)
    numbers = [f.minimum(f.add(first, i), last) for i in range(WIDTH)]
    rows = [f.at(a["x_at"], f.mul(number, a["positions"]), e.storage) for number in numbers]
    mean, variance = moments_of_rows(eight, rows, a["positions"], a["levels"], scratch, a["room_pitch"])
    inverse = _inverse_root(eight, variance, a["eps"])
    places = [f.at(scratch, part * WIDTH, e.storage) for part in range(2)]
    for value, place in zip((mean, inverse), places, strict=True):
        elements.store(f, e, value, place, WIDTH)
    with f.loop(first, f.add(last, 1)) as row:
        number = f.sub(row, first)
        low, high = (
            elements.broadcast(f, elements.load(f, e, f.at(place, number, e.storage), 1), k.lanes)
            for place in places
        )

        def normalised(
            value: Value, place: Operand, inside: Value | None, low: Value = low, high: Value = high
        ) -> Value:
            apart = f.emit(k.vector, f"fsub {k.vector} {value.name}, {low.name}")
            made = f.emit(k.vector, f"fmul {k.vector} {apart.name}, {high.name}")
            shift = _read(k, a["bias_at"], place, inside) if bias else elements.zero(e, k.lanes)
            if weight:
                return fused(k, made, _read(k, a["weight_at"], place, inside), shift)
            return elements.plus(f, made, shift)

        start = f.mul(row, a["positions"])
        source, target = (f.at(a[name], start, e.storage) for name in ("x_at", "y_at"))
        map_row(k, source, target, a["positions"], normalised)
    name = f"layer_norm{'_weight' if weight else ''}{'_bias' if bias else ''}"
    return module([f, take_tasks(LAYER_NORM_INDEX)], f"outstride {name}")


def _read(k: Vectors, base: Value, place: Operand, inside: Value | None) -> Value:
    pointer = k.f.at(base, place, k.e.storage)
    if inside is None:
        return elements.load(k.f, k.e, pointer, k.lanes)
    return elements.load_masked(k.f, k.e, pointer, k.lanes, inside)


def _inverse_root(k: Vectors, variance: Value, eps: Value) -> Value:
    """1 / sqrt(variance + eps) in float32."""
    f = k.f
    short = f.emit("i32", f"trunc i64 {eps.name} to i32")
    number = elements.broadcast(f, f.emit("float", f"bitcast i32 {short.name} to float"), k.lanes)
    root = f.call(k.vector, f"llvm.sqrt.v{k.lanes}f32", elements.plus(f, variance, number))
    ones = elements.splat_constant("float", k.lanes, "1.0")
    return f.emit(k.vector, f"fdiv {k.vector} {ones}, {root.name}")
