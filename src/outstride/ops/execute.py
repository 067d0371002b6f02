"""Run the three contractions on real CPU tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def conv(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    output_size: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    pads: list[int] = []
    for i, k, s, p, o, d in zip(x.shape[2:], w.shape[2:], stride, padding, output_size, dilation, strict=True):
        high = (o - 1) * s + (k - 1) * d + 1 - p - i
        pads[:0] = [p, high]
    if x.shape[0] == 0 or 0 in output_size:
        return x.new_empty((x.shape[0], w.shape[0], *output_size))
    return _CONV[len(stride)](F.pad(x, pads), w, bias, tuple(stride), 0, tuple(dilation), groups)


def conv_transpose(
    y: Tensor,
    w: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    output_size: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    with torch.enable_grad():
        x = y.detach().new_zeros((y.shape[0], w.shape[1] * groups, *output_size)).requires_grad_()
        z = conv(x, w.detach(), None, stride, padding, y.shape[2:], dilation, groups)
        (out,) = torch.autograd.grad(z, x, y.detach()) if z.numel() else (x.detach(),)
    return out if bias is None else out + bias.view(-1, *[1] * len(stride))


def conv_weight(
    x: Tensor,
    y: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    with torch.enable_grad():
        w = x.detach().new_zeros((y.shape[1], x.shape[1] // groups, *kernel_size)).requires_grad_()
        z = conv(x.detach(), w, None, stride, padding, y.shape[2:], dilation, groups)
        return torch.autograd.grad(z, w, y.detach())[0] if z.numel() else w.detach()
