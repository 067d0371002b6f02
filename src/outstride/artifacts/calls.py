"""A call of torch's functions as the layer that it stands for: F.conv_transpose2d as a ConvTranspose2d."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
AVG_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
POOLS = (*MAX_POOLS, *AVG_POOLS)

Build = Callable[..., nn.Module | None]


def layer_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> nn.Module | None:
    """The layer that computes what a function of torch is called for; None for a function that is none.

    Its weights are those of the call, not copies: what changes the one changes the other.
    """
    found = FUNCTIONS.get(func)
    if found is None:
        return None
    build, names = found
    given = dict(zip(names, args, strict=False)) | kwargs
    return build(**{name: value for name, value in given.items() if value is not None})


def _convolution(kinds: Sequence[type[nn.Module]], inputs_first: bool) -> Build:
    def build(input: Tensor, weight: Tensor, bias: Tensor | None = None, **options: Any) -> nn.Module:
        del input
        groups = options.get("groups", 1)
        # A transposed layer's weight is (in, out / groups, ...), another's (out, in / groups, ...).
        whole, parted = weight.shape[0], weight.shape[1] * groups
        channels = (whole, parted) if inputs_first else (parted, whole)
        options |= {"bias": bias is not None, "device": "meta"}
        layer: Any = kinds[weight.dim() - 3](*channels, tuple(weight.shape[2:]), **options)
        layer.weight = _shared(weight)
        if bias is not None:
            layer.bias = _shared(bias)
        return cast(nn.Module, layer.eval())

    return build


def _shared(values: Tensor) -> nn.Parameter:
    if isinstance(values, nn.Parameter):
        return values
    return nn.Parameter(values.detach(), requires_grad=False)


def _pool(kind: type[nn.Module]) -> Build:
    def build(input: Tensor, **options: Any) -> nn.Module:
        del input
        return kind(**options)

    return build


def _shuffle(kind: type[nn.Module]) -> Build:
    def build(input: Tensor, **options: Any) -> nn.Module:
        del input
        return kind(*options.values())

    return build


def _resize(input: Tensor, size: Any = None, scale_factor: Any = None, **options: Any) -> nn.Module | None:
    if options.pop("antialias", False) or options.get("mode") == "area":
        return None
    options.pop("recompute_scale_factor", None)
    del input
    return nn.Upsample(size, scale_factor, **options)


def _norm(input: Tensor, running_mean: Tensor, running_var: Tensor, **options: Any) -> nn.Module:
    del input
    layer = nn.BatchNorm2d(len(running_var), options.get("eps", 1e-5), affine=False)
    layer.running_mean, layer.running_var = running_mean, running_var
    for name in ("weight", "bias"):
        if name in options:
            setattr(layer, name, _shared(options[name]))
    return layer.train(options.get("training", False))


_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_MAX = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_AVG = ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
_RESIZE = (
    *("input", "size", "scale_factor", "mode", "align_corners", "recompute_scale_factor"),
    "antialias",
)
_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
FUNCTIONS: dict[Any, tuple[Build, tuple[str, ...]]] = {
    F.avg_pool1d: (_pool(nn.AvgPool1d), _AVG),
    F.avg_pool2d: (_pool(nn.AvgPool2d), _AVG),
    F.avg_pool3d: (_pool(nn.AvgPool3d), _AVG),
    F.pixel_shuffle: (_shuffle(nn.PixelShuffle), ("input", "upscale_factor")),
    F.pixel_unshuffle: (_shuffle(nn.PixelUnshuffle), ("input", "downscale_factor")),
    F.interpolate: (_resize, _RESIZE),
    F.batch_norm: (_norm, _NORM),
}
for _functions, _found in (
    ((F.conv1d, F.conv2d, F.conv3d), (_convolution(CONVS, inputs_first=False), _CONV)),
    (
        (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
        (_convolution(TRANSPOSED, inputs_first=True), _TRANSPOSED),
    ),
    ((F.max_pool1d, torch.max_pool1d), (_pool(nn.MaxPool1d), _MAX)),
    ((F.max_pool2d, torch.max_pool2d), (_pool(nn.MaxPool2d), _MAX)),
    ((F.max_pool3d, torch.max_pool3d), (_pool(nn.MaxPool3d), _MAX)),
):
    FUNCTIONS |= dict.fromkeys(_functions, _found)
