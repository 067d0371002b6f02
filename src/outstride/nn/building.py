"""A layer from its description: with every option that this package's classes have."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from outstride.layer.spec import ConvSpec
from outstride.nn import convolution, pooling

_FAMILIES = {"conv": "Conv", "conv_transpose": "ConvTranspose", "max_pool": "MaxPool", "avg_pool": "AvgPool"}


def built(spec: ConvSpec, dtype: torch.dtype = torch.float32, device: str = "cpu") -> torch.nn.Module:
    """The layer itself, in evaluation mode; on the device "meta" its weights take no memory.

    Args:
        spec: with both channels, where it does not pool.
        dtype, device: of its weights.

    Returns:
        One of this package's layers.
    """
    room = pooling if spec.is_pool else convolution
    options: dict[str, Any] = {"stride": spec.stride, "padding": _padding(spec)}
    arguments: tuple[Any, ...] = (spec.kernel_size,)
    if not spec.is_pool:
        arguments = (spec.in_channels, spec.out_channels, spec.kernel_size)
        options |= {"dilation": spec.dilation, "groups": spec.groups, "bias": spec.bias}
        options |= {"padding_mode": spec.padding_mode, "dtype": dtype, "device": device}
    elif spec.kind == "max_pool":
        options |= {"dilation": spec.dilation, "ceil_mode": spec.ceil_mode}
    else:
        options |= {"ceil_mode": spec.ceil_mode, "count_include_pad": spec.count_include_pad}
        options |= {} if spec.nd == 1 else {"divisor_override": spec.divisor_override}
    if spec.kind == "conv_transpose":
        options["output_padding"] = spec.output_padding
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is nothing to initialise: on no device there never is
        made: torch.nn.Module = getattr(room, f"{_FAMILIES[spec.kind]}{spec.nd}d")(*arguments, **options)
    return made.eval()


def _padding(spec: ConvSpec) -> Any:
    """Torch's form where torch has one: a number for both sides of each axis."""
    if spec.padding == "same":
        return "same"
    symmetric = all(low == high for low, high in spec.padding)
    return tuple(low for low, _ in spec.padding) if symmetric else spec.padding
