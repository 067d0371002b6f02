"""Layers built from their description: with typed weights for patterns, without memory for plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any, cast

import torch

from outstride.errors import ArgumentError
from outstride.layer.spec import ConvSpec
from outstride.nn.building import built

#: Weights, and elements of an input or output, of a layer that is run: some 128 MB each.
MOST_WEIGHTS, MOST_ELEMENTS = 1 << 25, 1 << 25


def convolution(spec: ConvSpec, dtype: torch.dtype = torch.float32, device: str = "meta") -> torch.nn.Module:
    """The layer itself, with no memory for its weights unless a device is named.

    Raises:
        ArgumentError: it pools, or has no channels or too many weights.
    """
    if spec.is_pool or not spec.in_channels or not spec.out_channels:
        raise ArgumentError(
            f"'layer' must be a convolution or a transposed one with channels: got {spec!r}; "
            "legal: 'Conv2d(64, 64, 3)'"
        )
    weights = spec.in_channels * spec.out_channels // spec.groups * prod(spec.kernel_size)
    if weights > MOST_WEIGHTS:
        raise ArgumentError(
            f"'layer' must have weights that fit a page's patience: got {weights} of them; "
            f"legal: at most {MOST_WEIGHTS}"
        )
    return built(spec, dtype, device)


def with_channels(spec: ConvSpec, in_channels: Any, out_channels: Any) -> ConvSpec:
    """The same layer with other channels."""
    counts = [in_channels, out_channels]
    if not all(isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= MOST_WEIGHTS for n in counts):
        raise ArgumentError(
            f"'in_channels' and 'out_channels' must be whole numbers: got {counts}; legal: 1 or more"
        )
    return replace(spec, in_channels=in_channels, out_channels=out_channels)


def of_one_channel(spec: ConvSpec, weight: Sequence[float]) -> torch.nn.Module:
    """One input channel, one output channel, and this kernel."""
    alone = replace(spec, in_channels=1, out_channels=1, groups=1, bias=False)
    made: Any = convolution(alone, torch.float64, "cpu")
    values = torch.tensor(weight, dtype=torch.float64)
    made.weight = torch.nn.Parameter(values.view(1, 1, *spec.kernel_size))
    return cast(torch.nn.Module, made)
