"""Run the three contractions on real CPU tensors: allocate the result, find the bound call, launch it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor

from outstride.ops.gather import GatherCall
from outstride.ops.gradient import GradientCall
from outstride.runtime import machine, prefer_large

_LIMIT = 1024
_calls: OrderedDict[object, GatherCall] = OrderedDict()
_gradients: OrderedDict[object, GradientCall] = OrderedDict()
_Call = TypeVar("_Call")


def conv(
    x: Tensor, w: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int],
    output_size: Sequence[int], dilation: Sequence[int], groups: int, out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """x (N, C, *in) and w (O, C/g, *k) to (N, O, *output_size)."""
    return _gather("conv", x, w, bias, stride, padding, output_size, dilation, groups, w.shape[0], out)


def conv_transpose(
    y: Tensor, w: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int],
    output_size: Sequence[int], dilation: Sequence[int], groups: int, out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """y (N, O, *i) and w (O, C/g, *k) to (N, C, *output_size): the adjoint of conv in x."""
    channels = w.shape[1] * groups
    return _gather("conv_transpose", y, w, bias, stride, padding, output_size, dilation, groups, channels, out)


def _gather(
    operator: Literal["conv", "conv_transpose"], x: Tensor, w: Tensor, bias: Tensor | None, stride: Sequence[int],
    padding: Sequence[int], output_size: Sequence[int], dilation: Sequence[int], groups: int, channels: int,
    out: Tensor | None,
) -> Tensor:  # fmt: skip
    if out is None:
        out = _empty(x, (x.shape[0], channels, *output_size))
        prefer_large(out.data_ptr(), out.nbytes)
    if out.numel() == 0:
        return out
    if x.numel() == 0 or w.numel() == 0:
        return out.zero_() if bias is None else out.copy_(bias.view(-1, *[1] * len(stride)).expand_as(out))
    if bias is not None and not bias.is_contiguous():
        bias = bias.contiguous()
    threads = torch.get_num_threads()
    key = (
        operator, x.dtype, x.shape, x.stride(), w.shape, w.stride(), out.shape, out.stride(), tuple(stride),
        tuple(padding), tuple(dilation), groups, threads, machine().instruction_set.name,
    )  # fmt: skip
    call = _calls.get(key)
    if call is None:
        call = GatherCall(operator, x, w, out, stride, padding, dilation, groups, threads)
        _keep(_calls, key, call)
    call(x, w, bias, out)
    return out


def _keep(calls: OrderedDict[object, _Call], key: object, call: _Call) -> None:
    calls[key] = call
    if len(calls) > _LIMIT:
        calls.popitem(last=False)


def _empty(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """An output in the memory format of the input, as torch's convolutions return it."""
    memory_format = {4: torch.channels_last, 5: torch.channels_last_3d}.get(like.dim())
    if memory_format is not None and not like.is_contiguous() and like.is_contiguous(memory_format=memory_format):
        return torch.empty(shape, dtype=like.dtype, memory_format=memory_format)
    return torch.empty(shape, dtype=like.dtype)


def conv_weight(
    x: Tensor, y: Tensor, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], groups: int,
) -> Tensor:  # fmt: skip
    """x (N, C, *u) and y (N, O, *i) to (O, C/g, *kernel_size): the gradient of <y, conv(x, w)> in w."""
    shape = (y.shape[1], x.shape[1] // groups, *kernel_size)
    if 0 in (*shape, x.numel(), y.numel()):
        return torch.zeros(shape, dtype=x.dtype)
    threads = torch.get_num_threads()
    key = (
        x.dtype, x.shape, x.stride(), y.shape, y.stride(), tuple(kernel_size), tuple(stride), tuple(padding),
        tuple(dilation), groups, threads, machine().instruction_set.name,
    )  # fmt: skip
    call = _gradients.get(key)
    if call is None:
        call = GradientCall(x, y, kernel_size, stride, padding, dilation, groups, threads)
        _keep(_gradients, key, call)
    return call(x, y)
