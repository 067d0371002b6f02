"""The arithmetic of steps: each operation of `planner.steps` on a vector or a scalar, with torch's own bits.

Torch compiles its operators with fused multiply-adds where a product meets a sum, so a batch norm is two of
them. What compares passes NaN on, and a zero with its sign, as the instructions do that torch uses. Of the
16-bit types every operator of torch computes in float32 and rounds its result, so steps do, too.

`launch.steps.check` compares all of it with the torch that is there.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import Element
from outstride.engine.codegen.ir import Value
from outstride.engine.codegen.registers import fused
from outstride.engine.codegen.steps.arithmetic import (
    at_least,
    at_most,
    binary,
    constant,
    negated,
    rounded_to,
    where,
)
from outstride.engine.codegen.steps.exponentials import expm1_of_negative, one_plus_exp_of_negated
from outstride.engine.codegen.steps.gelu import gelu, gelu_by_series
from outstride.engine.planner.steps import EXACT, Step

#: Kinds whose number torch rounds to the type of the elements; of others it takes it as it computes.
_STORED = frozenset(("add", "subtract", "hardtanh"))


def prepare(k: Vectors, step: Step, vectors: Sequence[Value | None]) -> tuple[Value, ...]:
    """What a step needs of its vectors over channels, for a channel or for one in each lane.

    `vectors` has an entry for each operand, None for those left out; they are accumulators.
    """
    if step.kind != "batch_norm":
        return tuple(vector for vector in vectors if vector is not None)
    mean, variance, weight, bias = vectors
    assert mean is not None, "a batch norm has a mean"
    assert variance is not None, "a batch norm has a variance"
    total = elements.plus(k.f, variance, _number(k, step, 0))
    root = k.f.call(k.vector, f"llvm.sqrt.{'v' + str(k.lanes) if k.lanes > 1 else ''}{k.e.mangled}", total)
    inverse = binary(k, "fdiv", constant(k, 1.0), root)
    scale = binary(k, "fmul", inverse, constant(k, 1.0) if weight is None else weight)
    start = constant(k, 0.0) if bias is None else bias
    if k.e.dtype == "float16":  # there this torch rounds the product
        return scale, binary(k, "fsub", start, binary(k, "fmul", mean, scale))
    return scale, fused(k, negated(k, mean), scale, start)


def prepared_count(step: Step) -> int:
    """How many values `prepare` makes."""
    return 2 if step.kind == "batch_norm" else step.given.count("channel")


def apply(k: Vectors, steps: Sequence[Step], value: Value, operands: Sequence[Sequence[Value]]) -> Value:
    """The steps, one after the other, on a value that is as it would be stored; the last result as it is.

    `operands` has what each step takes: of vectors over channels what `prepare` made of them, of tensors
    the elements at the value's place. Of the 16-bit types what is between two steps is rounded.
    """
    for number, (step, own) in enumerate(zip(steps, operands, strict=True)):
        if number and steps[number - 1].kind not in EXACT:
            value = rounded(k, value)
        value = _ARITHMETIC[step.kind](k, step, value, own)
    return value


def rounded(k: Vectors, value: Value) -> Value:
    """A value as it would be stored, in its accumulator."""
    return elements.widen(k.f, k.e, elements.narrow(k.f, k.e, value, k.lanes), k.lanes)


def _number(k: Vectors, step: Step, index: int) -> Value:
    """A number of a step, as torch's operator takes it."""
    number = step.numbers[index]
    assert number is not None, "a number that is not left out"
    return constant(k, _stored(k.e, number) if step.kind in _STORED else number)


def _stored(e: Element, number: float) -> float:
    """A number as the type of the elements has it."""
    if e.dtype == "float16":
        return rounded_to("e", number)
    if e.dtype != "bfloat16":
        return number
    (bits,) = struct.unpack("<I", struct.pack("<f", rounded_to("f", number)))
    kept = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    (value,) = struct.unpack("<f", struct.pack("<I", kept))
    return float(value)


_Arithmetic = Callable[[Vectors, Step, Value, Sequence[Value]], Value]


