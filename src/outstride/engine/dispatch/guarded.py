"""The guarded calls of checked ones: found, or made for tensors that nothing intercepts."""

from __future__ import annotations

from operator import is_

from torch import Tensor

from outstride.engine.autograd.contractions import guarded_contraction
from outstride.engine.dispatch.call import result_size_at_any
from outstride.engine.dispatch.function import CheckedCall, ConvFunction, LatestCall
from outstride.engine.dispatch.shapes import ENGINE_DTYPES
from outstride.engine.launch.resized import ResizedCalls

#: Guarded calls that layers of equal shapes and arguments share: they differ in dtype, strides, threads, ...
_MOST_SHARED = 8


def guarded_result(
    function: ConvFunction, checked: CheckedCall, input: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor | None:
    """The result by a guarded call; None for tensors that must take the way that is open to all."""
    shared, dtype = checked.guarded, input.dtype
    if shared is None or dtype not in ENGINE_DTYPES:
        return None
    if weight.dtype is not dtype or (bias is not None and bias.dtype is not dtype):
        return None
    operands = (input, weight) if bias is None else (input, weight, bias)
    latest = function.latest.get(id(weight))
    resized = None
    if latest is not None and all(map(is_, latest.arguments, checked.arguments)):
        resized = latest.resized
    for guarded in shared:
        result = guarded(*operands)
        if result is not None:
            break
    else:
        call = checked.call
        made = guarded_contraction(function.contraction, call.contracted_size, call.geometry, *operands)
        if made is None:
            return None
        del shared[: 1 - _MOST_SHARED]
        shared.append(made)
        resized = _resized(function, checked, resized, *operands)
        guarded, result = made, made(*operands)
    function.latest.keep(id(weight), id(weight), LatestCall(guarded, checked.arguments, resized))
    return result  # type: ignore[no-any-return]


def _resized(
    function: ConvFunction, checked: CheckedCall, resized: ResizedCalls | None, *operands: Tensor
) -> ResizedCalls | None:
    """The calls at any size, with what this size's call has left ready; None where padding depends on it."""
    call, arguments = checked.call, checked.arguments
    steps = not call.transposed and any(s > 1 for s in call.stride)
    if arguments.output_size is not None or (steps and arguments.padding == "same"):
        return None
    input, weight = operands[:2]
    if resized is None or not resized.accepts(operands):
        result_size = result_size_at_any(call, tuple(weight.shape[2:]))
        resized = ResizedCalls(function.operator, call.geometry, result_size, *operands)
    run = function.contraction.run(input, weight, call.contracted_size, call.geometry)
    resized.learn(input, call.contracted_size, run)
    return resized
