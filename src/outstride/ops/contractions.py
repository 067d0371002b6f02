"""The three contractions and their derivatives, which are the contractions again.

A contraction leaves one argument of T(x, w, y) = <y, conv(x, w)> out and is linear in the other two, so the
derivative in either of them is the contraction that leaves that one out: the three are closed under
differentiation of any order, in both directions.

Torch's dispatcher costs a few microseconds a call, as much as a small layer computes. An eager call on plain
CPU tensors that no transform, mode, tracer or profiler observes goes straight to the engine; everything else
goes through ``torch.ops.outstride``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from outstride.ops import execute
from outstride.ops.bias_gradient import bias_gradient
from outstride.ops.torch_internals import (
    OneLevel,
    forward_derivatives_active,
    is_owner,
    is_plain,
    nobody_listens,
    outer_tangents,
    redispatch_from_function,
    without_own_tangent,
)

Ints = Sequence[int]
Geometry = tuple[Ints, Ints, Ints, int]
"""stride, padding, dilation, groups: what all three share."""

OPERATORS = torch.ops.outstride


def conv(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    stride: Ints,
    padding: Ints,
    output_size: Ints,
    dilation: Ints,
    groups: int,
) -> Tensor:
    """Contract x (N, C, *u), w (O, C/g, *k) to (N, O, *output_size): u = i*stride + k*dilation - padding."""
    if torch.compiler.is_compiling() or not is_direct(x, w, bias):
        result: Tensor = OPERATORS.conv.default(x, w, bias, stride, padding, output_size, dilation, groups)
        return result
    geometry = (stride, padding, dilation, groups)
    return apply(Conv, x, w, bias, output_size, geometry)


def conv_transpose(
    y: Tensor,
    w: Tensor,
    bias: Tensor | None,
    stride: Ints,
    padding: Ints,
    output_size: Ints,
    dilation: Ints,
    groups: int,
) -> Tensor:
    """Contract y (N, O, *i), w (O, C/g, *k) to (N, C, *output_size): the exact adjoint of ``conv`` in x."""
    if torch.compiler.is_compiling() or not is_direct(y, w, bias):
        operator = OPERATORS.conv_transpose.default
        result: Tensor = operator(y, w, bias, stride, padding, output_size, dilation, groups)
        return result
    geometry = (stride, padding, dilation, groups)
    return apply(ConvTranspose, y, w, bias, output_size, geometry)


def conv_weight(
    x: Tensor, y: Tensor, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int
) -> Tensor:
    """Contract x (N, C, *u), y (N, O, *i) to (O, C/g, *kernel_size): gradient of <y, conv(x, w)> in w."""
    if torch.compiler.is_compiling() or not is_direct(x, y, None):
        operator = OPERATORS.conv_weight.default
        result: Tensor = operator(x, y, kernel_size, stride, padding, dilation, groups)
        return result
    geometry = (stride, padding, dilation, groups)
    return apply(ConvWeight, x, y, None, kernel_size, geometry)


def needs_gradient(first: Tensor, second: Tensor, bias: Tensor | None) -> bool:
    """Whether backward will come through this call."""
    return torch.is_grad_enabled() and (
        first.requires_grad or second.requires_grad or (bias is not None and bias.requires_grad)
    )


def is_direct(first: Tensor, second: Tensor, bias: Tensor | None) -> bool:
    """Whether a call has nothing to gain from the dispatcher."""
    return nobody_listens() and is_plain(first) and is_plain(second) and (bias is None or is_plain(bias))


def apply(
    contraction: type[Contraction],
    first: Tensor,
    second: Tensor,
    bias: Tensor | None,
    size: Ints,
    geometry: Geometry,
) -> Tensor:
    """Compute a contraction of plain CPU tensors past the dispatcher, recorded where backward will come."""
    if needs_gradient(first, second, bias):
        result: Tensor = contraction.apply(None, first, second, bias, size, geometry)
        return result
    return contraction.run(first, second, bias, size, geometry)


class Contraction(OneLevel):
    """What the three derivatives have in common; ``keyset`` is None on the way past the dispatcher."""

    name: ClassVar[str]

    @staticmethod
    def run(first: Tensor, second: Tensor, bias: Tensor | None, size: Ints, geometry: Geometry) -> Tensor:
        """Compute on plain CPU tensors."""
        raise NotImplementedError

    @staticmethod
    def call(first: Tensor, second: Tensor, bias: Tensor | None, size: Ints, geometry: Geometry) -> Tensor:
        """Compute on any tensors, differentiably."""
        raise NotImplementedError

    @staticmethod
    def arguments(
        first: Tensor, second: Tensor, bias: Tensor | None, size: Ints, geometry: Geometry
    ) -> tuple[Any, ...]:
        """The arguments in the operator's order."""
        stride, padding, dilation, groups = geometry
        return first, second, bias, stride, padding, size, dilation, groups

    @classmethod
    def evaluate(
        cls,
        ctx: Any,
        keyset: Any,
        first: Tensor,
        second: Tensor,
        bias: Tensor | None,
        size: Ints,
        geometry: Geometry,
    ) -> Tensor:
        _, first_needed, second_needed, *_ = ctx.needs_input_grad
        ctx.save_for_backward(first if second_needed else None, second if first_needed else None)
        if forward_derivatives_active():
            ctx.save_for_forward(first, second)
        ctx.sizes = first.shape[2:], second.shape[2:]
        ctx.size, ctx.geometry = size, geometry
        if keyset is None:
            return cls.run(first, second, bias, size, geometry)
        operator = getattr(OPERATORS, cls.name).default
        return redispatch_from_function(operator, keyset, *cls.arguments(first, second, bias, size, geometry))

    @classmethod
    def tangent(
        cls, ctx: Any, first_tangent: Tensor | None, second_tangent: Tensor | None, bias: Tensor | None
    ) -> Tensor:
        first, second = ctx.saved_tensors
        with outer_tangents():
            first, second = without_own_tangent(first), without_own_tangent(second)
            terms = []
            if first_tangent is not None:
                terms.append(cls.call(first_tangent, second, None, ctx.size, ctx.geometry))
            if second_tangent is not None:
                terms.append(cls.call(first, second_tangent, None, ctx.size, ctx.geometry))
            if bias is not None:
                shape = (first.shape[0], bias.shape[0], *ctx.size)
                column = bias.reshape(-1, *[1] * len(ctx.size))
                terms.append(column.expand(shape).clone() if not terms else column)
            total: Tensor = terms[0]
            for term in terms[1:]:
                total = total + term
            return total


