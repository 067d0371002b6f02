"""Pooling: the largest number or the mean of every window, with the bits of torch's own operators.

Torch takes the elements of a window in the order of memory. The largest is the first of equal ones (-0 equals
+0), and NaN is larger than all; a sum is rounded after every element, and divided once.
"""

from __future__ import annotations

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import Element, splat_constant
from outstride.engine.codegen.ir import Operand, Value, vector_type
from outstride.engine.planner.maps.pooling import Kind

AXES = "dhw"

#: The argument block: x (images, *input) to y (images, *output); images have `channels` side by side in
#: memory, or are those of one channel.
POOLING_ARGUMENTS = (
    "x_at", "y_at", "scratch_at", "scratch_bytes", "tasks", "channels",
    *(f"{name}_{axis}" for name in ("input", "output", "kernel", "stride", "padding", "dilation")
      for axis in AXES),
    "block_rows", "blocks", "line_rows", "line_pitch", "residue_pitch", "taps_at",
    *(f"divisors_{axis}_at" for axis in AXES),
)  # fmt: skip
POOLING_INDEX = {name: i for i, name in enumerate(POOLING_ARGUMENTS)}

#: -Inf, of both types.
_LEAST = "0xFFF0000000000000"


def start(kind: Kind, e: Element, lanes: int) -> Value:
    """What a window begins with, and what stands for elements outside the input: it changes no result."""
    text = _LEAST if kind == "max" else "0.0"
    return Value(splat_constant(e.accumulator, lanes, text), vector_type(lanes, e.accumulator))


def joined(k: Vectors, kind: Kind, found: Value, value: Value) -> Value:
    """The result of the elements so far with one more."""
    f, type_ = k.f, value.type
    if kind == "average":
        return elements.plus(f, found, value)
    condition = vector_type(k.lanes, "i1")
    larger = f.emit(condition, f"fcmp ogt {type_} {value.name}, {found.name}")
    nan = f.emit(condition, f"fcmp uno {type_} {value.name}, {value.name}")
    taken = f.emit(condition, f"or {condition} {larger.name}, {nan.name}")
    return f.emit(type_, f"select {condition} {taken.name}, {type_} {value.name}, {type_} {found.name}")


def divided(k: Vectors, total: Value, divisor: Value) -> Value:
    """The mean of a window, of its sum."""
    return k.f.emit(total.type, f"fdiv {total.type} {total.name}, {divisor.name}")


def number(k: Vectors, count: Operand) -> Value:
    """A count as a floating-point number."""
    return k.f.emit(k.e.accumulator, f"sitofp i64 {k.f.ref(count)} to {k.e.accumulator}")


class Window:
    """The taps of an output's window along an axis that lie inside the input: [first, stop)."""

    def __init__(self, k: Vectors, a: dict[str, Value], axis: str, output: Operand) -> None:
        f = k.f
        #: The position of tap 0, which may lie outside.
        self.origin = f.sub(f.mul(output, a[f"stride_{axis}"]), a[f"padding_{axis}"])
        self._f, self._dilation = f, a[f"dilation_{axis}"]
        self.first = f.ceil_div(f.maximum(0, f.sub(0, self.origin)), self._dilation)
        room = f.maximum(0, f.sub(a[f"input_{axis}"], self.origin))
        self.stop = f.minimum(a[f"kernel_{axis}"], f.ceil_div(room, self._dilation))

    def position(self, tap: Operand) -> Operand:
        """Where a tap reads."""
        return self._f.add(self.origin, self._f.mul(tap, self._dilation))
