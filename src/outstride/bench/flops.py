"""Count the multiply-adds that are worth doing, those that meet two real elements, and the least traffic."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outstride.bench.cases import Case


def pairs(narrow: int, wide: int, kernel_size: int, stride: int, padding: int, dilation: int) -> int:
    """Count the (i, k) in narrow x kernel_size with 0 <= i*stride + k*dilation - padding < wide."""
    total = 0
    for k in range(kernel_size):
        shift = padding - k * dilation
        first = max(0, -(-shift // stride))
        last = min(narrow - 1, (wide - 1 + shift) // stride)
        total += max(0, last - first + 1)
    return total


def useful_flops(case: Case) -> int:
    """Twice the multiply-adds of the trilinear form <y, conv(x, w)> of this case.

    Padded taps (convolution) and cropped ones (transposed convolution) are not counted, and neither is the
    bias: every contender is credited with the same work, however much it does.
    """
    narrow, wide = case.output_size, case.input_size
    if case.transposed:
        narrow, wide = wide, narrow
    axes = zip(narrow, wide, case.kernel_size, case.stride, case.padding, case.dilation, strict=True)
    channels = case.in_channels * case.out_channels // case.groups
    return 2 * case.batch * channels * prod(pairs(*axis) for axis in axes)


def least_elements(case: Case) -> int:
    """How many elements must move at least: input, weight and bias read once, output written once."""
    weight = case.in_channels * case.out_channels // case.groups * prod(case.kernel_size)
    read = case.batch * case.in_channels * prod(case.input_size)
    written = case.batch * case.out_channels * prod(case.output_size)
    return read + weight + (case.out_channels if case.bias else 0) + written
