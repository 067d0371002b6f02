"""What there can be at all: results that memory holds, positions that 64 bits count."""

from __future__ import annotations

from collections.abc import Sequence

from outstride.errors import ShapeError

_MOST_ELEMENTS = 2**59 - 1
_MOST_POSITION = 2**63 - 1
#: What kernels count in 32 bits still, whatever a window adds to it.
_FAR = 2**30


def check_allocatable(shape: Sequence[int]) -> None:
    """Refuse a result that no machine can hold; symbolic sizes pass."""
    elements = 1
    for size in shape:
        if type(size) is not int:
            return  # a symbolic size: comparing it would pin it down
        elements *= size
    if elements > _MOST_ELEMENTS:
        shown = f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
        raise ShapeError(
            f"the output must fit in memory: got shape {shown} of {elements} elements; "
            f"legal: at most {_MOST_ELEMENTS}"
        )


def check_countable(
    windows: Sequence[int], taps: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int],
) -> None:  # fmt: skip
    """Refuse positions i * stride + k * dilation - padding beyond 64 bits; symbolic numbers pass."""
    for axis in zip(windows, taps, stride, padding, dilation, strict=True):
        if any(type(number) is not int for number in axis):
            return
        i, k, s, p, d = axis
        span = max(i - 1, 0) * s + max(k - 1, 0) * d
        if span + abs(p) > _MOST_POSITION:
            raise ShapeError(
                "'stride', 'dilation' and 'padding' must lead to positions of 64 bits: got stride="
                f"{s}, dilation={d} and padding={p} for {i} windows of {k} taps; legal: "
                f"(windows - 1) * stride + (taps - 1) * dilation + |padding| of at most {_MOST_POSITION}"
            )


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
