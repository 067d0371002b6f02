"""Operations on vectors of accumulators, and their constants."""

from __future__ import annotations

import struct

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.ir import Value, vector_type


def constant(k: Vectors, number: float) -> Value:
    """A number in every lane, rounded to the type of accumulators."""
    if k.e.accumulator == "float":
        number = rounded_to("f", number)
    bits = struct.unpack("<Q", struct.pack("<d", number))[0]
    text = f"0x{bits:016X}"
    return Value(
        elements.splat_constant(k.e.accumulator, k.lanes, text), vector_type(k.lanes, k.e.accumulator)
    )


def rounded_to(code: str, number: float) -> float:
    """A number rounded to a type of `struct`; infinite where that has none so large."""
    try:
        (value,) = struct.unpack(f"<{code}", struct.pack(f"<{code}", number))
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")
    return float(value)


def binary(k: Vectors, opcode: str, a: Value, b: Value) -> Value:
    """An operation on two values, rounded once."""
    return k.f.emit(a.type, f"{opcode} {a.type} {a.name}, {b.name}")


def negated(k: Vectors, value: Value) -> Value:
    """The value with the other sign."""
    return k.f.emit(value.type, f"fneg {value.type} {value.name}")


def where(k: Vectors, comparison: str, a: Value, b: Value, first: Value, second: Value) -> Value:
    """In each lane the first where a comparison of LLVM's holds of a and b, and the second elsewhere."""
    mask = vector_type(k.lanes, "i1")
    holds = k.f.emit(mask, f"fcmp {comparison} {a.type} {a.name}, {b.name}")
    chosen = f"{first.type} {first.name}, {second.type} {second.name}"
    return k.f.emit(first.type, f"select {mask} {holds.name}, {chosen}")


def at_least(k: Vectors, value: Value, low: Value) -> Value:
    """The value, or a bound that it is below; NaN stays."""
    return where(k, "olt", value, low, low, value)


def at_most(k: Vectors, value: Value, high: Value) -> Value:
    """The value, or a bound that it is above; NaN stays."""
    return where(k, "olt", high, value, high, value)


def on_whole(k: Vectors, opcode: str, value: Value, number: int) -> Value:
    """An operation on whole numbers of 32 bits and a number."""
    other = elements.splat_constant("i32", k.lanes, str(number))
    return k.f.emit(value.type, f"{opcode} {value.type} {value.name}, {other}")
