"""Law 4's one order, written down a second time: an emulation in NumPy that rounds where the law says."""

from __future__ import annotations

from itertools import product

import numpy as np

from tests.cases import Case

_Index = tuple[slice | np.ndarray, ...]
CHANNEL_BLOCK = 64
"""Part of the law: another number would give other bits."""


def in_the_one_order(case: Case, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """The float32 output: from +0, channel blocks, then taps, then channels in the block, then the bias."""
    if not case.transposed:
        w = w.swapaxes(0, 1)  # (in, out, *k), as a transposed layer has it
    groups, inner = case.groups, case.in_channels // case.groups
    outer = case.out_channels // groups
    y = np.zeros((case.batch, groups, outer, *case.out_spatial), np.float32)
    xs = x.reshape(case.batch, groups, inner, *case.input_size)
    split = (groups, inner, outer) if case.transposed else (inner, groups, outer)
    ws = w.reshape(*split, *case.kernel_size)
    ws = ws if case.transposed else ws.swapaxes(0, 1)
    for first in range(0, inner, CHANNEL_BLOCK):
        for tap in product(*map(range, case.kernel_size)):
            here, there = _tied(case, tap)
            for c in range(first, min(first + CHANNEL_BLOCK, inner)):
                tapped: tuple[slice | int, ...] = (slice(None), c, slice(None), *tap)
                weight = ws[tapped][None, :, :].reshape(1, groups, outer, *[1] * case.nd)
                source: _Index = (slice(None), slice(None), slice(c, c + 1), *here)
                place: _Index = (slice(None), slice(None), slice(None), *there)
                y[place] = fused(xs[source], weight, y[place])
    y = y.reshape(case.output_shape)
    return y if bias is None else y + bias.reshape(1, -1, *[1] * case.nd)


def fused(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a * b + c rounded once to float32.

    The product of two float32 is exact in float64. The sum is rounded to odd there, which makes the second
    rounding that of the exact value (Boldo and Melquiond, Emulation of FMA and correctly rounded sums, 2008,
    section 3).
    """
    product_, addend = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
    total = product_ + addend
    back = total - product_
    error = (product_ - (total - back)) + (addend - back)
    bits = total.view(np.int64)
    even_and_inexact = (error != 0) & (bits & 1 == 0)
    toward = np.where((error > 0) == (total > 0), 1, -1)
    return np.where(even_and_inexact, (bits + toward).view(np.float64), total).astype(np.float32)


def _tied(case: Case, tap: tuple[int, ...]) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """For one tap, which inputs meet which outputs, as index grids."""
    here, there = [], []
    for axis, k in enumerate(tap):
        few, many = case.out_spatial[axis], case.input_size[axis]
        if case.transposed:
            few, many = many, few
        i = np.arange(few)
        u = i * case.stride[axis] + k * case.dilation[axis] - case.pads[axis][0]
        inside = (u >= 0) & (u < many)
        here.append(i[inside] if case.transposed else u[inside])
        there.append(u[inside] if case.transposed else i[inside])
    return np.ix_(*here), np.ix_(*there)
