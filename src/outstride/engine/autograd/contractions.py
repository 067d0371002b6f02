"""The three contractions and their derivatives, which are the contractions again.

A contraction leaves one argument of T(x, w, y) = <y, conv(x, w)> out and is linear in the other two, so the
derivative in either of them is the contraction that leaves that one out: the three are closed under
differentiation of any order, in both directions.

Torch's dispatcher costs a few microseconds a call, as much as a small layer computes. An eager call on plain
CPU tensors that no transform, mode, tracer or profiler intercepts goes straight to the engine; everything
else goes through ``torch.ops.outstride``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from outstride.engine.autograd.bias_gradient import bias_gradient
from outstride.engine.launch import execute
from outstride.engine.launch.call_cache import CallCache
from outstride.engine.launch.execute import Geometry
from outstride.engine.launch.guarded import GuardedCall, Run, guarded_call
from outstride.engine.launch.maps.channel_sums import channel_sums_run
from outstride.engine.torch_internals import (
    SingleLevelFunction,
    forward_derivatives_active,
    is_differentiating,
    is_intercepted,
    is_plain,
    outer_tangents,
    without_own_tangent,
)
from outstride.layer.shortening import AlgorithmName

Ints = Sequence[int]

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
    algorithm: AlgorithmName = "auto",
) -> Tensor:
    """Contract x (N, C, *u), w (O, C/g, *k) to (N, O, *output_size): u = i*stride + k*dilation - padding."""
    if torch.compiler.is_compiling() or not is_direct(x, w, bias):
        operator = OPERATORS.conv.default
        result: Tensor = operator(x, w, bias, stride, padding, output_size, dilation, groups, algorithm)
        return result
    geometry = (stride, padding, dilation, groups, algorithm)
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
    algorithm: AlgorithmName = "auto",
) -> Tensor:
    """Contract y (N, O, *i), w (O, C/g, *k) to (N, C, *output_size): the exact adjoint of ``conv`` in x."""
    if torch.compiler.is_compiling() or not is_direct(y, w, bias):
        operator = OPERATORS.conv_transpose.default
        result: Tensor = operator(y, w, bias, stride, padding, output_size, dilation, groups, algorithm)
        return result
    geometry = (stride, padding, dilation, groups, algorithm)
    return apply(ConvTranspose, y, w, bias, output_size, geometry)


def conv_weight(
    x: Tensor,
    y: Tensor,
    kernel_size: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
    algorithm: AlgorithmName = "auto",
) -> Tensor:
    """Contract x (N, C, *u), y (N, O, *i) to (O, C/g, *kernel_size): gradient of <y, conv(x, w)> in w."""
    if torch.compiler.is_compiling() or not is_direct(x, y, None):
        operator = OPERATORS.conv_weight.default
        result: Tensor = operator(x, y, kernel_size, stride, padding, dilation, groups, algorithm)
        return result
    geometry = (stride, padding, dilation, groups, algorithm)
    return apply(ConvWeight, x, y, None, kernel_size, geometry)


def needs_gradient(first: Tensor, second: Tensor, bias: Tensor | None) -> bool:
    """Whether backward will come through this call."""
    return torch.is_grad_enabled() and (
        first.requires_grad or second.requires_grad or (bias is not None and bias.requires_grad)
    )


def is_trained(weight: Tensor) -> bool:
    """Whether a weight is likely to be written to before the next call: if its gradient is asked for."""
    return weight.requires_grad and (torch.is_grad_enabled() or is_differentiating())


def is_direct(first: Tensor, second: Tensor, bias: Tensor | None) -> bool:
    """Whether a call has nothing to gain from the dispatcher."""
    return not is_intercepted() and is_plain(first) and is_plain(second) and (bias is None or is_plain(bias))


def apply(
    contraction: type[Contraction],
    first: Tensor,
    second: Tensor,
    bias: Tensor | None,
    size: Ints,
    geometry: Geometry,
) -> Tensor:
    """Compute a contraction of plain CPU tensors past the dispatcher, recorded where backward will come."""
    run = contraction.run(first, second, size, geometry, rewritten=is_trained(second))
    operands = (first, second) if bias is None else (first, second, bias)
    if needs_gradient(first, second, bias):
        sized = SizedContraction(run, size, geometry, (first.shape[2:], second.shape[2:]), None)
        result: Tensor = contraction.apply(sized, *operands)
        return result
    return run(*operands)  # type: ignore[no-any-return]


def guarded_contraction(
    contraction: type[Contraction], size: Ints, geometry: Geometry, *operands: Tensor
) -> GuardedCall | None:
    """The guarded call of a contraction for operands like these; None where they need the dispatcher."""
    first, second = operands[:2]

    def prepare() -> tuple[Run, Run]:
        run = contraction.run(first, second, size, geometry, rewritten=is_trained(second))
        backward: CallCache[tuple[bool, ...], GuardedCall] = CallCache("backward calls")
        sized = SizedContraction(run, size, geometry, (first.shape[2:], second.shape[2:]), backward)
        return run, partial(contraction.apply, sized)

    return guarded_call(prepare, *operands)


class SizedContraction(NamedTuple):
    """A contraction without its operands: what computes it, and what its derivatives must know of it."""

    run: Run
    size: Ints
    geometry: Geometry
    operand_sizes: tuple[Ints, Ints]
    backward: CallCache[tuple[bool, ...], GuardedCall] | None
    """The guarded backward for each set of needed gradients; None for what is no guarded call itself."""


class Derivative(NamedTuple):
    """A contraction as the derivative of another: of which of (gradient, first, second)."""

    contraction: type[Contraction]
    first: int
    second: int


class Contraction(SingleLevelFunction):
    """What the three have in common; the autograd function is applied to a ``SizedContraction``, too."""

    name: ClassVar[str]
    derivatives: ClassVar[tuple[Derivative, Derivative]]
    """In the first operand and in the second."""

    @staticmethod
    def run(first: Tensor, second: Tensor, size: Ints, geometry: Geometry, *, rewritten: bool = False) -> Run:
        """What computes on plain CPU tensors like these, of which the second may be `rewritten` each time."""
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
        stride, padding, *rest = geometry
        return first, second, bias, stride, padding, size, *rest

    @staticmethod
    def forward(
        ctx: Any, sized: SizedContraction, first: Tensor, second: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        needed = ctx.needs_input_grad
        ctx.save_for_backward(first if needed[2] else None, second if needed[1] else None)
        if forward_derivatives_active():
            ctx.save_for_forward(first, second)
        ctx.sized = sized
        result: Tensor = sized.run(first, second) if bias is None else sized.run(first, second, bias)
        return result

    @classmethod
    def backward(cls, ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        sized, needed = ctx.sized, ctx.needs_input_grad
        first, second = ctx.saved_tensors
        if sized.backward is not None and not torch.is_grad_enabled():
            operands = [tensor for tensor in (grad, first, second) if tensor is not None]
            guarded = sized.backward.get(needed)
            result = None if guarded is None else guarded(*operands)
            if result is None:
                prepare = partial(_backward_run, cls, sized, needed, grad, first, second)
                guarded = guarded_call(prepare, *operands)
                if guarded is not None:
                    sized.backward.keep(None, needed, guarded)
                    result = guarded(*operands)
            if result is not None:
                return result  # type: ignore[no-any-return]
        saved = (grad, first, second)
        first_grad, second_grad = (
            each.contraction.call(saved[each.first], saved[each.second], None, size, sized.geometry)
            if wanted
            else None
            for each, size, wanted in zip(cls.derivatives, sized.operand_sizes, needed[1:3], strict=True)
        )
        return None, first_grad, second_grad, bias_gradient(grad) if any(needed[3:]) else None

    @classmethod
    def tangent(
        cls, ctx: Any, first_tangent: Tensor | None, second_tangent: Tensor | None, bias: Tensor | None = None
    ) -> Tensor:
        """The forward derivative: the contraction is linear in each operand."""
        first, second = ctx.saved_tensors
        size, geometry = ctx.sized.size, ctx.sized.geometry
        with outer_tangents():
            first, second = without_own_tangent(first), without_own_tangent(second)
            terms = []
            if first_tangent is not None:
                terms.append(cls.call(first_tangent, second, None, size, geometry))
            if second_tangent is not None:
                terms.append(cls.call(first, second_tangent, None, size, geometry))
            if bias is not None:
                shape = (first.shape[0], bias.shape[0], *size)
                column = bias.reshape(-1, *[1] * len(size))
                terms.append(column.expand(shape).clone() if not terms else column)
            total: Tensor = terms[0]
            for term in terms[1:]:
                total = total + term
            return total


class Conv(Contraction):
    """x, w -> y."""

    name = "conv"

    @staticmethod
    def run(
        first: Tensor, second: Tensor, size: Ints, geometry: Geometry, *, rewritten: bool = False
    ) -> execute.GatherRun:  # fmt: skip
        stride, padding, dilation, groups, algorithm = geometry
        numbers = (stride, padding, size, dilation, groups)
        return execute.gather_run("conv", first, second, *numbers, algorithm, rewritten=rewritten)

    @staticmethod
    def call(first: Tensor, second: Tensor, bias: Tensor | None, size: Ints, geometry: Geometry) -> Tensor:
        stride, padding, dilation, groups, algorithm = geometry
        return conv(first, second, bias, stride, padding, size, dilation, groups, algorithm)

    @staticmethod
    def jvp(ctx: Any, _: None, x: Tensor | None, w: Tensor | None, *bias: Tensor | None) -> Tensor:
        return Conv.tangent(ctx, x, w, *bias)


class ConvTranspose(Contraction):
    """y, w -> x."""

    name = "conv_transpose"

    @staticmethod
    def run(
        first: Tensor, second: Tensor, size: Ints, geometry: Geometry, *, rewritten: bool = False
    ) -> execute.GatherRun:  # fmt: skip
        stride, padding, dilation, groups, algorithm = geometry
        numbers = (stride, padding, size, dilation, groups)
        return execute.gather_run("conv_transpose", first, second, *numbers, algorithm, rewritten=rewritten)

    @staticmethod
    def call(first: Tensor, second: Tensor, bias: Tensor | None, size: Ints, geometry: Geometry) -> Tensor:
        stride, padding, dilation, groups, algorithm = geometry
        return conv_transpose(first, second, bias, stride, padding, size, dilation, groups, algorithm)

    @staticmethod
    def jvp(ctx: Any, _: None, y: Tensor | None, w: Tensor | None, *bias: Tensor | None) -> Tensor:
        return ConvTranspose.tangent(ctx, y, w, *bias)


class ConvWeight(Contraction):
    """x, y -> w."""

    name = "conv_weight"

    @staticmethod
    def run(first: Tensor, second: Tensor, size: Ints, geometry: Geometry, *, rewritten: bool = False) -> Run:
        del rewritten
        return execute.weight_run(first, second, size, *geometry)

    @staticmethod
    def call(first: Tensor, second: Tensor, _: Tensor | None, size: Ints, geometry: Geometry) -> Tensor:
        return conv_weight(first, second, size, *geometry)

    @staticmethod
    def arguments(
        first: Tensor, second: Tensor, _: Tensor | None, size: Ints, geometry: Geometry
    ) -> tuple[Any, ...]:
        return first, second, size, *geometry

    @staticmethod
    def jvp(ctx: Any, _: None, x: Tensor | None, y: Tensor | None) -> Tensor:
        return ConvWeight.tangent(ctx, x, y)


Conv.derivatives = Derivative(ConvTranspose, 0, 2), Derivative(ConvWeight, 1, 0)
ConvTranspose.derivatives = Derivative(Conv, 0, 2), Derivative(ConvWeight, 0, 1)
ConvWeight.derivatives = Derivative(ConvTranspose, 2, 0), Derivative(Conv, 1, 0)


def _backward_run(
    contraction: type[Contraction], sized: SizedContraction, needed: tuple[bool, ...], *saved: Tensor | None
) -> tuple[Run, Run]:
    """What computes the needed gradients from those of (grad, first, second) that were saved."""
    places = [sum(tensor is not None for tensor in saved[:i]) for i in range(3)]
    runs: list[Run | None] = []
    pairs = []
    for each, size, wanted in zip(contraction.derivatives, sized.operand_sizes, needed[1:3], strict=True):
        first, second = saved[each.first], saved[each.second]
        if wanted and first is not None and second is not None:
            trained = is_trained(second)
            runs.append(each.contraction.run(first, second, size, sized.geometry, rewritten=trained))
        else:
            runs.append(None)
        pairs.append((places[each.first], places[each.second]))
    sums = channel_sums_run(saved[0]) if any(needed[3:]) and saved[0] is not None else None
    (run_first, run_second), ((a, b), (c, d)) = runs, pairs

    def run(*operands: Tensor) -> tuple[Tensor | None, ...]:
        first_grad = None if run_first is None else run_first(operands[a], operands[b])
        second_grad = None if run_second is None else run_second(operands[c], operands[d])
        return None, first_grad, second_grad, None if sums is None else sums(operands[0])

    return run, run
