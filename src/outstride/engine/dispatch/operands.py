"""The dtypes and devices of a call's tensors: cast under autocast, equal, and served by the engine or not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from outstride.engine.dispatch.shapes import ENGINE_DTYPES
from outstride.errors import DTypeError

_SERVED_DEVICES = frozenset({"cpu", "meta"})


def autocast(input: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Cast as torch's convolutions are cast under ``torch.autocast("cpu")``: floats, but never float64."""
    if not torch.is_autocast_enabled("cpu"):
        return input, weight, bias
    return _cast(input), _cast(weight), None if bias is None else _cast(bias)


def are_served(input: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the engine computes on such tensors.

    Raises:
        DTypeError: they differ in dtype or device.
    """
    if weight.dtype != input.dtype or (bias is not None and bias.dtype != input.dtype):
        raise _mismatch("dtype", [str(t.dtype) for t in (input, weight, bias) if t is not None])
    for tensor in (input, weight) if bias is None else (input, weight, bias):
        if tensor.device.type not in _SERVED_DEVICES or tensor.layout is not torch.strided:
            return False
        if tensor.device != input.device:
            raise _mismatch("device", [str(t.device) for t in (input, weight, bias) if t is not None])
    return input.dtype in ENGINE_DTYPES


def _cast(tensor: Tensor) -> Any:
    if tensor.dtype is torch.float64 or not tensor.is_floating_point():
        return tensor
    return tensor.to(torch.get_autocast_dtype("cpu")) if tensor.device.type == "cpu" else tensor


def _mismatch(what: str, got: list[str]) -> DTypeError:
    return DTypeError(
        f"'weight' and 'bias' must have the {what} of 'input': got {', '.join(got)}; legal: {got[0]} for all"
    )
