"""Pooling: the maximum or the average of every window."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from outstride import geometry
from outstride.layer.arguments import Pads, Sizes
from outstride.layer.spec import ConvSpec
from outstride.reference import loop_layout as layout
from outstride.reference.loop_layout import Array
from outstride.reference.sources import tied, ties


def pool(
    x: npt.ArrayLike,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Pads = 0,
    dilation: Sizes = 1,
    *,
    mode: Literal["max", "avg"] = "max",
    ceil_mode: bool = False,
    count_include_pad: bool | None = None,
    divisor_override: int | None = None,
) -> Array:
    """Take the maximum or the average of every window, each channel by itself.

    Args:
        x: input (N, C, *in), one to three axes.
        kernel_size, stride, padding, dilation, ceil_mode: as in ``ConvSpec``; the stride is the kernel size
            by default.
        mode: "max", where padding never wins, or "avg".
        count_include_pad: whether an average counts the zeros of the padding; by default it does, but not
            those of "same".
        divisor_override: divide every sum by this instead of by the count.

    Returns:
        (N, C, *out) with out from ``geometry.output_size``; averages are floats.

    Raises:
        ArgumentError, ShapeError: the arguments have no meaning or do not fit each other.

    Example:
        >>> pool([[[1, 5, 2, 4]]], 2).tolist()
        [[[5, 4]]]
    """
    spec = ConvSpec(
        *(layout.pool_kind(mode), kernel_size, stride, padding, dilation),
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        divisor_override=divisor_override,
        nd=np.ndim(x) - 2,
    )
    X, _ = layout.with_batch("x", x, spec)
    ins = X.shape[2:]
    outs = geometry.output_size(spec, ins)
    pads = geometry.resolved_padding(spec, ins)
    pairs = ties(geometry.resolve(spec, ins), ins, outs)
    X = layout.positions_first(X, spec)
    y = np.zeros((*outs, *X.shape[-3:]), X.dtype if mode == "max" else np.result_type(X, np.float64))
    for oh in np.ndindex(*outs):
        seen = [ih for kh in np.ndindex(*spec.kernel_size) if (ih := tied(pairs, oh, kh)) is not None]
        if mode == "max":
            y[oh] = np.max([X[ih] for ih in seen], axis=0) if seen else layout.least(X.dtype)
            continue
        count = divisor_override or len(seen)
        if spec.count_include_pad and not divisor_override:
            # With ceil_mode a window may reach beyond the padding; what lies there is not counted.
            ends = [i + low + high for i, (low, high) in zip(ins, pads, strict=True)]
            rows = zip(spec.kernel_size, ends, oh, spec.stride, strict=True)
            count = int(np.prod([min(k, end - o * s) for k, end, o, s in rows]))
        y[oh] = sum(X[ih] for ih in seen) / count
    return layout.finished(y, None, batched=True)
