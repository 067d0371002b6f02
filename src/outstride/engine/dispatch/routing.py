"""The ways of a call that no guarded call served: torch's function, a recording, the engine, torch's kernels.

A call is checked once per set of arguments and shapes. Tensors that the engine serves (CPU; float32, float64,
bfloat16, float16) go to its contractions, all others to torch's own functions with equivalent parameters.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from outstride.engine.dispatch import (
    overrides,
    recording,
    register,  # noqa: F401  # its import registers the operators
    through_torch,
)
from outstride.engine.dispatch.checked import checked_call
from outstride.engine.dispatch.contract import contract
from outstride.engine.dispatch.function import ConvFunction
from outstride.engine.dispatch.guarded import guarded_result
from outstride.engine.dispatch.operands import are_served, autocast
from outstride.engine.torch_internals import is_tracing, overrides_torch_function


def route(
    function: ConvFunction,
    input: Any,
    weight: Any,
    bias: Any,
    arguments: tuple[Any, ...],
    compiling: bool,
) -> Tensor:
    """Compute one call.

    Args:
        function: the one that was called.
        input, weight, bias: its tensors, of any class.
        arguments: the others, in the order of ``Arguments``.
        compiling: whether ``torch.compile`` traces this, so that nothing may be cached.
    """
    overridden = overrides_torch_function(input, weight, bias)
    if overridden:
        result = overrides.result(function, input, weight, bias, arguments)
        if result is not None:
            return result
    tracing = not compiling and not overridden and is_tracing()
    checked = checked_call(function, input, weight, bias, arguments, compiling, tracing)
    call = checked.call
    if tracing:
        call = recording.recorded(call, checked.arguments, input, weight)
    elif not overridden:
        result = guarded_result(function, checked, input, weight, bias)
        if result is not None:
            return result
        input, weight, bias = autocast(input, weight, bias)
        if are_served(input, weight, bias):
            return contract(call, input, weight, bias)
    return through_torch.convolve(call, input, weight, bias)
