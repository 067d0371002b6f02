"""The definition of every operator in plain loops on NumPy arrays: nothing is fast and nothing is hidden.

The n-d loops name a position by its first axis: ``oh`` runs over the outputs of the convolution, ``kh`` over
the kernel, ``ih`` over its inputs; on each axis ``ih = oh * stride + kh * dilation - low``. Floating-point
arrays are computed in float64, integers in int64, Python integers of any length exactly.
"""

from __future__ import annotations

from outstride.reference.contractions import conv, conv_transpose, conv_weight
from outstride.reference.matrices import corr2d, pool2d, trans_conv
from outstride.reference.matrix_view import kernel2matrix
from outstride.reference.pooling import pool

__all__ = ["conv", "conv_transpose", "conv_weight", "corr2d", "kernel2matrix", "pool", "pool2d", "trans_conv"]
