"""Norms: every element, changed by the statistics of others or by fixed ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outstride.models.operation import Operation
from outstride.models.operators.function_calls import Function, shared_weight

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
OVER_POSITIONS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm)
"""Layers whose statistics are those of a whole channel."""
BATCH_FAMILY = torch.nn.modules.batchnorm._NormBase  # noqa: SLF001 - the family has no public name


@dataclass(frozen=True)
class Norm:
    """What all of them are given: the input, weight and bias where there are any, and what is added."""

    input: Any
    weight: Any
    bias: Any
    eps: Any


@dataclass(frozen=True)
class BatchNorm(Norm):
    """Channel by channel; ``training`` with the statistics of the batch, otherwise with fixed ones."""

    training: bool


@dataclass(frozen=True)
class LayerNorm(Norm):
    """With the statistics of the last axes, of so many elements."""

    axes: int
    elements: int


class RMSNorm(LayerNorm):
    """The same without a mean."""


@dataclass(frozen=True)
class GroupNorm(Norm):
    """With the statistics of groups of channels at all positions."""

    groups: int


def _given(operation: Operation) -> tuple[Any, Any, Any, Any]:
    input, weight, bias = (operation.argument(name) for name in ("input", "weight", "bias"))
    return input, weight, bias, operation.argument("eps")


def _batch(training: bool) -> Any:
    return lambda operation: BatchNorm(*_given(operation), training)


def read_batch(operation: Operation) -> BatchNorm:
    """An operator that is told whether it trains."""
    return BatchNorm(*_given(operation), bool(operation.argument("training")))


def read_layer(operation: Operation) -> LayerNorm:
    """Of the mean and the deviation."""
    return LayerNorm(*_given(operation), *_normalized(operation))


def read_rms(operation: Operation) -> RMSNorm:
    """Of the mean square."""
    input, weight = operation.argument("input"), operation.argument("weight")
    return RMSNorm(input, weight, None, operation.argument("eps"), *_normalized(operation))


def read_group(operation: Operation) -> GroupNorm:
    """However many groups."""
    return GroupNorm(*_given(operation), operation.argument("group"))


def _normalized(operation: Operation) -> tuple[int, int]:
    shape = operation.argument("normalized_shape")
    return len(shape), torch.Size(shape).numel()


OPERATORS: dict[str, Any] = {
    "aten.native_batch_norm": read_batch,
    "aten._native_batch_norm_legit": read_batch,
    "aten._native_batch_norm_legit_no_training": _batch(training=False),
    "aten._batch_norm_with_update": _batch(training=True),
    "aten.native_layer_norm": read_layer,
    "aten._fused_rms_norm": read_rms,
    "aten.native_group_norm": read_group,
}


def _layer(running_mean: Tensor, running_var: Tensor, **options: Any) -> nn.Module:
    layer = nn.BatchNorm2d(len(running_var), options.get("eps", 1e-5), affine=False)
    layer.running_mean, layer.running_var = running_mean, running_var
    for name in ("weight", "bias"):
        if name in options:
            setattr(layer, name, shared_weight(options[name]))
    return layer.train(options.get("training", False))


_PARAMETERS = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
FUNCTIONS: dict[Any, Function] = {F.batch_norm: Function(_PARAMETERS, _layer)}
