"""The three contractions, each the derivative of the others: a gather, a scatter and a correlation."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt

from outstride import geometry
from outstride.errors import ShapeError
from outstride.layer.arguments import Pads, Sizes
from outstride.layer.spec import ConvSpec
from outstride.reference import loop_layout as layout
from outstride.reference.loop_layout import Array
from outstride.reference.sources import tied, ties


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
    pairs = ties(geometry.resolve(spec, ins), ins, outs)
    X = layout.positions_first(X, spec)
    y = np.zeros((*outs, spec.groups, X.shape[-2], W.shape[-1]), np.result_type(X, W))
    for oh in np.ndindex(*outs):
        for kh in np.ndindex(*spec.kernel_size):
            ih = tied(pairs, oh, kh)
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
    pairs = ties(spec, outs, ins)
    Y = layout.positions_first(Y, spec)
    x = np.zeros((*outs, spec.groups, Y.shape[-2], W.shape[-1]), np.result_type(Y, W))
    for oh in np.ndindex(*ins):
        for kh in np.ndindex(*spec.kernel_size):
            ih = tied(pairs, oh, kh)
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
    pairs = ties(geometry.resolve(spec, ins), ins, outs)
    X, Y = layout.positions_first(X, spec), layout.positions_first(Y, spec)
    w = np.zeros((*spec.kernel_size, spec.groups, X.shape[-1], Y.shape[-1]), np.result_type(X, Y))
    for oh in np.ndindex(*outs):
        for kh in np.ndindex(*spec.kernel_size):
            ih = tied(pairs, oh, kh)
            if ih is not None:
                w[kh] += X[ih].swapaxes(-1, -2) @ Y[oh]
    # (*k, g, ic, oc) -> (g, oc, ic, *k) -> (g * oc, ic, *k)
    grouped: Array = np.moveaxis(w, (-3, -1, -2), (0, 1, 2))
    return grouped.reshape(-1 if grouped.size else Y.shape[-1] * groups, *grouped.shape[2:])
