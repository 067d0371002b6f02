"""Run the three contractions on real CPU tensors: allocate the result, find the bound call, launch it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor

from outstride.ops.dots import DotCall
from outstride.ops.gather import GatherCall
from outstride.ops.gradient import GradientCall, gradient_call
from outstride.ops.layout import empty_result, result_format
from outstride.runtime import LARGE, chosen, prefer_large

_LIMIT = 1024
_calls: OrderedDict[object, _Found] = OrderedDict()
_gradients: OrderedDict[object, GradientCall | DotCall] = OrderedDict()
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
    return _gather(
        "conv_transpose", y, w, bias, stride, padding, output_size, dilation, groups, channels, out
    )


def _gather(
    operator: Literal["conv", "conv_transpose"], x: Tensor, w: Tensor, bias: Tensor | None,
    stride: Sequence[int], padding: Sequence[int], output_size: Sequence[int], dilation: Sequence[int],
    groups: int, channels: int, out: Tensor | None,
) -> Tensor:  # fmt: skip
    threads = torch.get_num_threads()
    key = (
        operator, x.dtype, x.shape, x.stride(), w.shape, w.stride(), stride, padding, output_size, dilation,
        groups, None if out is None else out.stride(), threads, chosen(),
    )  # fmt: skip
    try:
        found = _calls.get(key)
    except TypeError:  # sizes came as lists
        sizes = (tuple(stride), tuple(padding), tuple(output_size), tuple(dilation))
        return _gather(operator, x, w, bias, *sizes, groups, channels, out)
    if found is None:
        target = out if out is not None else empty_result((x.shape[0], channels, *output_size), x, w)
        call = None
        if target.numel() and x.numel() and w.numel():
            call = GatherCall(operator, x, w, target, stride, padding, dilation, groups, threads)
        found = _Found(call, target.shape, result_format(x, w), target.nbytes)
        _keep(_calls, key, found)
    if out is None:
        out = torch.empty(found.shape, dtype=x.dtype, memory_format=found.memory_format)
        if found.size_bytes > LARGE:
            prefer_large(out.data_ptr(), found.size_bytes)
    if found.call is not None:
        found.call(x, w, bias, out)
    elif out.numel():  # nothing to sum
        out.copy_(bias.view(-1, *[1] * len(stride)).expand_as(out)) if bias is not None else out.zero_()
    return out


@dataclass(frozen=True)
class _Found:
    """What a repeated call needs: the bound kernel (None: nothing to sum) and how to allocate the result."""

    call: GatherCall | None
    shape: torch.Size
    memory_format: torch.memory_format
    size_bytes: int


def _keep(calls: OrderedDict[object, _Call], key: object, call: _Call) -> None:
    calls[key] = call
    if len(calls) > _LIMIT:
        calls.popitem(last=False)


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
        tuple(dilation), groups, threads, chosen(),
    )  # fmt: skip
    call = _gradients.get(key)
    if call is None:
        call = gradient_call(x, y, kernel_size, stride, padding, dilation, groups, threads)
        _keep(_gradients, key, call)
    return call(x, y)
