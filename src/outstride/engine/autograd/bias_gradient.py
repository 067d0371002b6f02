"""The gradient of a bias: the sum of the output's gradient over batch and space, in one fixed order.

Torch's own sum over several axes takes its order from the strides, and for one channel from the threads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from outstride.engine.launch.guarded import Run
from outstride.engine.torch_internals import SingleLevelFunction, outer_tangents

OPERATORS = torch.ops.outstride


def bias_gradient(grad: Tensor) -> Tensor:
    """Sum the gradient of an output (N, O, *size) to that of its bias (O,).

    Law: the bits do not depend on threads, memory layout or instruction set; sums are in float64.
    """
    result: Tensor = OPERATORS.bias_gradient.default(grad)
    return result


class BiasGradient(SingleLevelFunction):
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
