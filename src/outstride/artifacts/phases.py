"""Which weights act in which phase: the layouts of transposed, strided and sub-pixel layers as one matrix."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from outstride.artifacts.coverage import phase_lows
from outstride.errors import ArgumentError, UnsupportedError
from outstride.layer.spec import ConvSpec

SHUFFLED_AXES = 2
"""torch's PixelShuffle knows pictures only."""


@dataclass(frozen=True, eq=False)
class Phased:
    """A layer's weights as rows of taps, and the phase that each tap belongs to.

    ``rows`` is (out, in / groups, taps) in float64 for what the pattern appears in: outputs and inputs of a
    transposed or sub-pixel layer, inputs and outputs of a strided convolution (its gradient). ``mask``
    (phases, taps) holds 1 where the tap acts in the phase, the last axis fastest; its row sums are the taps
    of a phase.
    """

    of: Literal["output", "gradient"]
    layer: nn.Module
    stride: tuple[int, ...]
    shuffled: bool
    rows: Tensor
    mask: Tensor
    bias: Tensor | None

    @property
    def groups(self) -> int:
        """Groups of the layer's channels."""
        return ConvSpec.of(self.layer).groups

    @property
    def shuffled_phases(self) -> int | None:
        """Phases that lie in a sub-pixel layer's channels; None where they lie in the kernel."""
        return prod(self.stride) if self.shuffled else None

    @property
    def gains(self) -> Tensor:
        """What a constant 1 comes to, (out, in / groups, phases): the sum of each phase's taps."""
        return self.rows @ self.mask.T

    @torch.no_grad()
    def put(self, rows: Tensor, bias: Tensor | None = None) -> None:
        """Write rows of the same shape, and a bias per phase, into the layer's own parameters."""
        weight = parameter(self.layer, "weight")
        weight.copy_(weight_of(rows, weight.shape, self.groups, self.shuffled_phases))
        if bias is not None:
            parameter(self.layer, "bias").copy_(bias.reshape(-1))


def phased(layer: nn.Module, shuffle: int | None = None) -> Phased:
    """Lay out the weights of a transposed, strided or sub-pixel layer by phase.

    A sub-pixel layer is ``Sequential(Conv2d, PixelShuffle)``, or a ``Conv2d`` with ``shuffle`` given.
    """
    conv, factor = sub_pixel(layer, shuffle)
    spec = ConvSpec.of(conv)
    weight = getattr(conv, "weight", None)
    if spec.is_pool or not isinstance(weight, Tensor):
        raise ArgumentError(
            f"'layer' must have weights: got {spec!r}; legal: a convolution or transposed convolution"
        )
    bias = getattr(conv, "bias", None)
    values = weight.detach().to(torch.float64)
    if factor is not None:
        return _sub_pixel_rows(conv, values, bias, factor)
    rows = rows_of(values, spec.groups, None)
    of: Literal["output", "gradient"] = "output" if spec.kind == "conv_transpose" else "gradient"
    return Phased(of, conv, spec.stride, False, rows, _mask(spec, values), _double(bias))


def sub_pixel(layer: nn.Module, shuffle: int | None = None) -> tuple[nn.Module, int | None]:
    """The convolution and the factor of a sub-pixel layer; the layer itself and None for any other."""
    if isinstance(layer, nn.Sequential) and len(layer) == SHUFFLED_AXES:
        conv, last = layer
        if isinstance(last, nn.PixelShuffle) and hasattr(conv, "out_channels"):
            if shuffle not in (None, last.upscale_factor):
                raise ArgumentError(
                    f"'shuffle' must be the factor of the layer's PixelShuffle: got {shuffle}; "
                    f"legal: {last.upscale_factor}"
                )
            layer, shuffle = conv, int(last.upscale_factor)
    if shuffle is None:
        return layer, None
    spec = ConvSpec.of(layer)
    if spec.kind != "conv" or spec.nd != SHUFFLED_AXES or any(s != 1 for s in spec.stride):
        raise ArgumentError(
            f"'layer' before a pixel shuffle must be a Conv2d of stride 1: got {spec!r}; legal: Conv2d"
        )
    if shuffle < 1 or (spec.out_channels or 0) % shuffle**2:
        raise ArgumentError(
            "'shuffle' must be 1 or more, and its square must divide 'out_channels': "
            f"got shuffle={shuffle} for {spec!r}; legal: shuffle=1"
        )
    return layer, shuffle


def parameter(layer: nn.Module, name: str) -> nn.Parameter:
    """The layer's own parameter, which a cure may change."""
    found = dict(layer.named_parameters(recurse=False)).get(name)
    if found is None:
        raise UnsupportedError(
            f"'layer' must own its {name}: got a {type(layer).__name__} whose {name} is computed from other "
            f"parameters; legal: first torch.nn.utils.parametrize.remove_parametrizations(layer, {name!r})"
        )
    return found


def rows_of(weight: Tensor, groups: int, shuffled_phases: int | None) -> Tensor:
    """A weight as ``Phased.rows`` has it."""
    if shuffled_phases is None:
        return _swapped(weight, groups).flatten(2)
    rows: Tensor = weight.flatten(2).unflatten(0, (-1, shuffled_phases))
    return rows.transpose(1, 2).flatten(2)


def weight_of(rows: Tensor, shape: torch.Size, groups: int, shuffled_phases: int | None) -> Tensor:
    """The weight of this shape that has these rows."""
    if shuffled_phases is None:
        return _swapped(rows.unflatten(2, shape[2:]), groups)
    split: Tensor = rows.unflatten(2, (shuffled_phases, -1))
    return split.transpose(1, 2).reshape(shape)


def _swapped(weight: Tensor, groups: int) -> Tensor:
    """(groups * a, b, *kernel) as (groups * b, a, *kernel): whose outputs are the other's inputs."""
    split: Tensor = weight.unflatten(0, (groups, -1)).transpose(1, 2)
    return split.flatten(0, 1)


def _mask(spec: ConvSpec, like: Tensor) -> Tensor:
    """The taps of each phase, as the product of what each axis has."""
    axes = zip(spec.kernel_size, spec.stride, spec.dilation, phase_lows(spec), strict=True)
    per_axis = [
        [[float((k * dilation - low) % stride == phase) for k in range(kernel)] for phase in range(stride)]
        for kernel, stride, dilation, low in axes
    ]
    return reduce(torch.kron, (like.new_tensor(rows) for rows in per_axis))


def _sub_pixel_rows(conv: nn.Module, weight: Tensor, bias: Any, factor: int) -> Phased:
    phases = factor**SHUFFLED_AXES
    taps = weight[0, 0].numel()
    rows = rows_of(weight, 1, phases)
    mask = torch.eye(phases, dtype=weight.dtype, device=weight.device).repeat_interleave(taps, 1)
    return Phased("output", conv, (factor,) * SHUFFLED_AXES, True, rows, mask, _double(bias))


def _double(bias: Any) -> Tensor | None:
    return bias.detach().to(torch.float64) if isinstance(bias, Tensor) else None
