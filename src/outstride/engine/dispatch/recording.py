"""Calls that ``torch.jit.trace`` records, its ONNX exporter too: torch's operators, which fit every size.

A recording is to run where this package is not, and on other sizes. While it is made, sizes are tensors whose
arithmetic is recorded; what depends on a size is computed from those and never looked at.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from outstride.engine.dispatch.call import Arguments, Call, wanted_sizes
from outstride.engine.torch_internals import untraced
from outstride.errors import ArgumentError


def recorded(call: Call, arguments: Arguments, input: Tensor, weight: Tensor) -> Call:
    """The call as it is recorded: what depends on a size is computed from the recorded one.

    Args:
        call: the checked call in numbers, as the sizes of the example make them.
        arguments: what the caller wrote; the ``output_size`` may be recorded itself.
        input, weight: the call's tensors.

    Raises:
        ArgumentError: the border depends on a size in a way that no recording can follow.
    """
    with untraced():
        kernel = tuple(weight.shape[2:])
    if not call.transposed:
        if arguments.padding == "same" and any(step > 1 for step in call.stride):
            pairs = tuple(map(same_pair, *_numbers(call, input, kernel)))
            return call._replace(pairs=pairs, recorded=True)
    elif arguments.output_size is not None:
        wanted = wanted_sizes(arguments.output_size, call.nd)
        if arguments.padding != "same":
            beyond = tuple(map(_beyond, wanted, call.pairs, *_numbers(call, input, kernel)))
            return call._replace(output_padding=beyond, recorded=True)
        if call.bordered:
            raise ArgumentError(
                "'output_size' must not be given with padding='same' and a padding_mode where "
                f"torch.jit.trace records: got {call.output_size} with padding_mode={call.padding_mode!r}; "
                "legal: the padding in numbers, or torch.export"
            )
        aimed = tuple(map(_aimed, wanted, *_numbers(call, input, kernel)))
        return call._replace(pairs=aimed, output_padding=(0,) * call.nd, recorded=True)
    return call


def _numbers(call: Call, input: Tensor, kernel: tuple[int, ...]) -> tuple[Any, ...]:
    """Input size (recorded), stride and window of every axis."""
    windows = [d * (k - 1) + 1 for d, k in zip(call.dilation, kernel, strict=True)]
    return input.shape[-call.nd :], call.stride, windows


def same_pair(size: Any, stride: int, window: int) -> tuple[Any, Any]:
    """The padding (low, high) of "same" for a size that is recorded."""
    total = _not_below_zero(((size + stride - 1) // stride - 1) * stride + window - size)
    return total // 2, total - total // 2


def _beyond(wanted: Any, pair: tuple[int, int], size: Any, stride: int, window: int) -> Any:
    return wanted - ((size - 1) * stride + window - sum(pair))


def _aimed(wanted: Any, size: Any, stride: int, window: int) -> tuple[Any, Any]:
    total = (size - 1) * stride + window - wanted
    low = _not_below_zero(total) // 2
    return low, total - low


def _not_below_zero(recorded: Any) -> Any:
    return recorded.clamp(min=0)


__all__ = ["recorded", "same_pair"]
