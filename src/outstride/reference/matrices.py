"""Single matrices: the loops as one writes them first."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from outstride.layer.spec import ConvSpec
from outstride.reference import loop_layout as layout
from outstride.reference.loop_layout import Array


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
