"""Padding: what is put around the last axes of a tensor, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import nn

from outstride.models.operation import Operation
from outstride.models.operators.function_calls import Function

LAYERS: dict[str, tuple[Any, ...]] = {
    "zeros": (nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d),
    "reflect": (nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d),
    "replicate": (nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d),
    "circular": (nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d),
    "constant": (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d),
}
"""By padding mode and number of axes; torch's ``ZeroPad`` derive from ``ConstantPad``."""


@dataclass(frozen=True)
class ConstantPad:
    """A number around; a negative padding cuts off."""

    pads: dict[int, tuple[int, int]]
    """Low and high padding by axis, the last axis first."""
    value: float


@dataclass(frozen=True)
class BorderPad:
    """What the tensor holds near its border, once more: "reflect" or "replicate"."""

    pads: dict[int, tuple[int, int]]
    mode: str


def _pads(ends: Any, rank: int) -> dict[int, tuple[int, int]]:
    return {rank - 1 - place: (ends[2 * place], ends[2 * place + 1]) for place in range(len(ends) // 2)}


def read_constant(operation: Operation) -> ConstantPad:
    """A number around."""
    pads = _pads(operation.argument("pad"), len(operation.result_shape()))
    return ConstantPad(pads, operation.argument("value", 0) or 0)


def read_border(operation: Operation, mode: str) -> BorderPad:
    """A border of what is there."""
    return BorderPad(_pads(operation.argument("padding"), len(operation.result_shape())), mode)


OPERATORS: dict[str, Any] = {"aten.constant_pad_nd": read_constant}
for _nd in (1, 2, 3):
    OPERATORS[f"aten.reflection_pad{_nd}d"] = partial(read_border, mode="reflect")
    OPERATORS[f"aten.replication_pad{_nd}d"] = partial(read_border, mode="replicate")

FUNCTIONS: dict[Any, Function] = {F.pad: Function(("input", "pad", "mode", "value"))}
