"""Convolutions and transposed convolutions: torch's layers, functions and operators, and our own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outstride.layer import shortening
from outstride.models.operation import Operation
from outstride.models.operators.function_calls import Function, shared_weight
from outstride.models.operators.products import Linear
from outstride.models.operators.reach import Window, windows_of

ConvolutionLayer = (
    nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
)
LAYERS: tuple[Any, ...] = get_args(ConvolutionLayer)
CONVOLUTIONS, TRANSPOSED = LAYERS[:3], LAYERS[3:]
"""By their number of axes less one."""
FAMILY = nn.modules.conv._ConvNd  # noqa: SLF001 - torch has no other name for all that derives from it
"""What torch's own layers and those that compute in their own way have in common."""


@dataclass(frozen=True)
class Convolution:
    """A convolution, or a transposed one; ``input``, ``weight`` and ``bias`` stand for their tensors."""

    input: Any
    weight: Any
    bias: Any
    windows: tuple[Window, ...]
    groups: int
    channels: tuple[int, int]
    """Those that are summed over and those that are made, of a group."""
    algorithm: shortening.AlgorithmName = "auto"

    @property
    def transposed(self) -> bool:
        """Whether it is the adjoint of a convolution."""
        return bool(self.windows) and self.windows[0].transposed

    @property
    def nd(self) -> int:
        """Number of axes that the kernel slides over."""
        return len(self.windows)

    def cells(self, dtype: torch.dtype, algorithm: shortening.AlgorithmName) -> tuple[int, ...]:
        """Results along each axis that share products, counted from the first of the whole; 1 for none.

        A part of the result has the bits of the whole where it begins at a multiple.
        """
        if not self.windows:  # a linear layer, which slides along no axis
            return ()
        kernel_size, stride, _, dilation, _ = (tuple(row) for row in zip(*self.windows, strict=True))
        name = str(dtype).removeprefix("torch.")
        layer = (self.transposed, kernel_size, stride, dilation, *self.channels, name, algorithm)
        if not shortening.choose(*layer).short:
            return (1,) * self.nd
        return tuple(
            shortening.period(self.transposed, w.kernel_size, w.stride, w.low, w.dilation)
            for w in self.windows
        )


def read(operation: Operation) -> Convolution:
    """torch's operator, which is told whether it is transposed."""
    return _described(operation, "input", "weight", bool(operation.argument("transposed")))


def read_ours(operation: Operation) -> Convolution | Linear:
    """The contractions of this package, which have two names; along no axis they are linear layers."""
    transposed = operation.name == "outstride.conv_transpose"
    if not operation.argument("stride"):
        names = ("y",) if transposed else ("x", "w", "bias")
        return Linear(*map(operation.argument, names))
    described = _described(operation, "y" if transposed else "x", "w", transposed)
    return replace(described, algorithm=operation.argument("algorithm"))


def _described(operation: Operation, input: str, weight: str, transposed: bool) -> Convolution:
    weights = operation.argument(weight)
    first, second, *kernel_size = operation.shape_of(weights)
    stride, low, dilation = (operation.argument(name) for name in ("stride", "padding", "dilation"))
    windows = windows_of(len(kernel_size), kernel_size, stride, low, dilation, transposed=transposed)
    groups = operation.argument("groups")
    # A transposed layer's weight is (in, out / groups, ...), another's (out, in / groups, ...).
    channels = (first // groups, second) if transposed else (second, first // groups)
    return Convolution(
        operation.argument(input), weights, operation.argument("bias"), windows, groups, channels
    )


OPERATORS = {
    "aten.convolution": read,
    "aten._convolution": read,
    "outstride.conv": read_ours,
    "outstride.conv_transpose": read_ours,
}


def _layer(kinds: tuple[Any, ...], weight: Tensor, bias: Tensor | None = None, **options: Any) -> nn.Module:
    groups = options.get("groups", 1)
    # A transposed layer's weight is (in, out / groups, ...), another's (out, in / groups, ...).
    whole, parted = weight.shape[0], weight.shape[1] * groups
    channels = (whole, parted) if kinds is TRANSPOSED else (parted, whole)
    options |= {"bias": bias is not None, "device": "meta"}
    layer: nn.Module = kinds[weight.dim() - 3](*channels, tuple(weight.shape[2:]), **options)
    layer.weight = shared_weight(weight)
    if bias is not None:
        layer.bias = shared_weight(bias)
    return layer.eval()


_FIRST = ("input", "weight", "bias", "stride", "padding")
_FORWARD = Function((*_FIRST, "dilation", "groups"), partial(_layer, CONVOLUTIONS))
_ADJOINT = Function((*_FIRST, "output_padding", "groups", "dilation"), partial(_layer, TRANSPOSED))
FORWARD_FUNCTIONS = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED_FUNCTIONS = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
FUNCTIONS: dict[Any, Function] = dict.fromkeys(FORWARD_FUNCTIONS, _FORWARD) | dict.fromkeys(
    TRANSPOSED_FUNCTIONS, _ADJOINT
)
