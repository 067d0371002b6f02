"""The small layers that rewrites are built from, where torch has none of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from outstride.errors import ArgumentError
from outstride.layer.spec import ConvSpec
from outstride.models.operators import padding

PLANE = 2
"""Axes that torch's PixelShuffle knows."""


class Shuffle(nn.Module):
    """Channels into space: ``nn.PixelShuffle`` for any number of axes and a factor for each."""

    def __init__(self, stride: Sequence[int]) -> None:
        super().__init__()
        self.stride = tuple(stride)

    def forward(self, input: Tensor) -> Tensor:
        """Turn (..., O * factors, *size) into (..., O, *size * stride); the last factor is the fastest."""
        nd = len(self.stride)
        split = input.unflatten(-nd - 1, (-1, *self.stride))
        # (..., O, s1 to sn, q1 to qn): each factor goes behind its own axis.
        lead = split.dim() - 2 * nd
        order = [place for axis in range(nd) for place in (lead + nd + axis, lead + axis)]
        moved: Tensor = split.permute(*range(lead), *order)
        for axis in range(nd):
            moved = moved.flatten(lead + axis, lead + axis + 1)
        return moved

    def extra_repr(self) -> str:
        return str(self.stride)


class SpaceToDepth(nn.Module):
    """Space into channels, for a convolution that follows: ``nn.PixelUnshuffle`` for any size and axes.

    The input is padded, or cut where the strided layer would not read on, to the cells that the outputs of a
    layer with this window, stride and padding see.
    """

    def __init__(
        self, window: Sequence[int], stride: Sequence[int], padding: Sequence[tuple[int, int]]
    ) -> None:
        super().__init__()
        self.window, self.stride = tuple(window), tuple(stride)
        self.padding = tuple(padding)

    def forward(self, input: Tensor) -> Tensor:
        """Turn (..., C, *size) into (..., C * factors, *cells), the last factor fastest in the channels."""
        nd = len(self.stride)
        lead = input.dim() - nd
        # The outputs of n padded elements read (n - window) // s + 1 + (window - 1) // s cells, which is
        # (n + spare) // s with what the last window lacks of a cell: a number that holds for every size, so
        # no exporter sees sizes in what is padded and sliced.
        ends: list[int] = []
        for (low, high), s, w in zip(*map(reversed, (self.padding, self.stride, self.window)), strict=True):
            ends += [low, high + s - 1 - (w - 1) % s]
        split = F.pad(input, ends)
        for axis, s in enumerate(self.stride):
            rest = (slice(None),) * (nd - 1 - axis)
            # Every phase ends with the last whole cell; the phases go to the channels.
            places = [(..., slice(p, (p - s + 1) or None, s), *rest) for p in range(s)]
            split = torch.stack([split[place] for place in places], lead + axis)
        return split.flatten(lead - 1, lead - 1 + nd)

    def extra_repr(self) -> str:
        return f"window={self.window}, stride={self.stride}, padding={self.padding}"


class PhaseBias(nn.Module):
    """One number for each channel and phase: what a sub-pixel layer's bias is behind its shuffle."""

    def __init__(self, bias: Tensor, stride: Sequence[int]) -> None:
        super().__init__()
        self.stride = tuple(stride)
        self.bias = copied(bias)

    def forward(self, input: Tensor) -> Tensor:
        """Add to (..., O, *size), every size a multiple of its stride."""
        nd = len(self.stride)
        lead = input.dim() - nd
        split = input
        for axis in reversed(range(nd)):
            split = split.unflatten(lead + axis, (-1, self.stride[axis]))
        shape = [-1, *(entry for s in self.stride for entry in (1, s))]
        split = split + self.bias.view(shape)
        for axis in range(nd):
            split = split.flatten(lead + axis, lead + axis + 1)
        return split

    def extra_repr(self) -> str:
        return str(self.stride)


def shuffle(stride: Sequence[int]) -> nn.Module:
    """torch's own PixelShuffle where it can do it."""
    if len(stride) == PLANE and len(set(stride)) == 1:
        return nn.PixelShuffle(stride[0])
    return Shuffle(stride)


def border(mode: str, pairs: Sequence[tuple[int, int]]) -> nn.Module:
    """torch's layer that pads by one (low, high) pair per axis; a negative amount cuts off."""
    ends = tuple(end for pair in reversed(pairs) for end in pair)
    layer: nn.Module = padding.LAYERS[mode][len(pairs) - 1](ends)
    return layer


def filled(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A layer that was made without memory, with copies of these weights."""
    cast(Any, layer).weight = copied(weight)
    if bias is not None:
        cast(Any, layer).bias = copied(bias)
    return layer


def copied(values: Tensor) -> nn.Parameter:
    """A parameter of its own that trains if the values do."""
    return nn.Parameter(values.detach().clone(), requires_grad=values.requires_grad)


def swapped(weight: Tensor, groups: int) -> Tensor:
    """(groups * a, b, *kernel) as (groups * b, a, *kernel): outputs first instead of inputs, or back."""
    split: Tensor = weight.unflatten(0, (groups, -1))
    return split.transpose(1, 2).flatten(0, 1)


def current(layer: nn.Module, name: str) -> Tensor | None:
    """A weight as the next call would use it, where a hook of torch's computes it at every call."""
    for hook in layer._forward_pre_hooks.values():  # noqa: SLF001 - torch has no other way to them
        if isinstance(hook, WeightNorm) and hook.name == name:
            return cast(Tensor, hook.compute_weight(layer))
        if isinstance(hook, SpectralNorm) and hook.name == name:
            return hook.compute_weight(layer, do_power_iteration=False)
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == name:  # noqa: SLF001 - nor to this
            return cast(Tensor, hook.apply_mask(layer))
    return getattr(layer, name, None)


def known_weights(layer: nn.Module) -> tuple[ConvSpec, Tensor, Tensor | None]:
    """A layer's description, weight and bias; refused where they are not known yet."""
    spec = ConvSpec.of(layer)
    weight, bias = current(layer, "weight"), current(layer, "bias")
    if isinstance(weight, nn.parameter.UninitializedParameter):
        raise ArgumentError(
            f"'layer' must know its weights: got {type(layer).__name__} that has seen no input; legal: call "
            f"it once before"
        )
    if not isinstance(weight, Tensor):
        raise ArgumentError(
            f"'layer' must be a convolution: got {spec!r}; legal: such as Conv2d and ConvTranspose2d"
        )
    return spec, weight, bias
