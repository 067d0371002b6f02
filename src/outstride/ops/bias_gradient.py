"""The gradient of a bias: the sum of the output's gradient over batch and space, in one fixed order.

Torch's own sum over several axes takes its order from the strides, and for one channel from the threads. Rows
of a fixed length, then rows of their sums, leave it no choice.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

_ROW = 256
# So many elements torch adds on one thread.
_ONE_THREAD = 1 << 15
_NARROW = (torch.bfloat16, torch.float16)


def bias_gradient(grad: Tensor) -> Tensor:
    """Sum the gradient of an output (N, O, *size) to that of its bias (O,).

    Law: the bits do not depend on threads or memory layout; bfloat16 and float16 are summed in float32.
    """
    wide = torch.float32 if grad.dtype in _NARROW else grad.dtype
    batch, channels = grad.shape[:2]
    rows = grad.contiguous().reshape(batch, channels, prod(grad.shape[2:]))
    while type(rows.shape[-1]) is int and rows.shape[-1] > _ROW:
        count = rows.shape[-1] // _ROW
        sums = rows[..., : count * _ROW].reshape(batch, channels, count, _ROW).sum(-1, dtype=wide)
        rest = rows[..., count * _ROW :].sum(-1, keepdim=True, dtype=wide)
        rows = torch.cat([sums, rest], -1)
    columns = rows.sum(-1, dtype=wide)
    if batch == 1:
        return columns[0].to(grad.dtype)
    columns = columns.movedim(0, -1).contiguous()
    while type(columns.shape[-1]) is int and columns.shape[-1] > _ONE_THREAD:
        columns = torch.stack([part.sum(-1) for part in columns.split(_ONE_THREAD, -1)], -1)
    return columns.sum(-1).to(grad.dtype)
