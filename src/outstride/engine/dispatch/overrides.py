"""Operands whose class overrides ``__torch_function__``, and so decides itself what a function does."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.fx import Proxy
from torch.overrides import handle_torch_function

from outstride.engine.dispatch import through_torch
from outstride.engine.dispatch.call import Arguments
from outstride.engine.dispatch.function import ConvFunction


def result(
    function: ConvFunction, input: Any, weight: Any, bias: Any, arguments: tuple[Any, ...]
) -> Tensor | None:
    """What the operands' class makes of torch's function; None where torch's has not these arguments.

    A proxy that ``torch.fx`` traces with is handed ours, so that the traced model stays served.
    """
    stride, padding, dilation, groups, output_padding, output_size, padding_mode, algorithm = arguments
    positional: tuple[Any, ...] = (stride, padding, dilation, groups)
    if function.transposed:
        positional = (stride, padding, output_padding, groups, dilation)
    operands = [operand for operand in (input, weight, bias) if operand is not None]
    made: Tensor
    if any(isinstance(operand, Proxy) for operand in operands):
        named = {"padding_mode": padding_mode, "algorithm": algorithm}
        if function.transposed:
            named["output_size"] = output_size
        made = handle_torch_function(function.public, operands, input, weight, bias, *positional, **named)
        return made
    if not through_torch.has(function.transposed, Arguments(*arguments)):
        return None
    made = through_torch.function(function.nd, function.transposed)(input, weight, bias, *positional)
    return made
