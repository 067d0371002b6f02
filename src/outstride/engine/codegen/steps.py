"""The arithmetic of steps: each operation of `planner.steps` on a vector or a scalar, with torch's own bits.

Torch compiles its operators with fused multiply-adds where a product meets a sum, so a batch norm is two of
them. What compares passes NaN on, and a zero with its sign, as the instructions do that torch uses. Of the
16-bit types every operator of torch computes in float32 and rounds its result, so steps do, too.

`launch.step_check` compares all of it with the torch that is there.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import Element
from outstride.engine.codegen.gelu import gelu, gelu_by_series
from outstride.engine.codegen.ir import Value, vector_type
from outstride.engine.codegen.registers import fused
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
    inverse = _binary(k, "fdiv", constant(k, 1.0), root)
    scale = _binary(k, "fmul", inverse, constant(k, 1.0) if weight is None else weight)
    start = constant(k, 0.0) if bias is None else bias
    if k.e.dtype == "float16":  # there this torch rounds the product
        return scale, _binary(k, "fsub", start, _binary(k, "fmul", mean, scale))
    return scale, fused(k, _negated(k, mean), scale, start)


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


def constant(k: Vectors, number: float) -> Value:
    """A number in every lane, rounded to the type of accumulators."""
    if k.e.accumulator == "float":
        number = _as("f", number)
    bits = struct.unpack("<Q", struct.pack("<d", number))[0]
    text = f"0x{bits:016X}"
    return Value(
        elements.splat_constant(k.e.accumulator, k.lanes, text), vector_type(k.lanes, k.e.accumulator)
    )


def _number(k: Vectors, step: Step, index: int) -> Value:
    """A number of a step, as torch's operator takes it."""
    number = step.numbers[index]
    assert number is not None, "a number that is not left out"
    return constant(k, _stored(k.e, number) if step.kind in _STORED else number)


def _stored(e: Element, number: float) -> float:
    """A number as the type of the elements has it."""
    if e.dtype == "float16":
        return _as("e", number)
    if e.dtype != "bfloat16":
        return number
    (bits,) = struct.unpack("<I", struct.pack("<f", _as("f", number)))
    kept = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    (value,) = struct.unpack("<f", struct.pack("<I", kept))
    return float(value)


def _as(code: str, number: float) -> float:
    """A number rounded to a type of `struct`; infinite where that has none so large."""
    try:
        (value,) = struct.unpack(f"<{code}", struct.pack(f"<{code}", number))
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")
    return float(value)


_Arithmetic = Callable[[Vectors, Step, Value, Sequence[Value]], Value]


def _binary(k: Vectors, opcode: str, a: Value, b: Value) -> Value:
    return k.f.emit(a.type, f"{opcode} {a.type} {a.name}, {b.name}")


def _negated(k: Vectors, value: Value) -> Value:
    return k.f.emit(value.type, f"fneg {value.type} {value.name}")


def _where_less(k: Vectors, a: Value, b: Value, first: Value, second: Value) -> Value:
    """In each lane the first where a < b, and the second elsewhere and where one of them is NaN."""
    mask = vector_type(k.lanes, "i1")
    less = k.f.emit(mask, f"fcmp olt {a.type} {a.name}, {b.name}")
    chosen = f"{first.type} {first.name}, {second.type} {second.name}"
    return k.f.emit(first.type, f"select {mask} {less.name}, {chosen}")


def _at_least(k: Vectors, value: Value, low: Value) -> Value:
    return _where_less(k, value, low, low, value)


def _at_most(k: Vectors, value: Value, high: Value) -> Value:
    return _where_less(k, high, value, high, value)


