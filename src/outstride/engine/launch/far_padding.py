"""Paddings beyond 32 bits, in which kernels count: as near as makes no difference."""

from __future__ import annotations

from collections.abc import Sequence

#: What kernels count in 32 bits still, whatever a window adds to it.
_FAR = 2**30


def is_far(padding: Sequence[int]) -> bool:
    """Whether some window may be so far off that kernels cannot count its distance."""
    return not all(-_FAR <= p <= _FAR for p in padding)


def near(
    padding: Sequence[int], large: Sequence[int], windows: Sequence[int], taps: Sequence[int],
    stride: Sequence[int], dilation: Sequence[int],
) -> Sequence[int]:  # fmt: skip
    """Far paddings as near as makes no difference at these sizes, others as they are.

    Windows reach from -padding to span - padding: past span + 1 all of them lie before the first position,
    past -size behind the last.
    """
    if not is_far(padding):
        return padding
    axes = zip(padding, large, windows, taps, stride, dilation, strict=True)
    return tuple(
        min(max(p, -max(n, _FAR)), max((i - 1) * s + (k - 1) * d + 1, _FAR)) for p, n, i, k, s, d in axes
    )
