"""Axes with gaps: of the positions between the first and the last window, few are read or written at all.

On the large side of an axis a contraction uses the positions u = i * stride + k * dilation - padding of its
windows i and taps k. Where stride or dilation is large against both, the rest is gaps, and everything that
a kernel keeps for each position between (phases, planes of the packed input, their tables) would grow with
the stride and not with the work. There the contraction runs on the used positions alone, closed up.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, prod
from typing import NamedTuple

#: Strides of all axes together from which gaps cost more than to close them up; reaches of the taps of an
#: axis likewise (docs/decisions/0034).
MANY_PHASES = 512
FAR_REACH = 16384
#: So many times as many positions as are used make an axis with gaps.
MOSTLY_GAPS = 4


class Gaps(NamedTuple):
    """An axis closed up: its size and geometry afterwards, and which position each place stands for.

    Without `classes` the windows lie one behind the other, and place i * kernel_size + k stands for the
    position i * stride + k * dilation - padding of the axis before, which may lie outside. With it every
    `classes`-th position from `first` on is kept.
    """

    size: int
    stride: int
    padding: int
    dilation: int
    classes: int = 0
    first: int = 0


def close_gaps(
    large: Sequence[int], small: Sequence[int], kernel_size: Sequence[int], stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int],
) -> tuple[Gaps | None, ...] | None:  # fmt: skip
    """Every axis closed up that has gaps worth it, None for the others; None if no axis has.

    `large` is the size of a convolution's input, `small` that of its output.
    """
    reach = max(((k - 1) * d for k, d in zip(kernel_size, dilation, strict=True)), default=0)
    if prod(stride) < MANY_PHASES and reach < FAR_REACH:
        return None
    axes = zip(large, small, kernel_size, stride, padding, dilation, strict=True)
    closed = tuple(_close(*axis) for axis in axes)
    return closed if any(closed) else None


def _close(large: int, windows: int, taps: int, stride: int, padding: int, dilation: int) -> Gaps | None:
    used = windows * taps
    span = (windows - 1) * stride + (taps - 1) * dilation + 1
    if span < MOSTLY_GAPS * used:
        # A single window takes no step, however large.
        if windows == 1 and stride > taps:
            return Gaps(large, 1, padding, dilation, classes=1)
        return None
    # i * stride + k * dilation is a position once if neither index can make up for the other.
    step = gcd(stride, dilation)
    if min(windows, taps) == 1 or taps <= stride // step or windows <= dilation // step:
        return Gaps(used, taps, 0, 1)
    if step < MOSTLY_GAPS:
        return None
    first = -padding % step
    size = max(0, -((first - large) // step))
    return Gaps(size, stride // step, (padding + first) // step, dilation // step, step, first)
