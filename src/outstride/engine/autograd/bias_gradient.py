"""The gradient of a bias: the sum of the output's gradient over batch and space, in one fixed order.

Torch's own sum over several axes takes its order from the strides, and for one channel from the threads.
"""

from __future__ import annotations

from array import array
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor

from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.channel_sums import CHANNEL_SUMS_INDEX, channel_sums_source
from outstride.engine.launch.blocks import Block, address
from outstride.engine.launch.bound import Run
from outstride.engine.launch.layout import contiguous_strides
from outstride.engine.launch.plans import DTYPES
from outstride.engine.runtime import kernel, machine
from outstride.engine.torch_internals import OneLevel, empty_strided, outer_tangents

_DATA, _RESULT = (CHANNEL_SUMS_INDEX[n] for n in ("data_at", "result_at"))
#: Elements from which more than one thread is worth waking.
_PARALLEL = 1 << 16
OPERATORS = torch.ops.outstride


def bias_gradient(grad: Tensor) -> Tensor:
    """Sum the gradient of an output (N, O, *size) to that of its bias (O,).

    Law: the bits do not depend on threads, memory layout or instruction set; sums are in float64.
    """
    result: Tensor = OPERATORS.bias_gradient.default(grad)
    return result


def bias_gradient_run(grad: Tensor) -> Run:
    """What computes on plain CPU tensors of this form."""
    if not grad.numel():
        return lambda grad: torch.zeros(grad.shape[1], dtype=grad.dtype)
    return _ChannelSums(grad)


class _ChannelSums:
    """The kernel for one shape."""

    def __init__(self, grad: Tensor) -> None:
        batch, self._channels = grad.shape[:2]
        self._dtype, self._shape = grad.dtype, tuple(grad.shape)
        self._strides = None if grad.is_contiguous() else contiguous_strides(grad.shape)
        self._workers = min(torch.get_num_threads(), self._channels) if grad.numel() > _PARALLEL else 1
        dtype = DTYPES[grad.dtype]
        source = partial(channel_sums_source, dtype)
        self._kernel = kernel(f"channel_sums_{dtype}", source, machine().instruction_set, authorship())
        scalars = {"tasks": self._channels, "batch": batch, "positions": prod(grad.shape[2:])}
        self._block = Block.of(CHANNEL_SUMS_INDEX, scalars, {})

    def __call__(self, grad: Tensor) -> Tensor:
        if self._strides is not None:
            grad = empty_strided(self._shape, self._strides, self._dtype).copy_(grad)
        result = empty_strided((self._channels,), (1,), self._dtype)
        block: array[int] = self._block.fresh()
        block[_DATA], block[_RESULT] = grad.data_ptr(), result.data_ptr()
        self._kernel.launch(address(block), self._workers)
        return result


class BiasGradient(OneLevel):
    """The sum as an autograd function: its derivative spreads what comes, forward it sums the tangent."""

    @staticmethod
    def forward(ctx: Any, run: Run, grad: Tensor) -> Tensor:
        ctx.shape = grad.shape
        return run(grad)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, total: Tensor) -> tuple[Tensor | None, ...]:
        shape = ctx.shape
        return None, total.reshape(1, -1, *[1] * (len(shape) - 2)).expand(shape)

    @staticmethod
    def jvp(_: Any, __: None, tangent: Tensor) -> Tensor:
        with outer_tangents():
            return bias_gradient(tangent)
