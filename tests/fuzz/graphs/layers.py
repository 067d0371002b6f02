"""Calls of layers: convolutions and their adjoints with all options, norms, pooling, resizing, borders."""

from __future__ import annotations

from dataclasses import replace
from types import MethodType
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from tests.fuzz.graphs.builder import Builder
from tests.fuzz.graphs.program import Call

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE_NORM = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_MAX_POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVG_POOL = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
_WHOLE_POOL = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
_CONSTANT_PAD = {1: nn.ConstantPad1d, 2: nn.ConstantPad2d, 3: nn.ConstantPad3d}
_REFLECTION_PAD = {1: nn.ReflectionPad1d, 2: nn.ReflectionPad2d, 3: nn.ReflectionPad3d}
_REPLICATION_PAD = {1: nn.ReplicationPad1d, 2: nn.ReplicationPad2d, 3: nn.ReplicationPad3d}
_WIDTHS = (1, 2, 3, 4, 5, 8, 12, 16, 17)


def _channels(value: Tensor) -> tuple[int, int]:
    return value.shape[1], value.dim() - 2


def contraction(b: Builder) -> Call | None:
    """A layer of any kind; half of them keep the size, so that residuals have something to be added to."""
    place, dice = b.image(), b.dice
    if place is None:
        return None
    channels, nd = _channels(b.values[place])
    transposed = dice.chance(0.3)
    keeps = dice.chance(0.5)
    groups, outputs = 1, channels if keeps else dice.one(_WIDTHS)
    if dice.chance(0.3):
        groups = (
            channels if dice.chance(0.6) else dice.one([g for g in (2, 3, 4, 8) if channels % g == 0] or [1])
        )
        outputs = channels if keeps or dice.chance(0.6) else groups * dice.one((1, 2, 3))
    many = dice.chance(0.3)

    def each(*choices: int) -> Any:
        return tuple(dice.one(choices) for _ in range(nd)) if many else dice.one(choices)

    kernel, stride, dilation = each(1, 1, 2, 3, 3, 3, 4, 5, 7), each(1, 1, 1, 2, 2, 3), each(1, 1, 1, 2, 3)
    how: dict[str, Any] = {"groups": groups, "bias": dice.chance(0.6)}
    if transposed:
        kernel = 2 * stride if isinstance(stride, int) and dice.chance(0.5) and stride > 1 else kernel
        padding: Any = each(0, 0, 1, 1, 2)
        how |= {"output_padding": each(0, 1) if dice.chance(0.2) else 0}
        layer: nn.Module = _TRANSPOSED[nd](
            channels, outputs, kernel, stride, padding, dilation=dilation, **how
        )
        return b.model.layer(layer, place)
    if keeps:
        kernel, stride = dice.one((1, 3, 3, 3, 5)), 1
        dilation = dice.one((1, 1, 1, 2))
        padding = (kernel - 1) * dilation // 2 if dice.chance(0.8) else "same"
    else:
        padding = each(0, 0, 1, 1, 2, 3) if dice.chance(0.9) else "valid"
    if dice.chance(0.12):
        how["padding_mode"] = dice.one(("reflect", "replicate", "circular"))
    return b.model.layer(_CONV[nd](channels, outputs, kernel, stride, padding, dilation, **how), place)


def norm(b: Builder) -> Call | None:
    """Of the batch, of an instance, of groups."""
    place, dice = b.image(), b.dice
    if place is None:
        return None
    channels, nd = _channels(b.values[place])
    kind = dice.one(("batch", "batch", "batch", "instance", "instance", "group"))
    if kind == "group":
        groups = dice.one([g for g in (1, 2, 3, 4, channels) if channels % g == 0])
        layer: nn.Module = nn.GroupNorm(groups, channels, affine=dice.chance(0.7))
    elif kind == "instance":
        layer = _INSTANCE_NORM[nd](
            channels,
            affine=dice.chance(0.5),
            track_running_stats=dice.chance(0.15),
            eps=dice.one((1e-5, 1e-3)),
        )
    else:
        layer = _BATCH_NORM[nd](
            channels,
            affine=dice.chance(0.85),
            eps=dice.one((1e-5, 1e-3)),
            track_running_stats=dice.chance(0.93),
        )
    for name, tensor in (*layer.named_parameters(), *layer.named_buffers()):
        if tensor.is_floating_point():
            low, high = (0.3, 2.0) if name.endswith(("var", "weight")) else (-1.0, 1.0)
            nn.init.uniform_(tensor, low, high)
    return b.model.layer(layer, place)