def _batch_norm(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
    del step
    scale, shift = own
    return fused(k, value, scale, shift)


def _relu(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
    del step, own
    return _at_least(k, value, constant(k, 0.0))


def _leaky_relu(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
    del own
    lower = _binary(k, "fmul", value, _number(k, step, 0))
    return _where_less(k, constant(k, 0.0), value, value, lower)


def _prelu(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
    del step
    lower = _binary(k, "fmul", own[0], value)
    return _where_less(k, constant(k, 0.0), value, value, lower)


def _hardtanh(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
    del own
    low, high = step.numbers
    if low is not None:
        value = _at_least(k, value, _number(k, step, 0))
    return value if high is None else _at_most(k, value, _number(k, step, 1))


def _six_wide(k: Vectors, value: Value) -> Value:
    """min(max(value + 3, 0), 6)."""
    raised = _binary(k, "fadd", value, constant(k, 3.0))
    return _at_most(k, _at_least(k, raised, constant(k, 0.0)), constant(k, 6.0))


def _hardsigmoid(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
    del step, own
    return _binary(k, "fdiv", _six_wide(k, value), constant(k, 6.0))


def _hardswish(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
    del step, own
    return _binary(k, "fdiv", _binary(k, "fmul", value, _six_wide(k, value)), constant(k, 6.0))


def _abs(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
    del step, own
    return k.f.call(k.vector, f"llvm.fabs.{'v' + str(k.lanes) if k.lanes > 1 else ''}{k.e.mangled}", value)


def _neg(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
    del step, own
    return _negated(k, value)


def _square(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
    del step, own
    return _binary(k, "fmul", value, value)


def _one_plus_exp_of_negated(k: Vectors, value: Value) -> Value:
    """1 + exp(-value), with the exponential of SLEEF's ``expf_u10``, which torch's vectors call.

    That is 2**q times a polynomial of what is left, whose terms and constants are SLEEF's (Shibata and
    Petrogalli, "SLEEF: A portable vectorized library of C standard mathematical functions", 2020). Beyond the
    bounds that the exponent is kept in, the sum is 1 or infinite, as SLEEF's is. Within them the product with
    2**q is exact or infinite, so it and the sum are rounded once. q may be 128: half of 2**q is a number.
    """
    f, whole = k.f, vector_type(k.lanes, "i32")
    power_of = _negated(k, _at_most(k, _at_least(k, value, constant(k, -89.0)), constant(k, 64.0)))
    # Adding it leaves no bits behind the point: what was added to it is rounded, and its lowest bits are q.
    point = constant(k, 1.5 * 2.0**23)
    halved = _binary(k, "fmul", power_of, constant(k, 1.442695040888963407359924681))
    moved = _binary(k, "fadd", halved, point)
    nearest = _binary(k, "fsub", moved, point)
    rest = fused(k, nearest, constant(k, -0.693145751953125), power_of)
    rest = fused(k, nearest, constant(k, -1.428606765330187045e-06), rest)
    total = constant(k, 0.000198527617612853646278381)
    for term in (0.00139304355252534151077271, 0.00833336077630519866943359, 0.0416664853692054748535156):
        total = fused(k, total, rest, constant(k, term))
    for term in (0.166666671633720397949219, 0.5):
        total = fused(k, total, rest, constant(k, term))
    total = fused(k, _binary(k, "fmul", rest, rest), total, rest)
    twice = fused(k, total, constant(k, 2.0), constant(k, 2.0))
    bits = f.emit(whole, f"bitcast {moved.type} {moved.name} to {whole}")
    exponent = _whole(k, "add", _whole(k, "shl", bits, 23), 126 << 23)
    half = f.emit(k.vector, f"bitcast {whole} {exponent.name} to {k.vector}")
    return fused(k, twice, half, constant(k, 1.0))


def _whole(k: Vectors, opcode: str, value: Value, number: int) -> Value:
    """An operation on whole numbers of 32 bits and a number."""
    other = elements.splat_constant("i32", k.lanes, str(number))
    return k.f.emit(value.type, f"{opcode} {value.type} {value.name}, {other}")


def _silu(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
    del step, own
    return _binary(k, "fdiv", value, _one_plus_exp_of_negated(k, value))


def _sigmoid(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
    del step, own
    return _binary(k, "fdiv", constant(k, 1.0), _one_plus_exp_of_negated(k, value))


def of_single(k: Vectors, step: Step, value: Value, exponential: Value) -> Value:
    """A step of `IN_VECTORS` on a single element, as torch does it: by the C library's exponential."""
    negated = _negated(k, value)
    power = k.f.emit(value.type, f"call {value.type} {exponential.name}({value.type} {negated.name})")
    below = _binary(k, "fadd", constant(k, 1.0), power)
    return _binary(k, "fdiv", value if step.kind == "silu" else constant(k, 1.0), below)


def _of_two(opcode: str) -> _Arithmetic:
    def compute(k: Vectors, step: Step, value: Value, own: Sequence[Value]) -> Value:
        return _binary(k, opcode, value, own[0] if own else _number(k, step, 0))

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
    "add": _of_two("fadd"),
    "subtract": _of_two("fsub"),
    "multiply": _of_two("fmul"),
    "divide": _of_two("fdiv"),
    "gelu": lambda k, _, value, __: gelu(k, value),
    "gelu_by_series": lambda k, _, value, __: gelu_by_series(k, value),
}
