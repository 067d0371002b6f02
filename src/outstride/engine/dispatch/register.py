"""The operators ``torch.ops.outstride.conv``, ``conv_transpose`` and ``conv_weight``.

They are torch operators in full: CPU kernel, shape rule, derivative, batching rule. Importing this module
registers them; who calls them directly is checked here, a call of a function has been checked before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from outstride.engine.autograd.bias_gradient import BiasGradient
from outstride.engine.autograd.contractions import (
    OPERATORS,
    Contraction,
    Conv,
    ConvTranspose,
    ConvWeight,
    SizedContraction,
    needs_gradient,
)
from outstride.engine.dispatch import batching, decompositions
from outstride.engine.dispatch.shapes import (
    check_allocatable,
    check_countable,
    check_geometry,
    conv_shape,
    conv_transpose_shape,
    conv_weight_shape,
)
from outstride.engine.launch.maps.channel_sums import channel_sums_run
from outstride.engine.launch.memory_format import empty_result
from outstride.engine.torch_internals import (
    forward_derivatives_active,
    redispatch,
    redispatch_from_function,
    single_level,
)
from outstride.layer.arguments import CALL, choice
from outstride.layer.shortening import ALGORITHMS

Ints = Sequence[int]

_LIBRARY = torch.library.Library("outstride", "DEF")
_PLACED = "SymInt[] stride, SymInt[] padding"
_REST = 'SymInt[] dilation, SymInt groups, str algorithm="auto"'
_SCHEMAS = {
    "conv": f"(Tensor x, Tensor w, Tensor? bias, {_PLACED}, SymInt[] output_size, {_REST})",
    "conv_transpose": f"(Tensor y, Tensor w, Tensor? bias, {_PLACED}, SymInt[] output_size, {_REST})",
    "conv_weight": f"(Tensor x, Tensor y, SymInt[] kernel_size, {_PLACED}, {_REST})",
}


_SHAPES: dict[str, Callable[..., tuple[int, ...]]] = {
    "conv": conv_shape,
    "conv_transpose": conv_transpose_shape,
    "conv_weight": conv_weight_shape,
}


def _flops_of_conv(_x: Ints, w: Ints, *_: Any, out_shape: Ints, **__: Any) -> int:
    return 2 * out_shape[0] * prod(out_shape[2:]) * prod(w)


def _flops_of_conv_transpose(y: Ints, w: Ints, *_: Any, **__: Any) -> int:
    return 2 * y[0] * prod(y[2:]) * prod(w)


def _flops_of_conv_weight(x: Ints, y: Ints, *_: Any, out_shape: Ints, **__: Any) -> int:
    return 2 * y[0] * prod(y[2:]) * y[1] * x[1] * prod(out_shape[2:])


# As torch counts its own: a multiplication and an addition a term, borders included, and in the weight
# gradient every pair of channels, whatever the groups.
_FLOPS: dict[str, Callable[..., int]] = {
    "conv": _flops_of_conv,
    "conv_transpose": _flops_of_conv_transpose,
    "conv_weight": _flops_of_conv_weight,
}


def _unpack(contraction: type[Contraction], arguments: Sequence[Any]) -> tuple[Any, ...]:
    """The operator's arguments as (first, second, bias, size, geometry); torch leaves usual ones out."""
    if contraction is ConvWeight:
        first, second, size, stride, padding, *rest = arguments
        bias = None
    else:
        first, second, bias, stride, padding, size, *rest = arguments
    dilation, groups, algorithm = rest if len(rest) == 3 else (*rest, "auto")
    return first, second, bias, size, (stride, padding, dilation, groups, algorithm)


