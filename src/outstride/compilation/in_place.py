"""Functions of one tensor in place: while a graph is traced, what they return is that tensor, unasked.

Torch's tracer makes a new tensor by the operator of the same name, and before that it plays the one in place,
to see that sizes fit, which those of a single tensor always do. That is written out in elementary operators,
each of which asks for sizes and strides: where they are symbols, a tenth of a second for every ReLU6.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from outstride.compilation.tracing import Kernels

_NAMES = (
    "relu_", "leaky_relu_", "hardtanh_", "clamp_", "clamp_min_", "clamp_max_", "threshold_", "silu_", "mish_",
    "hardswish_", "hardsigmoid_", "sigmoid_", "tanh_", "elu_", "celu_", "selu_", "gelu_",
)  # fmt: skip


def quick_in_place() -> Kernels:
    """Kernels that return the tensor that they are given; what may not be is refused by the others."""
    key: Any = torch._C.DispatchKey.Meta  # noqa: SLF001 - the keys have no public name
    found = [getattr(torch.ops.aten, name).default for name in _NAMES]
    return {operator: {key: _same} for operator in found}


def _same(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return x
