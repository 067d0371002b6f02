"""What works element by element: activations, sums of tensors, gates, what fills a tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from outstride.models.operation import Operation

ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Softplus, nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.LogSigmoid),
    nn.Softsign,
)
IDENTITIES = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
"""Layers that change nothing in evaluation mode."""
DROPOUT_FAMILY = torch.nn.modules.dropout._DropoutNd  # noqa: SLF001 - the family has no public name


@dataclass(frozen=True)
class Pointwise:
    """Each element of the result is made of those of the operands that broadcasting puts there."""


@dataclass(frozen=True)
class CopyInto:
    """A tensor of which every element is replaced by those of ``source``, which broadcasts."""

    source: Any


@dataclass(frozen=True)
class Fill:
    """A tensor of which every element is replaced by a number."""


@dataclass(frozen=True)
class Gate:
    """Half of the positions of an axis, each times a function of its counterpart in the other half."""

    axis: int


def read_copy(operation: Operation) -> CopyInto:
    """From another tensor."""
    return CopyInto(operation.argument("src"))


def read_gate(operation: Operation) -> Gate:
    """``glu``."""
    return Gate(operation.argument("dim") % len(operation.result_shape()))


OPERATORS: dict[str, Any] = {
    "aten.copy": read_copy,
    "aten.fill": lambda _: Fill(),
    "aten.zero": lambda _: Fill(),
    "aten.glu": read_gate,
}
#: Torch does not tag these as working element by element, though they do.
_UNTAGGED = frozenset(
    f"aten.{name}"
    for name in (
        *("native_dropout", "bernoulli", "max.other", "min.other", "hardswish", "hardsigmoid", "hardtanh"),
        *("leaky_relu", "ldexp"),  # newer torches do
        *("_prelu_kernel", "prelu", "rrelu_with_noise", "celu", "selu", "mish", "softplus", "relu6", "logit"),
        *("log_sigmoid_forward", "threshold", "hardshrink", "softshrink", "nan_to_num"),
        *("fake_quantize_per_tensor", "complex", "polar"),
    )
)


def is_square(operation: Operation) -> bool:
    """Whether numbers are raised to the power of two, which torch multiplies."""
    return operation.name == "aten.pow" and bool(operation.argument("exponent") == 2)


def is_tagged(operation: Operation) -> bool:
    """Whether torch says of an operator that it works element by element."""
    return torch.Tag.pointwise in operation.target.tags


def is_pointwise(operation: Operation) -> bool:
    """Whether torch says so, or should."""
    name = operation.functional_name
    return is_tagged(operation) or not _UNTAGGED.isdisjoint((name, f"{name}.{operation.overload}"))