def _checked(contraction: type[Contraction], arguments: Sequence[Any]) -> tuple[tuple[int, ...], Any]:
    unpacked = _unpack(contraction, arguments)
    first, second, bias, size, (stride, padding, dilation, groups, algorithm) = unpacked
    choice("algorithm", algorithm, ALGORITHMS, CALL)
    shape = _SHAPES[contraction.name](first, second, bias, size, groups)
    check_geometry(stride, padding, size, dilation)
    check_allocatable(shape)
    windows = {Conv: size, ConvTranspose: first.shape[2:], ConvWeight: second.shape[2:]}[contraction]
    taps = size if contraction is ConvWeight else second.shape[2:]
    check_countable(windows, taps, stride, padding, dilation)
    return shape, unpacked


def _register(contraction: type[Contraction], batching_rule: Callable[..., Any]) -> None:
    name = contraction.name
    _LIBRARY.define(f"{name}{_SCHEMAS[name]} -> Tensor", tags=(torch.Tag.pt2_compliant_tag,))
    operator = getattr(OPERATORS, name).default

    def on_cpu(*arguments: Any) -> Tensor:
        shape, (first, second, bias, size, geometry) = _checked(contraction, arguments)
        if contraction is ConvWeight:
            torch.empty(shape, dtype=first.dtype)  # no plan for taps that memory cannot hold
        run = contraction.run(first, second, size, geometry)
        result: Tensor = run(first, second) if bias is None else run(first, second, bias)
        return result

    def on_fake(*arguments: Any) -> Tensor:
        shape, (first, second, *_) = _checked(contraction, arguments)
        if contraction is ConvWeight:
            return torch.empty(shape, dtype=first.dtype, device=first.device)
        return empty_result(shape, first, second)

    def with_derivative(keyset: Any, *arguments: Any) -> Tensor:
        first, second, bias, size, geometry = _unpack(contraction, arguments)
        if not forward_derivatives_active() and not needs_gradient(first, second, bias):
            return redispatch(operator, keyset, *arguments)

        def below(first: Tensor, second: Tensor, bias: Tensor | None = None) -> Tensor:
            own = contraction.arguments(first, second, bias, size, geometry)
            return redispatch_from_function(operator, keyset, *own)

        with single_level():
            sized = SizedContraction(below, size, geometry, (first.shape[2:], second.shape[2:]), None)
            operands = (first, second) if bias is None else (first, second, bias)
            result: Tensor = contraction.apply(sized, *operands)
            return result

    _LIBRARY.impl(name, on_cpu, "CPU")
    _LIBRARY.impl(name, with_derivative, "Autograd", with_keyset=True)
    torch.library.register_fake(f"outstride::{name}", on_fake, lib=_LIBRARY)
    register_flop_formula(getattr(OPERATORS, name))(_FLOPS[name])
    if contraction is not ConvWeight:
        decompositions.register(operator, getattr(decompositions, name), on_fake)
    torch.library.register_vmap(f"outstride::{name}", batching_rule, lib=_LIBRARY)


_register(Conv, batching.conv)
_register(ConvTranspose, batching.conv_transpose)
_register(ConvWeight, batching.conv_weight)


def _register_bias_gradient() -> None:
    _LIBRARY.define("bias_gradient(Tensor grad) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,))
    operator = OPERATORS.bias_gradient.default

    def on_fake(grad: Tensor) -> Tensor:
        return torch.empty(grad.shape[1], dtype=grad.dtype, device=grad.device)

    def with_derivative(keyset: Any, grad: Tensor) -> Tensor:
        if not forward_derivatives_active() and not (torch.is_grad_enabled() and grad.requires_grad):
            return redispatch(operator, keyset, grad)
        with single_level():
            run = partial(redispatch_from_function, operator, keyset)
            result: Tensor = BiasGradient.apply(run, grad)
            return result

    _LIBRARY.impl("bias_gradient", lambda grad: channel_sums_run(grad)(grad), "CPU")
    _LIBRARY.impl("bias_gradient", with_derivative, "Autograd", with_keyset=True)
    torch.library.register_fake("outstride::bias_gradient", on_fake, lib=_LIBRARY)
    torch.library.register_vmap("outstride::bias_gradient", batching.bias_gradient, lib=_LIBRARY)


_register_bias_gradient()
