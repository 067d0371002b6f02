"""The definition of every operator in plain loops on NumPy arrays: nothing is fast and nothing is hidden.

The n-d loops name a position by its first axis: ``oh`` runs over the outputs of the convolution, ``kh`` over
the kernel, ``ih`` over its inputs; on each axis ``ih = oh * stride + kh * dilation - low``. Floating-point
arrays are computed in float64, integers in int64, Python integers of any length exactly.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from outstride import geometry
from outstride import loop_layout as layout
from outstride.arguments import Pads, Pairs, Sizes
from outstride.errors import ShapeError
from outstride.loop_layout import Array
from outstride.spec import ConvSpec

__all__ = ["conv", "conv_transpose", "conv_weight", "corr2d", "kernel2matrix", "pool", "pool2d", "trans_conv"]

Ties = list[list[list[int | None]]]
"""Per axis, for each output of the convolution and kernel index: the input element, None in zero padding."""


def corr2d(X: npt.ArrayLike, K: npt.ArrayLike) -> Array:
    """Slide a kernel over a matrix: two-dimensional cross-correlation.

    Args:
        X: matrix (ih, iw).
        K: kernel (kh, kw), no larger than X.

    Returns:
        Matrix (ih - kh + 1, iw - kw + 1) with Y[oh, ow] = sum(X[oh:oh+kh, ow:ow+kw] * K).

    Raises:
        ShapeError: an argument is no matrix, or K is larger than X.

    Example:
        >>> corr2d([[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[0, 1], [2, 3]]).tolist()
        [[19, 25], [37, 43]]
    """
    X, K = layout.matrix("X", X), layout.matrix("K", K)
    kh, kw = K.shape
    Y = np.zeros(layout.windows(X, K.shape), np.result_type(X, K))
    for oh in range(Y.shape[0]):
        for ow in range(Y.shape[1]):
            Y[oh, ow] = (X[oh : oh + kh, ow : ow + kw] * K).sum()
    return Y


def trans_conv(X: npt.ArrayLike, K: npt.ArrayLike) -> Array:
    """Stamp a kernel once for every element of a matrix: two-dimensional transposed convolution.

    Args:
        X: matrix (ih, iw).
        K: kernel (kh, kw).

    Returns:
        Matrix (ih + kh - 1, iw + kw - 1), the sum of X[ih, iw] * K laid at [ih:ih+kh, iw:iw+kw].

    Raises:
        ShapeError: an argument is no matrix.

    Law: <corr2d(A, K), X> = <A, trans_conv(X, K)> for every A.

    Example:
        >>> trans_conv([[0, 1], [2, 3]], [[0, 1], [2, 3]]).tolist()
        [[0, 0, 1], [0, 4, 6], [4, 12, 9]]
    """
    X, K = layout.matrix("X", X), layout.matrix("K", K)
    kh, kw = K.shape
    Y = np.zeros((X.shape[0] + kh - 1, X.shape[1] + kw - 1), np.result_type(X, K))
    for ih in range(X.shape[0]):
        for iw in range(X.shape[1]):
            Y[ih : ih + kh, iw : iw + kw] += X[ih, iw] * K
    return Y


def pool2d(X: npt.ArrayLike, pool_size: tuple[int, int], mode: Literal["max", "avg"] = "max") -> Array:
    """Take the maximum or the average of every window of a matrix, one step apart.

    Args:
        X: matrix (ih, iw).
        pool_size: height and width of the window, no larger than X.
        mode: "max" or "avg".

    Returns:
        Matrix (ih - kh + 1, iw - kw + 1); averages are floats.

    Raises:
        ShapeError: X is no matrix, or smaller than the window.
        ArgumentError: no such mode.

    Example:
        >>> pool2d([[0, 1, 2], [3, 4, 5], [6, 7, 8]], (2, 2)).tolist()
        [[4, 5], [7, 8]]
    """
    X = layout.matrix("X", X)
    kh, kw = ConvSpec(layout.pool_kind(mode), pool_size, nd=2).kernel_size
    Y = np.zeros(layout.windows(X, (kh, kw)), X.dtype if mode == "max" else np.result_type(X, np.float64))
    for oh in range(Y.shape[0]):
        for ow in range(Y.shape[1]):
            window = X[oh : oh + kh, ow : ow + kw]
            Y[oh, ow] = window.max() if mode == "max" else window.mean()
    return Y


def kernel2matrix(
    K: npt.ArrayLike,
    input_size: Sizes,
    stride: Sizes = 1,
    padding: Pads = 0,
    dilation: Sizes = 1,
    *,
    padding_mode: str = "zeros",
) -> Array:
    """Write a convolution of one channel as a matrix.

    Args:
        K: kernel with one to three axes.
        input_size: elements of the input per axis; one number stands for every axis.
        stride, padding, dilation, padding_mode: as in ``conv``.

    Returns:
        Dense W of shape (outputs, inputs), both flattened with the last axis fastest: conv(x) = W x, and the
        transposed convolution is W^T y.

    Raises:
        ShapeError: the input is too small.

    Example:
        >>> kernel2matrix([1, 2], 3).tolist()
        [[1, 2, 0], [0, 1, 2]]
    """
    weight = layout.exact("K", K)
    spec = ConvSpec("conv", weight.shape, stride, padding, dilation, padding_mode=padding_mode)
    ins = tuple(int(i) for i in np.broadcast_to(cast(Any, input_size), spec.nd))
    outs = geometry.output_size(spec, ins)
    ties = _ties(geometry.resolve(spec, ins), ins, outs)
    W = np.zeros((int(np.prod(outs)), int(np.prod(ins))), weight.dtype)
    for row, oh in enumerate(np.ndindex(*outs)):
        for kh in np.ndindex(*weight.shape):
            ih = _tied(ties, oh, kh)
            if ih is not None:
                W[row, np.ravel_multi_index(ih, ins)] += weight[kh]
    return W


def conv(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: Sizes = 1,
    padding: Pads = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
) -> Array:
    """Convolve, as a gather: every output sums the inputs under the kernel.

    Args:
        x: input (N, C, *in) or (C, *in), one to three axes.
        w: weight (O, C / groups, *kernel_size).
        bias: (O,) or None.
        stride, padding, dilation, groups, padding_mode: as in ``ConvSpec``.

    Returns:
        (N, O, *out) with out from ``geometry.output_size``:
        y[n, oc, oh] = bias[oc] + the sum over ic and kh of
        x[n, ic, oh * stride + kh * dilation - low] * w[oc, ic, kh].

    Raises:
        ArgumentError, ShapeError: the arguments have no meaning or do not fit each other.

    Law: <conv(x, w), y> = <x, conv_transpose(y, w)> = <w, conv_weight(x, y)>.

    Example:
        >>> conv([[[1, 2, 3, 4]]], [[[1, 10]]], stride=2).tolist()
        [[[21, 43]]]
    """
    weight = layout.exact("w", w)
    spec = ConvSpec(
        "conv", weight.shape[2:], stride, padding, dilation, groups=groups, padding_mode=padding_mode
    )
    X, batched = layout.with_batch("x", x, spec)
    layout.check_channels("x", X, weight.shape[1] * spec.groups)
    W = layout.taps_first("w", weight, spec)
    ins = X.shape[2:]
    outs = geometry.output_size(spec, ins)
    ties = _ties(geometry.resolve(spec, ins), ins, outs)
    X = layout.positions_first(X, spec)
    y = np.zeros((*outs, spec.groups, X.shape[-2], W.shape[-1]), np.result_type(X, W))
    for oh in np.ndindex(*outs):
        for kh in np.ndindex(*spec.kernel_size):
            ih = _tied(ties, oh, kh)
            if ih is not None:
                y[oh] += X[ih] @ W[kh]
    return layout.finished(y, bias, batched)


def conv_transpose(
    y: npt.ArrayLike,
    w: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: Sizes = 1,
    padding: Pads = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
    *,
    output_size: Sizes | None = None,
    padding_mode: str = "zeros",
) -> Array:
    """Convolve transposed, as a scatter: every input stamps the kernel onto the output.

    Args:
        y: input (N, O, *in) or (O, *in), one to three axes.
        w: weight (O, C / groups, *kernel_size) as in torch: that of the convolution whose adjoint this is.
        bias: (C,) or None.
        stride, padding, output_padding, groups, dilation, padding_mode: as in ``ConvSpec``. What is stamped
            on the border is added to the element that the border stands for; with "zeros" it is lost.
        output_size: instead of output_padding, the size wanted.

    Returns:
        (N, C, *out): x[n, ic, oh * stride + kh * dilation - low] is the sum of y[n, oc, oh] * w[oc, ic, kh],
        plus bias[ic].

    Raises:
        ArgumentError, ShapeError: the arguments have no meaning or do not fit each other.

    Law: it is the adjoint of ``conv`` with the same arguments, padding mode included.

    Example:
        >>> conv_transpose([[[1, 1, 1, 1]]], [[[1, 2, 3]]], stride=2).tolist()
        [[[1, 2, 4, 2, 4, 2, 4, 2, 3]]]
    """
    weight = layout.exact("w", w)
    spec = ConvSpec(
        *("conv_transpose", weight.shape[2:], stride, padding, dilation, output_padding),
        groups=groups,
        padding_mode=padding_mode,
    )
    Y, batched = layout.with_batch("y", y, spec)
    layout.check_channels("y", Y, weight.shape[0])
    W = layout.taps_first("w", weight, spec).swapaxes(-1, -2)
    ins = Y.shape[2:]
    spec = geometry.resolve(spec, ins, output_size)
    outs = geometry.output_size(spec, ins)
    ties = _ties(spec, outs, ins)
    Y = layout.positions_first(Y, spec)
    x = np.zeros((*outs, spec.groups, Y.shape[-2], W.shape[-1]), np.result_type(Y, W))
    for oh in np.ndindex(*ins):
        for kh in np.ndindex(*spec.kernel_size):
            ih = _tied(ties, oh, kh)
            if ih is not None:
                x[ih] += Y[oh] @ W[kh]
    return layout.finished(x, bias, batched)


def conv_weight(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    kernel_size: Sizes,
    stride: Sizes = 1,
    padding: Pads = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
) -> Array:
    """Correlate the input of a convolution with a tensor of its output's shape: the third contraction.

    Args:
        x: (N, C, *in) or (C, *in), one to three axes.
        y: (N, O, *out) or (O, *out), out at most conv's output size, and of any size with zero padding.
        kernel_size: size of the weight that is wanted.
        stride, padding, dilation, groups, padding_mode: as in ``conv``.

    Returns:
        (O, C / groups, *kernel_size), the gradient of <y, conv(x, w)> in w:
        w[oc, ic, kh] = sum over n, oh of y[n, oc, oh] * x[n, ic, oh * stride + kh * dilation - low].

    Raises:
        ArgumentError, ShapeError: the arguments have no meaning or do not fit each other.

    Law: <conv(x, w), y> = <w, conv_weight(x, y)>.

    Example:
        >>> conv_weight([[[1, 2, 3, 4]]], [[[1, 1]]], 2, stride=2).tolist()
        [[[4, 6]]]
    """
    spec = ConvSpec(
        *("conv", kernel_size, stride, padding, dilation),
        groups=groups,
        padding_mode=padding_mode,
        nd=None if np.ndim(cast(Any, kernel_size)) else np.ndim(x) - 2,
    )
    X, _ = layout.with_batch("x", x, spec)
    Y, _ = layout.with_batch("y", y, spec)
    ins, outs = X.shape[2:], Y.shape[2:]
    if X.shape[0] != Y.shape[0]:
        raise ShapeError(f"'y' must have the batch of 'x': got {Y.shape[0]}; legal: {X.shape[0]}")
    if padding_mode != "zeros":
        layout.check_within(outs, geometry.output_size(spec, ins))
    ties = _ties(geometry.resolve(spec, ins), ins, outs)
    X, Y = layout.positions_first(X, spec), layout.positions_first(Y, spec)
    w = np.zeros((*spec.kernel_size, spec.groups, X.shape[-1], Y.shape[-1]), np.result_type(X, Y))
    for oh in np.ndindex(*outs):
        for kh in np.ndindex(*spec.kernel_size):
            ih = _tied(ties, oh, kh)
            if ih is not None:
                w[kh] += X[ih].swapaxes(-1, -2) @ Y[oh]
    # (*k, g, ic, oc) -> (g, oc, ic, *k) -> (g * oc, ic, *k)
    grouped: Array = np.moveaxis(w, (-3, -1, -2), (0, 1, 2))
    return grouped.reshape(-1 if grouped.size else Y.shape[-1] * groups, *grouped.shape[2:])


def pool(
    x: npt.ArrayLike,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Pads = 0,
    dilation: Sizes = 1,
    *,
    mode: Literal["max", "avg"] = "max",
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """Take the maximum or the average of every window, each channel by itself.

    Args:
        x: input (N, C, *in), one to three axes.
        kernel_size, stride, padding, dilation, ceil_mode: as in ``ConvSpec``; the stride is the kernel size
            by default.
        mode: "max", where padding never wins, or "avg".
        count_include_pad: whether an average counts the zeros of the padding.
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
    ties = _ties(geometry.resolve(spec, ins), ins, outs)
    X = layout.positions_first(X, spec)
    y = np.zeros((*outs, *X.shape[-3:]), X.dtype if mode == "max" else np.result_type(X, np.float64))
    for oh in np.ndindex(*outs):
        seen = [ih for kh in np.ndindex(*spec.kernel_size) if (ih := _tied(ties, oh, kh)) is not None]
        if mode == "max":
            y[oh] = np.max([X[ih] for ih in seen], axis=0) if seen else layout.least(X.dtype)
            continue
        count = divisor_override or len(seen)
        if count_include_pad and not divisor_override:
            # With ceil_mode a window may reach beyond the padding; what lies there is not counted.
            ends = [i + low + high for i, (low, high) in zip(ins, pads, strict=True)]
            rows = zip(spec.kernel_size, ends, oh, spec.stride, strict=True)
            count = int(np.prod([min(k, end - o * s) for k, end, o, s in rows]))
        y[oh] = sum(X[ih] for ih in seen) / count
    return layout.finished(y, None, batched=True)


def _ties(spec: ConvSpec, ins: tuple[int, ...], outs: tuple[int, ...]) -> Ties:
    lows = [low for low, _ in cast(Pairs, spec.padding)]
    rows = zip(spec.kernel_size, spec.stride, spec.dilation, lows, ins, outs, strict=True)
    return [
        [
            [geometry.source_index(o * s + k * d - low, i, spec.padding_mode) for k in range(size)]
            for o in range(out)
        ]
        for size, s, d, low, i, out in rows
    ]


def _tied(ties: Ties, oh: tuple[int, ...], kh: tuple[int, ...]) -> tuple[int, ...] | None:
    ih = tuple(axis[o][k] for axis, o, k in zip(ties, oh, kh, strict=True))
    return None if None in ih else cast("tuple[int, ...]", ih)