def _batch_norm(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
    del step
    scale, shift = own
    return fused(k, value, scale, shift)


def _relu(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
    del step, own
    return at_least(k, value, constant(k, 0.0))


def _leaky_relu(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
    del own
    lower = binary(k, "fmul", value, _number(k, step, 0))
    return where(k, "olt", constant(k, 0.0), value, value, lower)


def _prelu(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
    del step
    lower = binary(k, "fmul", own[0], value)
    return where(k, "olt", constant(k, 0.0), value, value, lower)


def _hardtanh(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
    del own
    low, high = step.numbers
    if low is not None:
        value = at_least(k, value, _number(k, step, 0))
    return value if high is None else at_most(k, value, _number(k, step, 1))


def _six_wide(k: Vectors, value: Value) -> Value:
    """min(max(value + 3, 0), 6)."""
    raised = binary(k, "fadd", value, constant(k, 3.0))
    return at_most(k, at_least(k, raised, constant(k, 0.0)), constant(k, 6.0))


def _hardsigmoid(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
    del step, own
    return binary(k, "fdiv", _six_wide(k, value), constant(k, 6.0))


def _hardswish(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
    del step, own
    return binary(k, "fdiv", binary(k, "fmul", value, _six_wide(k, value)), constant(k, 6.0))


def _abs(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
    del step, own
    return k.f.call(k.vector, f"llvm.fabs.{'v' + str(k.lanes) if k.lanes > 1 else ''}{k.e.mangled}", value)


def _neg(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
    del step, own
    return negated(k, value)


def _square(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
    del step, own
    return binary(k, "fmul", value, value)


def _silu(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
    del step, own
    return binary(k, "fdiv", value, one_plus_exp_of_negated(k, value))


def _sigmoid(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
    del step, own
    return binary(k, "fdiv", constant(k, 1.0), one_plus_exp_of_negated(k, value))


def _elu(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
    del own
    scaled = _scaled(k, step, value)
    below = expm1_of_negative(k, scaled)
    _, _, input_scale = step.numbers
    if input_scale is not None and input_scale < 1.0:  # what is scaled may be -0
        below = where(k, "oeq", scaled, constant(k, 0.0), scaled, below)
    return _of_two_signs(k, step, value, below)


def _scaled(k: Vectors, step: Step, value: Value) -> Value:
    """What an ELU takes the exponential of."""
    return binary(k, "fmul", value, _number(k, step, 2))


def _of_two_signs(k: Vectors, step: Step, value: Value, below: Value) -> Value:
    """An ELU of which is known what is below zero, but for its factor, which torch rounds."""
    alpha, scale, _ = step.numbers
    assert alpha is not None, "an ELU has three numbers"
    assert scale is not None, "an ELU has three numbers"
    factor = constant(k, rounded_to("f", alpha) * rounded_to("f", scale))
    above = binary(k, "fmul", value, constant(k, scale))
    return where(k, "oge", value, constant(k, 0.0), above, binary(k, "fmul", below, factor))


#: What torch calls of the C library for single elements of steps of `IN_VECTORS`.
OF_SINGLE: Mapping[str, str] = {"silu": "expf", "sigmoid": "expf", "elu": "expm1f"}


def of_single(k: Vectors, step: Step, value: Value, function: Value) -> Value:
    """A step of `IN_VECTORS` on a single element, as torch does it: by its function of `OF_SINGLE`."""
    given = _scaled(k, step, value) if step.kind == "elu" else negated(k, value)
    power = k.f.emit(value.type, f"call {value.type} {function.name}({value.type} {given.name})")
    if step.kind == "elu":
        return _of_two_signs(k, step, value, power)
    below = binary(k, "fadd", constant(k, 1.0), power)
    return binary(k, "fdiv", value if step.kind == "silu" else constant(k, 1.0), below)


def _of_two(opcode: str) -> _Arithmetic:
    def compute(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
        return binary(k, opcode, value, own[0] if own else _number(k, step, 0))

    return compute


_ARITHMETIC: Mapping[str, _Arithmetic] = {
    "batch_norm": _batch_norm,
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "hardtanh": _hardtanh,
    "hardswish": _hardswish,
    "hardsigmoid": _hardsigmoid,
    "prelu": _prelu,
    "abs": _abs,
    "neg": _neg,
    "square": _square,
    "silu": _silu,
    "sigmoid": _sigmoid,
    "elu": _elu,
    "add": _of_two("fadd"),
    "subtract": _of_two("fsub"),
    "multiply": _of_two("fmul"),
    "divide": _of_two("fdiv"),
    "gelu": lambda k, _, value, __: gelu(k, value),
    "gelu_by_series": lambda k, _, value, __: gelu_by_series(k, value),
}
