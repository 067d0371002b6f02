"""Rewrites of transposed layers: a kernel that the stride divides, a smoothing filter."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from outstride.errors import ArgumentError, UnsupportedError
from outstride.layer.spec import ConvSpec
from outstride.models.operators import convolution


def extend(layer: nn.Module) -> nn.Module:
    """Lengthen a transposed layer's kernel with zeros to the next multiple of its stride, its function
    unchanged.

    Args:
        layer: a transposed convolution with stride and dilation coprime on every axis.

    Returns:
        A new layer of torch with an even overlap, for further training or ``equalize_``: zeros are added on
        the high side, or where output_padding or padding would leave their range, on the low side. The layer
        itself if its overlap is even.

    Raises:
        UnsupportedError: padding and output_padding of a torch layer cannot balance the longer kernel, or
            stride and dilation share a factor.

    Law: extend(layer)(x) = layer(x) for every x: the sums have zeros besides.

    Example:
        >>> extend(torch.nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1)).extra_repr()
        '8, 4, kernel_size=(4, 4), stride=(2, 2), padding=(1, 1)'
    """
    spec = _transposed(layer)
    numbers = [_lengthened(spec, axis) for axis in range(spec.nd)]
    befores, afters, paddings, extras = zip(*numbers, strict=True)
    if not any(befores) and not any(afters):
        return layer
    ends = [end for pair in zip(reversed(befores), reversed(afters), strict=True) for end in pair]
    weight = nn.functional.pad(_weight(layer), ends)
    return _rebuilt(layer, spec, weight, padding=paddings, output_padding=extras)


def smooth(layer: nn.Module) -> nn.Module:
    """Fold a smoothing filter into a transposed layer, so that every weight it may be trained from leaves no
    pattern.

    Args:
        layer: a transposed convolution; holes are filled too.

    Returns:
        A new layer of torch that is the old one followed by a triangle filter of 2 * stride - 1 elements per
        axis (1 2 1 over 4 for a stride of 2), of the same output size and position. Only at the border it
        differs from
        two layers: what lies beyond is smoothed in, not zeros.

    Raises:
        UnsupportedError: a padding of pairs or with another padding mode than zeros.

    Law: its gain is the old one's mean in every phase: the filter is the box of one stride twice, and a box
    of one stride has the same sum wherever it lies on a periodic signal.

    Example:
        >>> smooth(torch.nn.ConvTranspose1d(1, 1, 2, stride=2, bias=False)).extra_repr()
        '1, 1, kernel_size=(4,), stride=(2,), padding=(1,), bias=False'
    """
    spec = _transposed(layer)
    weight = _weight(layer).to(torch.float64)
    for axis in range(spec.nd):
        weight = _convolved(_dense(weight, axis, spec.dilation[axis]), axis, triangle(spec.stride[axis]))
    lows = _symmetric(spec)
    paddings = tuple(low + stride - 1 for low, stride in zip(lows, spec.stride, strict=True))
    return _rebuilt(layer, spec, weight, padding=paddings, output_padding=spec.output_padding, dilation=1)


def smoothing(channels: int, stride: int, nd: int = 2, dtype: torch.dtype | None = None) -> nn.Module:
    """Return a filter to put behind any enlarging layer or chain, which removes every pattern of period
    ``stride``.

    Args:
        channels: of the feature map or picture.
        stride: the period, at least 1.
        nd: axes, 1 to 3.
        dtype: of the filter; None is torch's default.

    Returns:
        A depthwise convolution of torch with the triangle of 2 * stride - 1 elements per axis, replicating
        the border. Its frequency response is zero at every multiple of 1 / stride but 0.

    Example:
        >>> smoothing(1, 2, nd=1).weight.tolist()
        [[[0.25, 0.5, 0.25]]]
    """
    length = 2 * stride - 1
    layer: nn.Module = convolution.CONVOLUTIONS[nd - 1](
        channels,
        channels,
        length,
        padding=stride - 1,
        groups=channels,
        bias=False,
        padding_mode="replicate",
        dtype=dtype,
    )
    weight = torch.ones(1, 1, *(1,) * nd, dtype=torch.float64)
    for axis in range(nd):
        weight = _convolved(weight, axis, triangle(stride))
    with torch.no_grad():
        dict(layer.named_parameters())["weight"].copy_(weight)
    return layer.requires_grad_(False)


def triangle(stride: int) -> Tensor:
    """The box of one stride convolved with itself, of sum 1: symmetric, so that it moves nothing."""
    up = torch.arange(1, stride + 1, dtype=torch.float64)
    return torch.cat([up, up.flip(0)[1:]]) / stride**2


def _transposed(layer: nn.Module) -> ConvSpec:
    spec = ConvSpec.of(layer)
    if spec.kind != "conv_transpose":
        raise ArgumentError(
            f"'layer' must be a transposed convolution: got {spec!r}; legal: such as ConvTranspose2d"
        )
    return spec


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.detach()


def _symmetric(spec: ConvSpec) -> tuple[int, ...]:
    if (
        spec.padding == "same"
        or spec.padding_mode != "zeros"
        or any(low != high for low, high in spec.padding)
    ):
        raise UnsupportedError(
            f"'layer' must have a padding that torch's transposed layers have: got {spec!r}; "
            f"legal: one number per axis, with padding_mode='zeros'"
        )
    return tuple(low for low, _ in spec.padding)


def _lengthened(spec: ConvSpec, axis: int) -> tuple[int, int, int, int]:
    """Zeros before and after the kernel, padding and output_padding of the longer layer.

    With a zeros before and b after, the low side needs p + a * d; the output stays as long if
    output_padding changes by (a - b) * d.
    """
    low, extra = _symmetric(spec)[axis], spec.output_padding[axis]
    kernel, stride, dilation = spec.kernel_size[axis], spec.stride[axis], spec.dilation[axis]
    if not any(sum((k * dilation - f) % stride == 0 for k in range(stride)) != 1 for f in range(stride)):
        more = -kernel % stride
        for before in range(more + 1):
            after = more - before
            changed = extra + (before - after) * dilation
            if 0 <= changed < max(stride, dilation):
                return before, after, low + before * dilation, changed
    raise UnsupportedError(
        f"'layer' must have a longer kernel with the same output: got {spec!r}; legal: a stride and dilation "
        "without a common factor, and an output_padding that balances the longer kernel"
    )


def _dense(weight: Tensor, axis: int, dilation: int) -> Tensor:
    """A dilated kernel written out with its zeros."""
    if dilation == 1:
        return weight
    size = dilation * (weight.shape[axis + 2] - 1) + 1
    shape = list(weight.shape)
    shape[axis + 2] = size
    index = torch.arange(0, size, dilation, device=weight.device)
    return weight.new_zeros(shape).index_copy_(axis + 2, index, weight)


def _convolved(weight: Tensor, axis: int, taps: Tensor) -> Tensor:
    """The kernel convolved in full with a filter along one axis."""
    moved = weight.movedim(axis + 2, -1)
    flat = nn.functional.conv_transpose1d(
        moved.reshape(-1, 1, moved.shape[-1]), taps.to(moved).view(1, 1, -1)
    )
    return flat.view(*moved.shape[:-1], -1).movedim(-1, axis + 2)


def _rebuilt(layer: Any, spec: ConvSpec, weight: Tensor, **changed: Any) -> nn.Module:
    options: dict[str, Any] = {
        "stride": spec.stride,
        "dilation": spec.dilation,
        "groups": spec.groups,
        "bias": spec.bias,
        "device": layer.weight.device,
        "dtype": layer.weight.dtype,
    }
    made: nn.Module = convolution.TRANSPOSED[spec.nd - 1](
        spec.in_channels, spec.out_channels, tuple(weight.shape[2:]), **(options | changed)
    )
    with torch.no_grad():
        parameter_of = dict(made.named_parameters())
        parameter_of["weight"].copy_(weight)
        if spec.bias:
            parameter_of["bias"].copy_(layer.bias)
    return made.train(layer.training)
