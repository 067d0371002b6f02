"""Derivatives that torch computes by an operator stay that operator while a graph is traced.

The tracers of older torches, 2.6 among them, write these out, since autograd could do so on other devices.
What is written out rounds in another order than the operator, which a model that is not traced calls.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from outstride.compilation.tracing import Kernels

_NAMES = ("silu_backward", "mish_backward")


def whole_derivatives() -> Kernels:
    """Kernels with which torch's tracer keeps the operators that it could write out."""
    keys: Any = torch._C.DispatchKey  # noqa: SLF001 - the keys have no public name
    kernels = {keys.CompositeImplicitAutograd: _not_written_out, keys.Meta: _as_they_lie}
    return {getattr(torch.ops.aten, name).default: kernels for name in _NAMES}


def _not_written_out(*_: Any) -> Any:
    return NotImplemented


def _as_they_lie(gradient: Tensor, x: Tensor) -> Tensor:
    """Sizes and strides of a result that is made element by element."""
    return torch.add(gradient, x)
