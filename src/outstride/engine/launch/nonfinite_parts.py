"""Contractions of operands that are not finite, in parts: padding adds no term to a sum.

A sum has a term for each tap that reads an element of the input. Kernels read padding as zeros, which add
nothing to a sum as long as the other factor is finite; zero times infinity or NaN is NaN. So where a factor
that meets padding is not finite, the work is cut into boxes within which every tap reads an element, and each
box is a contraction of its own, without padding. Each element is still one chain in the one order.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from types import EllipsisType
from typing import NamedTuple

import torch
from torch import Tensor

from outstride.engine.codegen.arguments import NONFINITE_INDEX
from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.nonfinite import nonfinite_source
from outstride.engine.launch.argument_block import address
from outstride.engine.launch.plans import DTYPES
from outstride.engine.runtime import Kernel, kernel, machine

Box = tuple[EllipsisType | slice, ...]
"""Part of a tensor: what is taken of its last axes."""


class Part(NamedTuple):
    """A box of a result and the operands that make it; without terms there are none."""

    result: Box
    first: Box
    second: Box
    padding: tuple[int, ...]
    has_terms: bool


def nonfinite_kernel(dtype: torch.dtype) -> Kernel:
    """The kernel that ``nonfinite`` runs."""
    name, isa = DTYPES[dtype], machine().instruction_set
    return kernel(f"nonfinite_{name}", partial(nonfinite_source, name), isa, authorship())


def nonfinite(tensor: Tensor, look: Kernel) -> bool:
    """Whether a contiguous tensor holds an infinite number or NaN."""
    block = array("q", (tensor.data_ptr(), tensor.numel(), 0))
    look.alone(address(block))
    return block[NONFINITE_INDEX["found"]] != 0


def conv_parts(
    size: Sequence[int], kernel_size: Sequence[int], result_size: Sequence[int], stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int],
) -> Iterator[Part]:  # fmt: skip
    """The boxes of a convolution's result, with the input and the taps that each reads."""

    def axis(i: int, k: int, o: int, s: int, p: int, d: int) -> Iterator[_Interval]:
        def taps(at: int) -> tuple[int, int]:  # 0 <= at * s + tap * d - p < i
            return -((at * s - p) // d), (i - 1 + p - at * s) // d + 1

        for outputs, (low, high) in _intervals(o, k, taps):
            start = outputs.start * s + low * d - p
            yield _Interval(outputs, slice(max(start, 0), None), slice(low, high), 0)

    return _parts(axis, size, kernel_size, result_size, stride, padding, dilation)


def conv_transpose_parts(
    size: Sequence[int], kernel_size: Sequence[int], result_size: Sequence[int], stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int],
) -> Iterator[Part]:  # fmt: skip
    """The boxes of a transposed convolution's result, with the input and the taps that each reads."""

    def axis(i: int, k: int, o: int, s: int, p: int, d: int) -> Iterator[_Interval]:
        def taps(at: int) -> tuple[int, int]:  # 0 <= at + p - tap * d <= (i - 1) * s
            return -(((i - 1) * s - at - p) // d), (at + p) // d + 1

        for outputs, (low, high) in _intervals(o, k, taps):
            yield _Interval(outputs, slice(None), slice(low, high), p + outputs.start - low * d)

    return _parts(axis, size, kernel_size, result_size, stride, padding, dilation)


def conv_weight_parts(
    size: Sequence[int], result_size: Sequence[int], kernel_size: Sequence[int], stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int],
) -> Iterator[Part]:  # fmt: skip
    """The boxes of a weight gradient, with the parts of input and output gradient that meet in each."""

    def axis(i: int, o: int, k: int, s: int, p: int, d: int) -> Iterator[_Interval]:
        def outputs(tap: int) -> tuple[int, int]:  # 0 <= at * s + tap * d - p < i
            return -((tap * d - p) // s), (i - 1 + p - tap * d) // s + 1

        for taps, (low, high) in _intervals(k, o, outputs):
            start = low * s + taps.start * d - p
            yield _Interval(taps, slice(max(start, 0), None), slice(low, high), 0)

    return _parts(axis, size, result_size, kernel_size, stride, padding, dilation)


class _Interval(NamedTuple):
    """Neighbours on an axis of a result, what they read of the operands, and the padding that is left."""

    result: slice
    first: slice
    second: slice
    padding: int


def _parts(
    axis: Callable[[int, int, int, int, int, int], Iterator[_Interval]], first: Sequence[int],
    second: Sequence[int], result: Sequence[int], *geometry: Sequence[int],
) -> Iterator[Part]:  # fmt: skip
    numbers = zip(first, second, result, *geometry, strict=True)
    for box in product(*(list(axis(*each)) for each in numbers)):
        results, firsts, seconds, padding = zip(*box, strict=True) if box else ((),) * 4
        has_terms = all(s.start < s.stop for s in seconds)
        yield Part((..., *results), (..., *firsts), (..., *seconds), padding, has_terms)


def _intervals(
    count: int, most: int, reads: Callable[[int], tuple[int, int]]
) -> Iterator[tuple[slice, tuple[int, int]]]:
    """Neighbours of `count` that read the same range of `most`, whose ends both rise, or both fall."""

    def within(at: int) -> tuple[int, int]:
        low, high = reads(at)
        return min(max(low, 0), most), min(max(high, 0), most)

    start = 0
    while start < count:
        same = within(start)
        stop = bisect_left(range(count), True, start, key=lambda at: within(at) != same)
        yield slice(start, stop), same
        start = stop
