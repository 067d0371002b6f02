"""Pooling over windows that slide, over windows that follow the size of the image, and its reverse."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from outstride.models.operation import Operation
from outstride.models.operators.function_calls import Function
from outstride.models.operators.reach import Reach, Window, windows_of

MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
AVERAGE_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
LAYERS = (*MAX_POOLS, *AVERAGE_POOLS)


@dataclass(frozen=True)
class MaxPool:
    """The maximum of each window, and perhaps where it lies."""

    windows: tuple[Window, ...]


@dataclass(frozen=True)
class AveragePool:
    """The mean of each window."""

    windows: tuple[Window, ...]
    count_include_pad: bool
    divisor_override: int | None


@dataclass(frozen=True)
class AdaptivePool:
    """Windows that follow the size: output q of m reads from floor(q n / m) up to ceil((q + 1) n / m)."""

    nd: int

    def reach(self, inputs: int, outputs: int) -> Reach:
        """What each output reads along an axis."""
        ratio = Fraction(inputs, outputs)
        taps = tuple(
            tuple(range(q * inputs // outputs, -((q + 1) * -inputs // outputs)))
            for q in range(ratio.denominator)
        )
        return Reach(ratio.denominator, ratio.numerator, taps, ratio, (ratio - 1) / 2)


@dataclass(frozen=True)
class Unpool:
    """Each input goes to one place inside its window, which is as wide as the output is larger."""

    windows: tuple[Window, ...] = ()
    """Those of the pooling that the places come from, where it is known."""


def read_max(operation: Operation, nd: int) -> MaxPool:
    """The maximum; with or without its indices."""
    names = ("kernel_size", "stride", "padding", "dilation")
    return MaxPool(windows_of(nd, *map(operation.argument, names)))


def read_average(operation: Operation, nd: int) -> AveragePool:
    """The mean."""
    windows = windows_of(nd, *map(operation.argument, ("kernel_size", "stride", "padding")))
    counted, divisor = map(operation.argument, ("count_include_pad", "divisor_override"))
    return AveragePool(windows, counted, divisor)


def read_adaptive(operation: Operation, nd: int) -> AdaptivePool:
    """Of a mean or a maximum."""
    del operation
    return AdaptivePool(nd)


def read_unpool(operation: Operation) -> Unpool:
    """Whatever its windows: the sizes say it all."""
    del operation
    return Unpool()


OPERATORS: dict[str, Any] = {}
for _nd in (1, 2, 3):
    for _name in (f"max_pool{_nd}d_with_indices", f"max_pool{_nd}d"):
        OPERATORS[f"aten.{_name}"] = partial(read_max, nd=_nd)
    OPERATORS[f"aten.avg_pool{_nd}d"] = partial(read_average, nd=_nd)
    for _name in (f"adaptive_avg_pool{_nd}d", f"adaptive_max_pool{_nd}d"):
        OPERATORS[f"aten.{_name}"] = partial(read_adaptive, nd=_nd)
for _nd in (2, 3):
    OPERATORS[f"aten._adaptive_avg_pool{_nd}d"] = partial(read_adaptive, nd=_nd)
    OPERATORS[f"aten.max_unpool{_nd}d"] = read_unpool

MAX_FUNCTIONS = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
AVERAGE_FUNCTIONS: tuple[Any, ...] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
_MAX = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_AVERAGE = ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
FUNCTIONS: dict[Any, Function] = {}
for _functions, _layers, _parameters in (
    (MAX_FUNCTIONS, MAX_POOLS, _MAX),
    ((torch.max_pool1d, torch.max_pool2d, torch.max_pool3d), MAX_POOLS, _MAX),
    (AVERAGE_FUNCTIONS, AVERAGE_POOLS, _AVERAGE),
):
    FUNCTIONS |= {f: Function(_parameters, layer) for f, layer in zip(_functions, _layers, strict=True)}
