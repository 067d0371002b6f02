"""A strided convolution as space-to-depth and a convolution of stride 1, and back."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from outstride.convert import parts
from outstride.convert.models import rewritten, rewritten_if_any
from outstride.convert.zero_insertion import SamePad
from outstride.errors import ArgumentError
from outstride.layer import arguments as argument
from outstride.layer.arguments import Pairs
from outstride.layer.spec import ConvSpec
from outstride.models.operators import convolution


def to_space_to_depth(layer: nn.Module) -> nn.Module:
    """Write a strided convolution as a rearrangement of its input and a convolution of stride 1.

    Args:
        layer: a convolution of torch or of this package with a stride above 1 and any other parameters, or a
            model that holds some; the model itself is left as it is.

    Returns:
        For a layer a Sequential of what is needed of ``border``, ``space_to_depth`` (stride times the
        channels per axis) and ``conv`` (stride 1, ceil(window / stride) taps per axis or fewer). For a model
        a copy with such a Sequential under the old name of each. The weights are copies.

    Raises:
        ArgumentError: there is no strided convolution, or one that has seen no input yet.

    Law: to_space_to_depth(layer)(x) = layer(x) for every x: the sums have the same products and zeros
    besides.

    Example:
        >>> to_space_to_depth(nn.Conv2d(3, 64, 7, stride=2, padding=3)).conv
        Conv2d(12, 64, kernel_size=(4, 4), stride=(1, 1))
    """
    argument.module("layer", layer)
    return rewritten(layer, _is_strided, _to_space_to_depth, "a convolution with a stride above 1")


def from_space_to_depth(layer: nn.Module, factor: int | None = None) -> nn.Module:
    """Write a pixel unshuffle and the convolution behind it as one strided convolution.

    Args:
        layer: ``Sequential(PixelUnshuffle, conv)``, a Conv2d with ``factor`` given, or a model that holds
            such pairs side by side in a Sequential; the model itself is left as it is.
        factor: of the unshuffle before the convolution.

    Returns:
        For a pair a Sequential of what is needed of ``border`` and ``conv``: kernel factor * window, factor
        times the stride and the padding. For a model a copy with such a Sequential in place of each
        convolution and nothing in place of the unshuffle.

    Raises:
        ArgumentError: there is no such pair, or the factor does not fit the channels.

    Law: from_space_to_depth(pair)(x) = pair(x) for every x whose sizes the factor divides, as the pair
    demands.

    Example:
        >>> from_space_to_depth(nn.Conv2d(12, 8, 2), 2).conv
        Conv2d(3, 8, kernel_size=(4, 4), stride=(2, 2))
    """
    argument.module("layer", layer)
    if factor is not None:
        return _from_space_to_depth(layer, factor)
    return rewritten(
        layer, _is_pair, _from_pair, "a Sequential with a PixelUnshuffle and a convolution behind it"
    )


def _is_strided(layer: nn.Module) -> bool:
    return isinstance(layer, convolution.CONVOLUTIONS) and any(s > 1 for s in layer.stride)


def _to_space_to_depth(layer: nn.Module) -> nn.Module:
    spec, weight, bias = parts.known_weights(layer)
    made = nn.Sequential()
    zeros: Pairs = ((0, 0),) * spec.nd
    if spec.padding == "same":
        made.add_module("border", SamePad(spec))
        pads = zeros
    elif spec.padding_mode != "zeros" and any(map(any, spec.padding)):
        made.add_module("border", parts.border(spec.padding_mode, spec.padding))
        pads = zeros
    else:
        pads = spec.padding
    made.add_module("space_to_depth", parts.SpaceToDepth(spec.window, spec.stride, pads))
    rows, spacing = weight, []
    for axis in range(spec.nd):
        rows, gap = _by_phase(rows, spec, axis)
        spacing.append(gap)
    # (O, C, s1, k1 to sn, kn): the phases go to the inputs, the last fastest.
    order = [0, 1, *range(2, 2 * spec.nd + 2, 2), *range(3, 2 * spec.nd + 2, 2)]
    small = rows.permute(order).flatten(1, spec.nd + 1)
    conv: nn.Module = convolution.CONVOLUTIONS[spec.nd - 1](
        small.shape[1] * spec.groups,
        small.shape[0],
        cast(Any, tuple(small.shape[2:])),
        dilation=cast(Any, tuple(spacing)),
        groups=spec.groups,
        bias=bias is not None,
        device="meta",
    )
    made.add_module("conv", parts.filled(conv, small, bias))
    return made.train(layer.training)


def _by_phase(rows: Tensor, spec: ConvSpec, axis: int) -> tuple[Tensor, int]:
    """The axis's kernel as (phases, small kernel), and the small kernel's dilation.

    Output q reads the bordered input at q * stride + k * dilation = stride * (q + a) + phase.
    """
    place, stride = 2 + 2 * axis, spec.stride[axis]
    steps = [divmod(k * spec.dilation[axis], stride) for k in range(spec.kernel_size[axis])]
    gap = math.gcd(*(a for a, _ in steps)) or 1
    size = steps[-1][0] // gap + 1
    shape = list(rows.shape)
    shape[place] = stride * size
    index = torch.tensor([phase * size + a // gap for a, phase in steps], device=rows.device)
    return rows.new_zeros(shape).index_copy(place, index, rows).unflatten(place, (stride, size)), gap


def _is_pair(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Sequential) and bool(_pairs(layer))


def _pairs(layer: nn.Sequential) -> dict[str, str]:
    """The name of each unshuffle and of the convolution right behind it."""
    return {
        first: second
        for (first, before), (second, conv) in pairwise(layer.named_children())
        if isinstance(before, nn.PixelUnshuffle) and isinstance(conv, nn.Conv2d)
    }


def _from_pair(layer: nn.Module) -> nn.Module:
    assert isinstance(layer, nn.Sequential)
    found = _pairs(layer)
    back = {second: first for first, second in found.items()}
    made = nn.Sequential()
    for name, child in layer.named_children():
        if name in back:
            before = layer.get_submodule(back[name])
            assert isinstance(before, nn.PixelUnshuffle)
            made.add_module(name, _from_space_to_depth(child, before.downscale_factor))
        elif name not in found:
            made.add_module(name, rewritten_if_any(child, _is_pair, _from_pair))
    return made[0] if len(made) == 1 else made.train(layer.training)


def _from_space_to_depth(layer: nn.Module, factor: int) -> nn.Module:
    spec, weight, bias = parts.known_weights(layer)
    phases = factor**parts.PLANE
    if spec.kind != "conv" or spec.nd != parts.PLANE or factor < 1 or weight.shape[1] % phases:
        raise ArgumentError(
            "'factor' must be 1 or more, and its square must divide the inputs of each group of a Conv2d: "
            f"got {factor} for {spec!r}; legal: such as 1"
        )
    made = nn.Sequential()
    pads: Pairs = ((0, 0),) * spec.nd if spec.padding == "same" else spec.padding
    inside = (
        spec.padding_mode == "zeros" and spec.padding != "same" and all(low == high for low, high in pads)
    )
    if not inside:
        # Only zeros can be added before or after the rearrangement alike; other borders are made of whole
        # cells.
        made.add_module("space_to_depth", nn.PixelUnshuffle(factor))
        made.add_module(
            "border", SamePad(spec) if spec.padding == "same" else parts.border(spec.padding_mode, pads)
        )
        made.add_module("shuffle", nn.PixelShuffle(factor))
        pads = ((0, 0),) * spec.nd
    rows = weight.unflatten(1, (-1, factor, factor))
    rows = rows.permute(0, 1, 4, 2, 5, 3)  # (O, C, kh, rh, kw, rw)
    for axis in range(spec.nd):
        rows = _dense(rows.flatten(2 + axis, 3 + axis), 2 + axis, factor, spec.dilation[axis])
    conv = nn.Conv2d(
        rows.shape[1] * spec.groups,
        rows.shape[0],
        cast(Any, tuple(rows.shape[2:])),
        stride=cast(Any, tuple(factor * s for s in spec.stride)),
        padding=cast(Any, tuple(factor * low for low, _ in pads)),
        groups=spec.groups,
        bias=bias is not None,
        device="meta",
    )
    made.add_module("conv", parts.filled(conv, rows, bias))
    return made.train(layer.training)


def _dense(rows: Tensor, place: int, factor: int, dilation: int) -> Tensor:
    """Element (j, phase) of an axis at factor * dilation * j + phase."""
    kernel = rows.shape[place] // factor
    shape = list(rows.shape)
    shape[place] = factor * (dilation * (kernel - 1) + 1)
    index = [factor * dilation * j + phase for j in range(kernel) for phase in range(factor)]
    return rows.new_zeros(shape).index_copy(place, torch.tensor(index, device=rows.device), rows)
