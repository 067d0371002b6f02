"""How far a result may be from the truth: the one policy of the whole suite.

A sum of K products formed by fused multiply-adds is off by at most gamma_K = K*u / (1 - K*u) of the sum of
the absolute products (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1); the bias
is one term more. So the bound has no number to tune: SAFETY is 2 because the reference is itself such a sum.
Nothing in the tests compares tensors in another way than through the assertions below.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

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
    """Law 4: the same bits everywhere; a NaN equals a NaN, +0 and -0 differ."""
    assert result.dtype == expected.dtype, f"{what}: {result.dtype} is not {expected.dtype}"
    _assert_same_shape(result, expected, what)
    left, right = result.detach().contiguous(), expected.detach().contiguous()
    same = left.view(_BITS[left.dtype]) == right.view(_BITS[right.dtype])
    wrong = ~(same | (left.isnan() & right.isnan()))
    if bool(wrong.any()):
        distance = (left.double() - right.double()).abs().nan_to_num(float("inf"))
        index, largest = _first_index(wrong), _index_of_largest(distance)
        raise AssertionError(
            f"{what}: {int(wrong.sum())} of {wrong.numel()} elements differ in their bits; first at {index}: "
            f"{left[index].item()!r} is not {right[index].item()!r}; largest difference "
            f"{distance[largest].item():.3e} at {largest}"
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
