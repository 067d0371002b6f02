"""Channels moved into the picture and back: pixel shuffling, and channels among themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import nn

from outstride.models.operation import Operation
from outstride.models.operators.function_calls import Function


@dataclass(frozen=True)
class PixelShuffle:
    """Channels to positions: (C r r, H, W) to (C, H r, W r)."""

    factor: int


@dataclass(frozen=True)
class PixelUnshuffle:
    """Positions to channels: (C, H r, W r) to (C r r, H, W)."""

    factor: int


@dataclass(frozen=True)
class ChannelShuffle:
    """Channels in another order, each position by itself."""


def read_shuffle(operation: Operation) -> PixelShuffle:
    """Enlarges."""
    return PixelShuffle(operation.argument("upscale_factor"))


def read_unshuffle(operation: Operation) -> PixelUnshuffle:
    """Reduces."""
    return PixelUnshuffle(operation.argument("downscale_factor"))


def read_channels(operation: Operation) -> ChannelShuffle:
    """Does neither."""
    del operation
    return ChannelShuffle()


OPERATORS = {
    "aten.pixel_shuffle": read_shuffle,
    "aten.pixel_unshuffle": read_unshuffle,
    "aten.channel_shuffle": read_channels,
}


def _layer(kind: type[nn.Module]) -> Callable[..., nn.Module]:
    return lambda **factor: kind(*factor.values())


FUNCTIONS: dict[Any, Function] = {
    F.pixel_shuffle: Function(("input", "upscale_factor"), _layer(nn.PixelShuffle)),
    F.pixel_unshuffle: Function(("input", "downscale_factor"), _layer(nn.PixelUnshuffle)),
}
