"""How far a result may be from the truth: the one policy of the whole suite.

A sum of K products formed by fused multiply-adds is off by at most gamma_K = K*u / (1 - K*u) of the sum of
the absolute products (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1); the bias
is one term more. So the bound has no number to tune: SAFETY is 2 because the reference is itself such a sum.
Nothing in the tests compares numbers in another way than through the assertions below; what is no sum of the
engine's is within a number of roundings, or a bound, that says why.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

Number = Tensor | ArrayLike  # a number, or many
SAFETY = 2.0
_UNIT_ROUNDOFF = {
    torch.float64: 2.0**-53,
    torch.float32: 2.0**-24,
    torch.float16: 2.0**-11,
    torch.bfloat16: 2.0**-8,
}
_HALF_SMALLEST = {
    torch.float64: 0.0,
    torch.float32: 2.0**-150,
    torch.float16: 2.0**-25,
    torch.bfloat16: 2.0**-134,
}
_BITS = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
}


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype the law promises that sums are kept in."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def error_bound(reference: Tensor, magnitude: Tensor, terms: int, dtype: torch.dtype) -> Tensor:
    """Largest distance from the reference that law 1 leaves to each element of a result in `dtype`."""
    accumulation = accumulation_dtype(dtype)
    bound = SAFETY * _UNIT_ROUNDOFF[accumulation] * (terms + 1) * magnitude
    if dtype != accumulation:
        bound = bound + _UNIT_ROUNDOFF[dtype] * (reference.abs() + bound) + _HALF_SMALLEST[dtype]
    return bound + _HALF_SMALLEST[accumulation]


def assert_close_to_reference(
    result: Tensor,
    reference: np.ndarray,
    magnitude: np.ndarray,
    terms: int,
    dtype: torch.dtype,
    what: str = "result",
) -> None:
    """Law 1: |result - reference| <= 2*u*(terms+1)*magnitude, and one rounding more in a narrow dtype.

    `reference` is the float64 result of the definition, `magnitude` the definition on absolute values,
    `terms` the number of products in the longest sum.
    """
    truth, scale = _as_float64(reference), _as_float64(magnitude)
    assert result.dtype == dtype, f"{what}: came in {result.dtype}, expected {dtype}"
    _assert_same_shape(result, truth, what)
    distance = (result.detach().to(torch.float64) - truth).abs()
    bound = error_bound(truth, scale, terms, dtype)
    wrong = ~(distance <= bound)  # so that a NaN counts as wrong
    if bool(wrong.any()):
        worst = torch.where(wrong, distance / bound.clamp_min(1e-300), torch.zeros_like(distance)).nan_to_num(
            float("inf")
        )
        index = _index_of_largest(worst)
        raise AssertionError(
            f"{what}: {int(wrong.sum())} of {wrong.numel()} elements are outside law 1 "
            f"(terms={terms}, {dtype}); "
            f"worst at {index}: got {result[index].item()!r}, reference {truth[index].item()!r}, "
            f"distance {distance[index].item():.3e}, bound {bound[index].item():.3e}"
        )


def assert_integers_equal(
    result: Tensor, reference: np.ndarray, dtype: torch.dtype, what: str = "result"
) -> None:
    """Law 1 on small integers: nothing was rounded on the way, only the last rounding to `dtype` may act."""
    assert result.dtype == dtype, f"{what}: came in {result.dtype}, expected {dtype}"
    expected = torch.from_numpy(np.ascontiguousarray(reference)).to(torch.float64).to(dtype)
    _assert_same_shape(result, expected, what)
    wrong = ~(result.detach() == expected)
    if bool(wrong.any()):
        index = _first_index(wrong)
        raise AssertionError(
            f"{what}: {int(wrong.sum())} of {wrong.numel()} integers differ ({dtype}); first at {index}: "
            f"got {result[index].item()!r}, expected {expected[index].item()!r}"
        )


def assert_same_bits(result: Tensor, expected: Tensor, what: str = "result") -> None:
    """Law 4: the same bits everywhere, of every type; a NaN equals a NaN, +0 and -0 differ."""
    assert result.dtype == expected.dtype, f"{what}: {result.dtype} is not {expected.dtype}"
    _assert_same_shape(result, expected, what)
    left, right = result.detach().contiguous(), expected.detach().contiguous()
    wrong = ~_same_bits(left, right)
    if bool(wrong.any()):
        distance = (left.double() - right.double()).abs().nan_to_num(float("inf"))
        index, largest = _first_index(wrong), _index_of_largest(distance)
        raise AssertionError(
            f"{what}: {int(wrong.sum())} of {wrong.numel()} elements differ in their bits; first at {index}: "
            f"{left[index].item()!r} is not {right[index].item()!r}; largest difference "
            f"{distance[largest].item():.3e} at {largest}"
        )


def assert_same_numbers(result: Tensor, expected: Tensor, what: str = "result") -> None:
    """The same bits and no NaN among them: memory that is read before it is written is NaN on both sides."""
    assert_same_bits(result, expected, what)
    assert not bool(result.isnan().any()), f"{what}: {int(result.isnan().sum())} elements are NaN"


def is_same_numbers(result: Tensor, expected: Tensor) -> bool:
    """Whether `assert_same_numbers` holds, where one of several results is right."""
    return (
        result.dtype == expected.dtype
        and result.shape == expected.shape
        and bool((_same_bits(result.contiguous(), expected.contiguous()) & ~result.isnan()).all())
    )


def assert_differ(result: Tensor, other: Tensor, what: str = "results") -> None:
    """Not the same numbers in every element."""
    assert result.shape == other.shape, f"{what}: of shapes {tuple(result.shape)} and {tuple(other.shape)}"
    assert bool((result != other).any()), f"{what}: they are equal"


def assert_equal_values(result: Number, expected: Number, what: str = "result") -> None:
    """Equal numbers in equal shapes, of any types: whole numbers, and numbers that are only moved or read.

    +0 equals -0: the sign of a zero is a law of the engine's results alone.
    """
    left, right = _as_array(result), _as_array(expected)
    assert left.shape == right.shape, f"{what}: shape {left.shape}, expected {right.shape}"
    np.testing.assert_array_equal(left, right, err_msg=what)


def assert_within_roundings(
    result: Number | None, expected: Number, roundings: float, why: str, *, scale: Number | None = None
) -> None:
    """So many unit round-offs of the result's type, times `scale`: a number or one for each element.

    The scale of a sum is the sum of its absolute terms; if it is not given, the largest expected value.
    `why` says where the roundings come from: another order of a sum, a quotient, a logarithm.
    """
    left, right = _as_array(result), _as_array(expected)
    unit = float(np.finfo(left.dtype).eps) / 2
    size = np.abs(right).max(initial=0.0) if scale is None else _as_array(scale).astype(np.float64)
    assert_within(result, expected, roundings * unit * size, why)


def assert_within(result: Number | None, expected: Number, bound: Number, why: str) -> None:
    """Every |result - expected| <= bound; `why` says what the bound is."""
    left, right = _as_array(result).astype(np.float64), _as_array(expected).astype(np.float64)
    assert left.shape == right.shape, f"shape {left.shape}, expected {right.shape}"
    distance = np.abs(left - right)
    wrong = ~(distance <= _as_array(bound))  # so that a NaN counts as wrong
    assert not wrong.any(), (
        f"{int(wrong.sum())} of {wrong.size} are not within {np.max(_as_array(bound)):.3e} ({why}): "
        f"the largest distance is {np.max(distance):.3e}; "
        f"the first is {left[wrong][0]!r}, expected {right[wrong][0]!r}"
    )


def assert_dot_equal(
    left: tuple[Tensor, Tensor],
    right: tuple[Tensor, Tensor],
    magnitude: float,
    terms: int,
    dtype: torch.dtype,
) -> None:
    """Law 2: <A x, y> = <x, A^T y>; `left` = (A x, y), `right` = (x, A^T y), `magnitude` = <|A||x|, |y|>.

    Each side is off by at most law 1 of its own operator, so twice the bound; the dot products themselves are
    taken in float64 and add one unit round-off per term.
    """
    here, there = _dot(*left), _dot(*right)
    accumulation = accumulation_dtype(dtype)
    bound = 2 * SAFETY * _UNIT_ROUNDOFF[accumulation] * (terms + 1) * magnitude
    if dtype != accumulation:
        bound += 2 * _UNIT_ROUNDOFF[dtype] * magnitude
    bound += _UNIT_ROUNDOFF[torch.float64] * (left[0].numel() + right[0].numel()) * magnitude
    assert abs(here - there) <= bound, (
        f"adjoint: <A x, y> = {here!r} but <x, A^T y> = {there!r}: they differ by {abs(here - there):.3e}, "
        f"allowed {bound:.3e} (terms={terms}, {dtype})"
    )


def _same_bits(left: Tensor, right: Tensor) -> Tensor:
    if left.dtype not in _BITS:
        return left == right
    same = left.view(_BITS[left.dtype]) == right.view(_BITS[right.dtype])
    return same | (left.isnan() & right.isnan())


def _as_array(value: Number | None) -> np.ndarray:
    assert value is not None, "there is no result"
    if isinstance(value, Tensor):
        return (value.detach().float() if value.dtype == torch.bfloat16 else value.detach()).numpy()
    return np.asarray(value)


def _dot(a: Tensor, b: Tensor) -> float:
    _assert_same_shape(a, b, "dot product")
    return float((a.detach().to(torch.float64) * b.detach().to(torch.float64)).sum())


def _as_float64(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float64))


def _assert_same_shape(a: Tensor, b: Tensor, what: str) -> None:
    assert a.shape == b.shape, f"{what}: shape {tuple(a.shape)}, expected {tuple(b.shape)}"


def _first_index(mask: Tensor) -> tuple[int, ...]:
    return tuple(int(i) for i in mask.nonzero()[0])


def _index_of_largest(values: Tensor) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(values.argmax()), tuple(values.shape)))
