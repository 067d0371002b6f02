"""vmap of the contractions: the mapped dimension is folded into the batch, the channels or the groups.

Folding keeps every example's sum in its own order, so a mapped call returns the bits of the separate calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from outstride.layer.shortening import choose

Ints = Sequence[int]
OPERATORS = torch.ops.outstride


def conv(
    info: Any,
    in_dims: Sequence[int | None],
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    stride: Ints,
    padding: Ints,
    output_size: Ints,
    dilation: Ints,
    groups: int,
    algorithm: str = "auto",
) -> tuple[Tensor, int]:
    """Batching rule of ``outstride::conv``."""
    mapped = info.batch_size
    x, w, bias, x_mapped, w_mapped, bias_mapped = _to_front(x, w, bias, in_dims)
    rest = (stride, padding, output_size, dilation)
    if not w_mapped:
        inner = None if bias_mapped else bias
        if x_mapped:
            result = OPERATORS.conv.default(x.flatten(0, 1), w, inner, *rest, groups, algorithm)
            result = result.unflatten(0, (mapped, x.shape[1]))
        else:
            result = OPERATORS.conv.default(x, w, inner, *rest, groups, algorithm).unsqueeze(0)
        return _add_bias(result, bias if bias_mapped else None), 0
    flat_bias = _flat_bias(bias, bias_mapped, mapped)
    if x_mapped or groups > 1:
        x, groups = _into_channels(x, x_mapped, mapped), groups * mapped
    else:
        algorithm = _of_one(algorithm, False, w[0], stride, dilation, outputs=mapped)
    result = OPERATORS.conv.default(x, w.flatten(0, 1), flat_bias, *rest, groups, algorithm)
    return result.unflatten(1, (mapped, w.shape[1])), 1


def conv_transpose(
    info: Any,
    in_dims: Sequence[int | None],
    y: Tensor,
    w: Tensor,
    bias: Tensor | None,
    stride: Ints,
    padding: Ints,
    output_size: Ints,
    dilation: Ints,
    groups: int,
    algorithm: str = "auto",
) -> tuple[Tensor, int]:
    """Batching rule of ``outstride::conv_transpose``."""
    mapped = info.batch_size
    y, w, bias, y_mapped, w_mapped, bias_mapped = _to_front(y, w, bias, in_dims)
    rest = (stride, padding, output_size, dilation)
    if not w_mapped:
        inner = None if bias_mapped else bias
        if y_mapped:
            result = OPERATORS.conv_transpose.default(y.flatten(0, 1), w, inner, *rest, groups, algorithm)
            result = result.unflatten(0, (mapped, y.shape[1]))
        else:
            result = OPERATORS.conv_transpose.default(y, w, inner, *rest, groups, algorithm).unsqueeze(0)
        return _add_bias(result, bias if bias_mapped else None), 0
    channels = w.shape[2] * groups
    flat_bias = _flat_bias(bias, bias_mapped, mapped)
    if y_mapped or groups > 1:
        y, w, groups = _into_channels(y, y_mapped, mapped), w.flatten(0, 1), groups * mapped
    else:
        algorithm = _of_one(algorithm, True, w[0], stride, dilation, outputs=mapped)
        w = w.movedim(0, 1).flatten(1, 2)
    result = OPERATORS.conv_transpose.default(y, w, flat_bias, *rest, groups, algorithm)
    return result.unflatten(1, (mapped, channels)), 1


def conv_weight(
    info: Any,
    in_dims: Sequence[int | None],
    x: Tensor,
    y: Tensor,
    kernel_size: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
    algorithm: str = "auto",
) -> tuple[Tensor, int]:
    """Batching rule of ``outstride::conv_weight``."""
    mapped = info.batch_size
    x, y, _, x_mapped, y_mapped, _ = _to_front(x, y, None, (*in_dims[:2], None))
    rest = (kernel_size, stride, padding, dilation)
    if groups == 1 and x_mapped != y_mapped:
        one = x.new_empty((y.shape[2 if y_mapped else 1], x.shape[2 if x_mapped else 1], *kernel_size))
        more = {"channels" if x_mapped else "outputs": mapped}
        algorithm = _of_one(algorithm, False, one, stride, dilation, **more)
        if x_mapped:
            channels = x.shape[2]
            result = OPERATORS.conv_weight.default(_into_channels(x, True, mapped), y, *rest, 1, algorithm)
            return result.unflatten(1, (mapped, channels)), 1
        channels = y.shape[2]
        result = OPERATORS.conv_weight.default(x, _into_channels(y, True, mapped), *rest, 1, algorithm)
        return result.unflatten(0, (mapped, channels)), 0
    channels = y.shape[2 if y_mapped else 1]
    x, y = _into_channels(x, x_mapped, mapped), _into_channels(y, y_mapped, mapped)
    result = OPERATORS.conv_weight.default(x, y, *rest, groups * mapped, algorithm)
    return result.unflatten(0, (mapped, channels)), 0


def bias_gradient(info: Any, in_dims: Sequence[int | None], grad: Tensor) -> tuple[Tensor, int]:
    """Batching rule of ``outstride::bias_gradient``."""
    (dim,) = in_dims
    assert dim is not None
    sums = OPERATORS.bias_gradient.default(_into_channels(grad.movedim(dim, 0), True, info.batch_size))
    return sums.unflatten(0, (info.batch_size, -1)), 0


def _of_one(
    algorithm: str, transposed: bool, weight: Tensor, stride: Ints, dilation: Ints, *, channels: int = 1,
    outputs: int = 1,
) -> str:  # fmt: skip
    """What a layer that several are folded into is asked for: direct where it is short and each is not.

    It has so many times as many `channels` or `outputs` as each with this weight.
    """
    inner, outer = weight.shape[:2] if transposed else weight.shape[1::-1]
    sizes = [tuple(map(int, each)) for each in (weight.shape[2:], stride, dilation)]
    dtype = str(weight.dtype).removeprefix("torch.")
    each, all_ = (
        choose(transposed, *sizes, int(inner) * m, int(outer) * n, dtype).short
        for m, n in ((1, 1), (channels, outputs))
    )
    return "direct" if all_ and not each else algorithm


def _to_front(
    first: Tensor, second: Tensor, bias: Tensor | None, in_dims: Sequence[int | None]
) -> tuple[Tensor, Tensor, Tensor | None, bool, bool, bool]:
    first_dim, second_dim, bias_dim = in_dims[:3]
    if first_dim is not None:
        first = first.movedim(first_dim, 0)
    if second_dim is not None:
        second = second.movedim(second_dim, 0)
    if bias is not None and bias_dim is not None:
        bias = bias.movedim(bias_dim, 0)
    return first, second, bias, first_dim is not None, second_dim is not None, bias_dim is not None


def _into_channels(tensor: Tensor, is_mapped: bool, mapped: int) -> Tensor:
    """(B, N, C, *size), or (N, C, *size) repeated B times, as (N, B*C, *size)."""
    if is_mapped:
        return tensor.movedim(0, 1).flatten(1, 2)
    return tensor.unsqueeze(1).expand(-1, mapped, *[-1] * (tensor.dim() - 1)).flatten(1, 2)


def _flat_bias(bias: Tensor | None, is_mapped: bool, mapped: int) -> Tensor | None:
    if bias is None:
        return None
    return bias.flatten() if is_mapped else bias.repeat(mapped)


def _add_bias(result: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None:
        return result
    return result + bias.reshape(bias.shape[0], 1, bias.shape[1], *[1] * (result.dim() - 3))