def pool(b: Builder) -> Call | None:
    """Largest or average elements of windows, or of the whole."""
    place, dice = b.image(), b.dice
    if place is None:
        return None
    nd = b.values[place].dim() - 2
    kernel, stride = dice.one((1, 2, 2, 3, 3)), dice.one((None, 1, 2, 2, 3))
    padding, ceil = dice.upto(0, kernel // 2), dice.chance(0.25)
    kind = dice.one(("max", "max", "average", "average", "whole"))
    if kind == "max":
        layer: nn.Module = _MAX_POOL[nd](kernel, stride, padding, dice.one((1, 1, 1, 2)), ceil_mode=ceil)
    elif kind == "average":
        layer = _AVG_POOL[nd](kernel, stride, padding, ceil, dice.chance(0.5))
    else:
        layer = _WHOLE_POOL[nd](dice.one((1, 1, 2, 3)))
    return b.model.layer(layer, place)


def resize(b: Builder) -> Call | None:
    """Upsampling, shuffling of pixels, borders."""
    place, dice = b.image(), b.dice
    if place is None:
        return None
    value = b.values[place]
    channels, nd = _channels(value)
    kind = dice.one(("nearest", "nearest", "linear", "shuffle", "unshuffle", "pad", "pad"))
    if kind == "nearest":
        layer: nn.Module = nn.Upsample(scale_factor=dice.one((2, 2, 3, 1.5)), mode="nearest")
    elif kind == "linear":
        mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[nd]
        layer = nn.Upsample(scale_factor=2, mode=mode, align_corners=dice.chance(0.5))
    elif kind == "shuffle":
        if channels % 4 and dice.chance(0.8):
            return None
        layer = nn.PixelShuffle(dice.one((1, 2, 2, 2)))
    elif kind == "unshuffle":
        layer = nn.PixelUnshuffle(2)
    else:
        pads: Any = tuple(dice.one((0, 1, 1, 2)) for _ in range(2 * nd))
        layer = dice.one(
            (
                _CONSTANT_PAD[nd](pads, dice.one((0.0, 0.0, -1.5))),
                _REFLECTION_PAD[nd](pads),
                _REPLICATION_PAD[nd](pads),
                _CONSTANT_PAD[nd](1, 0.0),
            )
        )
    return b.model.layer(layer, place)


def activation(b: Builder) -> Call | None:
    """Those that are steps of a kernel, and those that are torch's; some write where their input lies."""
    place, dice = b.pick(lambda v: v.is_floating_point()), b.dice
    if place is None:
        return None
    value, inplace = b.values[place], dice.chance(0.3) and may_write(b, place)
    channels = value.shape[1] if value.dim() > 1 else 1
    if dice.chance(0.4):
        return b.model.layer(nn.ReLU(inplace), place)
    layer: nn.Module = dice.one(
        (
            nn.ReLU6(inplace),
            nn.LeakyReLU(dice.one((0.1, 0.01, 0.0, -0.2)), inplace),
            nn.LeakyReLU(0.2, inplace),
            nn.PReLU(1),
            nn.PReLU(max(channels, 1)),
            nn.Hardtanh(-0.5, 0.7, inplace),
            nn.Hardswish(inplace),
            nn.Hardsigmoid(inplace),
            nn.GELU(),
            nn.SiLU(inplace),
            nn.Tanh(),
            nn.Sigmoid(),
            nn.ELU(inplace=inplace),
            nn.Softmax(1),
            nn.Dropout(0.3),
            nn.Identity(),
            nn.Mish(inplace),
            nn.Softplus(),
        )
    )
    return b.model.layer(layer, place)


def repeat(b: Builder) -> Call | None:
    """A layer that the model has, once more."""
    if not len(b.model.layers):
        return None
    place = b.pick(lambda v: v.is_floating_point())
    return None if place is None else b.model.again(b.dice.upto(0, len(b.model.layers) - 1), place)


def may_write(b: Builder, place: int) -> bool:
    """Whether a call may write to a value: seldom to an input, and not where its derivative is asked for."""
    inputs = {value.untyped_storage().data_ptr() for value in b.values[: b.given]}
    if b.values[place].untyped_storage().data_ptr() not in inputs:
        return True
    return not b.is_trained and b.dice.chance(0.15)


def linear(b: Builder) -> Call | None:
    """A matrix on the last axis: of a layer, of one with another ``forward``, or a function's."""
    place, dice = b.pick(lambda v: v.is_floating_point() and v.dim() > 0 and 0 < v.shape[-1] <= 600), b.dice
    if place is None:
        return None
    layer = nn.Linear(b.values[place].shape[-1], dice.one(_WIDTHS), dice.chance(0.5))
    kind = dice.one(("layer", "layer", "layer", "replaced", "function"))
    if kind == "function":
        find = b.model.tensor(layer.weight.detach().to(b.values[0].dtype))
        return Call(f"function of {layer}", lambda model, v: F.linear(v, find(model)), (place,))
    if kind == "replaced":
        vars(layer)["forward"] = MethodType(_half, layer)
    call = b.model.layer(layer, place)
    return replace(call, text=f"{call.text} {kind}") if kind == "replaced" else call


def _half(layer: nn.Linear, x: Tensor) -> Tensor:
    """What is put in the place of a layer's ``forward``."""
    return F.linear(x, layer.weight, layer.bias) * 0.5


__all__ = ["activation", "contraction", "linear", "norm", "pool", "repeat", "resize"]