class Conv(Contraction):
    """x, w -> y."""

    name = "conv"

    @staticmethod
    def run(first: Tensor, second: Tensor, bias: Tensor | None, size: Ints, geometry: Geometry) -> Tensor:
        stride, padding, dilation, groups = geometry
        return execute.conv(first, second, bias, stride, padding, size, dilation, groups)

    @staticmethod
    def call(first: Tensor, second: Tensor, bias: Tensor | None, size: Ints, geometry: Geometry) -> Tensor:
        stride, padding, dilation, groups = geometry
        return conv(first, second, bias, stride, padding, size, dilation, groups)

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        return Conv.evaluate(ctx, *arguments)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        _, x_needed, w_needed, bias_needed, *_ = ctx.needs_input_grad
        input_size, kernel_size = ctx.sizes
        grad_x = ConvTranspose.call(grad, w, None, input_size, ctx.geometry) if x_needed else None
        grad_w = ConvWeight.call(x, grad, None, kernel_size, ctx.geometry) if w_needed else None
        return None, grad_x, grad_w, bias_gradient(grad) if bias_needed else None, None, None

    @staticmethod
    def jvp(ctx: Any, _: None, x: Tensor | None, w: Tensor | None, bias: Tensor | None, *__: None) -> Tensor:
        return Conv.tangent(ctx, x, w, bias)


class ConvTranspose(Contraction):
    """y, w -> x."""

    name = "conv_transpose"

    @staticmethod
    def run(first: Tensor, second: Tensor, bias: Tensor | None, size: Ints, geometry: Geometry) -> Tensor:
        stride, padding, dilation, groups = geometry
        return execute.conv_transpose(first, second, bias, stride, padding, size, dilation, groups)

    @staticmethod
    def call(first: Tensor, second: Tensor, bias: Tensor | None, size: Ints, geometry: Geometry) -> Tensor:
        stride, padding, dilation, groups = geometry
        return conv_transpose(first, second, bias, stride, padding, size, dilation, groups)

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        return ConvTranspose.evaluate(ctx, *arguments)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, w = ctx.saved_tensors
        _, y_needed, w_needed, bias_needed, *_ = ctx.needs_input_grad
        input_size, kernel_size = ctx.sizes
        grad_y = Conv.call(grad, w, None, input_size, ctx.geometry) if y_needed else None
        grad_w = ConvWeight.call(grad, y, None, kernel_size, ctx.geometry) if w_needed else None
        return None, grad_y, grad_w, bias_gradient(grad) if bias_needed else None, None, None

    @staticmethod
    def jvp(ctx: Any, _: None, y: Tensor | None, w: Tensor | None, bias: Tensor | None, *__: None) -> Tensor:
        return ConvTranspose.tangent(ctx, y, w, bias)


class ConvWeight(Contraction):
    """x, y -> w."""

    name = "conv_weight"

    @staticmethod
    def run(first: Tensor, second: Tensor, _: Tensor | None, size: Ints, geometry: Geometry) -> Tensor:
        stride, padding, dilation, groups = geometry
        result = execute.conv_weight(first, second, size, stride, padding, dilation, groups).contiguous()
        # An autograd function owns what it returns: a view of a work buffer cannot carry a tangent.
        return result if is_owner(result) else result.clone()

    @staticmethod
    def call(first: Tensor, second: Tensor, _: Tensor | None, size: Ints, geometry: Geometry) -> Tensor:
        stride, padding, dilation, groups = geometry
        return conv_weight(first, second, size, stride, padding, dilation, groups)

    @staticmethod
    def arguments(
        first: Tensor, second: Tensor, _: Tensor | None, size: Ints, geometry: Geometry
    ) -> tuple[Any, ...]:
        return first, second, size, *geometry

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        return ConvWeight.evaluate(ctx, *arguments)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        _, x_needed, y_needed, *_ = ctx.needs_input_grad
        input_size, output_size = ctx.sizes
        grad_x = ConvTranspose.call(y, grad, None, input_size, ctx.geometry) if x_needed else None
        grad_y = Conv.call(x, grad, None, output_size, ctx.geometry) if y_needed else None
        return None, grad_x, grad_y, None, None, None

    @staticmethod
    def jvp(ctx: Any, _: None, x: Tensor | None, y: Tensor | None, *__: None) -> Tensor:
        return ConvWeight.tangent(ctx, x, y, None)
