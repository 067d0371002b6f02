"""A convolution written out as the matrix that it is."""

from __future__ import annotations

from collections.abc import Iterable
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


def kernel2matrix(
    K: npt.ArrayLike,
    input_size: Sizes,
    stride: Sizes = 1,
    padding: Pads = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
) -> Array:
    """Write a convolution as a matrix.

    Args:
        K: kernel with one to three axes, for one channel, or a layer's weight (O, C / groups, *kernel_size).
        input_size: elements of the input per axis. One number stands for every axis of a kernel; beside a
            weight there must be one number per axis.
        stride, padding, dilation, groups, padding_mode: as in ``conv``.

    Returns:
        Dense W of shape (outputs, inputs), both flattened channels first and the last axis fastest:
        conv(x) = W x, and the transposed convolution is W^T y. Of a weight it has O * out rows and C * in
        columns.

    Raises:
        ShapeError: the input is too small, or K has another number of axes.

    Law: conv(x).ravel() = W @ x.ravel(), and conv_transpose(y).ravel() = W.T @ y.ravel().

    Example:
        >>> kernel2matrix([1, 2], 3).tolist()
        [[1, 2, 0], [0, 1, 2]]
    """
    kernel = layout.exact("K", K)
    weight, nd = _as_weight(kernel, input_size, groups)
    channels = weight.shape[1] * groups
    spec = ConvSpec(
        *("conv", weight.shape[2:], stride, padding, dilation),
        groups=groups,
        padding_mode=padding_mode,
        in_channels=channels,
        out_channels=weight.shape[0],
    )
    ins = tuple(int(i) for i in np.broadcast_to(cast(Any, input_size), nd))
    outs = geometry.output_size(spec, ins)
    pairs = ties(geometry.resolve(spec, ins), ins, outs)
    out_channels, group_channels = weight.shape[:2]
    W = np.zeros((out_channels, *outs, channels, *ins), weight.dtype)
    for g in range(groups):
        oc = slice(g * out_channels // groups, (g + 1) * out_channels // groups)
        ic = slice(g * group_channels, (g + 1) * group_channels)
        for oh in np.ndindex(*outs):
            for kh in np.ndindex(*spec.kernel_size):
                ih = tied(pairs, oh, kh)
                if ih is not None:
                    place, taps = (oc, *oh, ic, *ih), (oc, slice(None), *kh)
                    W[place] += weight[taps]
    return W.reshape(out_channels * int(np.prod(outs)), channels * int(np.prod(ins)))


def _as_weight(K: Array, input_size: Sizes, groups: int) -> tuple[Array, int]:
    """A kernel with two channel axes, and the number of axes that it slides over."""
    nd = len(tuple(input_size)) if isinstance(input_size, Iterable) else None
    if K.ndim in ((1, 2, 3) if nd is None else (nd,)) and groups == 1:
        return K[np.newaxis, np.newaxis], K.ndim
    if nd is not None and K.ndim == nd + 2:
        return K, nd
    legal = "one to three axes" if nd is None else f"{nd} axes, or {nd + 2} with channels"
    raise ShapeError(
        f"'K' must be a kernel of the input's axes, or a weight with two more: got shape {K.shape} with "
        f"input_size={input_size}, groups={groups}; legal: {legal}"
    )
