"""Exponentials with the bits of SLEEF's, which torch's vectors of float32 call.

SLEEF splits a number into q whole logarithms of 2 and what is left, takes a polynomial of that, and
multiplies by 2**q. Terms and constants are SLEEF's (Shibata and Petrogalli, "SLEEF: A portable vectorized
library of C standard mathematical functions", 2020).
"""

from __future__ import annotations

from typing import NamedTuple

from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.ir import Value, vector_type
from outstride.engine.codegen.registers import fused
from outstride.engine.codegen.steps.arithmetic import (
    at_least,
    at_most,
    binary,
    constant,
    negated,
    on_whole,
    where,
)

_LOG2E = 1.442695040888963407359924681
#: The logarithm of 2 in two parts, of which the first times a small whole number is exact.
_LOG2, _LOG2_REST = 0.693145751953125, 1.428606765330187045e-06
#: Adding it leaves no bits behind the point: what was added to it is rounded, and its lowest bits are q.
_POINT = 1.5 * 2.0**23
#: The terms of the polynomials, that of the highest power first.
_EXP = (
    0.000198527617612853646278381, 0.00139304355252534151077271, 0.00833336077630519866943359,
    0.0416664853692054748535156, 0.166666671633720397949219, 0.5,
)  # fmt: skip
_EXPM1 = (0.1980960224e-3, 0.1394256484e-2, 0.8333456703e-2, 0.4166637361e-1)
_SIXTH = 0.166666659414234244790680580464
#: Below it expm1 is -1.
_LEAST = -16.635532333438687426013570


def one_plus_exp_of_negated(k: Vectors, value: Value) -> Value:
    """1 + exp(-value), with the exponential of SLEEF's ``expf_u10``.

    Beyond the bounds that the exponent is kept in, the sum is 1 or infinite, as SLEEF's is. Within them the
    product with 2**q is exact or infinite, so it and the sum are rounded once. q may be 128: half of 2**q is
    a number.
    """
    power_of = negated(k, at_most(k, at_least(k, value, constant(k, -89.0)), constant(k, 64.0)))
    moved, nearest = _nearest(k, power_of)
    rest = fused(k, nearest, constant(k, -_LOG2), power_of)
    rest = fused(k, nearest, constant(k, -_LOG2_REST), rest)
    total = _polynomial(k, rest, _EXP)
    total = fused(k, binary(k, "fmul", rest, rest), total, rest)
    twice = fused(k, total, constant(k, 2.0), constant(k, 2.0))
    return fused(k, twice, _power_of_two(k, moved, -1), constant(k, 1.0))


def expm1_of_negative(k: Vectors, value: Value) -> Value:
    """exp(value) - 1 of numbers below zero, as SLEEF's ``expm1f_u10`` has it; of others nothing that is used.

    Everything is a sum of two numbers, so that what is left when 1 is taken away is exact enough. SLEEF adds
    up in a way that finds the rest of any sum; here the larger of two is known, with which the same rest
    takes half as much (Dekker, "A floating-point technique for extending the available precision", 1971):
    value - q * log(2) is exact, of each sum of the polynomial the constant is larger, and 1 than 2**q. A test
    tries all numbers.
    """
    moved, nearest = _nearest(k, value)
    reduced = fused(k, nearest, constant(k, -_LOG2), value)
    x = _sum(k, reduced, binary(k, "fmul", nearest, constant(k, -_LOG2_REST)))
    factor = _polynomial(k, x.high, _EXPM1)
    t = _plus(k, constant(k, _SIXTH), _times_number(k, x, factor))
    t = _plus(k, constant(k, 0.5), _times(k, x, t))
    t = _times(k, _square(k, x), t)
    both = _sum(k, x.high, t.high)
    t = _Double(both.high, _add(k, both.low, _add(k, x.low, t.low)))
    one = constant(k, 1.0)
    high = _add(k, one, t.high)
    low = _add(k, _add(k, _less(k, one, high), t.high), t.low)
    scale = _power_of_two(k, moved, 0)
    t = _plus(k, constant(k, -1.0), _Double(binary(k, "fmul", high, scale), binary(k, "fmul", low, scale)))
    least, minus_one = constant(k, _LEAST), constant(k, -1.0)
    return where(k, "olt", value, least, minus_one, _add(k, t.high, t.low))


class _Double(NamedTuple):
    """A number as the sum of two, of which the second is what the first rounded away."""

    high: Value
    low: Value


def _nearest(k: Vectors, value: Value) -> tuple[Value, Value]:
    """How many logarithms of 2 a number is: in the lowest bits of the first, and as a number."""
    point = constant(k, _POINT)
    moved = binary(k, "fadd", binary(k, "fmul", value, constant(k, _LOG2E)), point)
    return moved, _less(k, moved, point)


def _power_of_two(k: Vectors, moved: Value, more: int) -> Value:
    """2**(q + more), of what `_nearest` moved."""
    whole = vector_type(k.lanes, "i32")
    bits = k.f.emit(whole, f"bitcast {moved.type} {moved.name} to {whole}")
    exponent = on_whole(k, "add", on_whole(k, "shl", bits, 23), (127 + more) << 23)
    return k.f.emit(k.vector, f"bitcast {whole} {exponent.name} to {k.vector}")


def _polynomial(k: Vectors, x: Value, terms: tuple[float, ...]) -> Value:
    total = constant(k, terms[0])
    for term in terms[1:]:
        total = fused(k, total, x, constant(k, term))
    return total


def _add(k: Vectors, a: Value, b: Value) -> Value:
    return binary(k, "fadd", a, b)


def _less(k: Vectors, a: Value, b: Value) -> Value:
    return binary(k, "fsub", a, b)


def _sum(k: Vectors, larger: Value, smaller: Value) -> _Double:
    """The sum of two numbers and what it rounds away."""
    total = _add(k, larger, smaller)
    return _Double(total, _less(k, smaller, _less(k, total, larger)))


def _plus(k: Vectors, larger: Value, x: _Double) -> _Double:
    both = _sum(k, larger, x.high)
    return _Double(both.high, _add(k, both.low, x.low))


def _product(k: Vectors, a: Value, b: Value) -> _Double:
    """The product of two numbers and what it rounds away."""
    made = binary(k, "fmul", a, b)
    return _Double(made, fused(k, a, b, negated(k, made)))


def _times_number(k: Vectors, x: _Double, number: Value) -> _Double:
    made = _product(k, x.high, number)
    return _Double(made.high, fused(k, x.low, number, made.low))


def _times(k: Vectors, x: _Double, y: _Double) -> _Double:
    made = _product(k, x.high, y.high)
    return _Double(made.high, fused(k, x.high, y.low, fused(k, x.low, y.high, made.low)))


def _square(k: Vectors, x: _Double) -> _Double:
    made = _product(k, x.high, x.high)
    return _Double(made.high, fused(k, _add(k, x.high, x.high), x.low, made.low))
