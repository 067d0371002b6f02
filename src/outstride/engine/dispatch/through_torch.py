"""The same calls through torch's own convolutions, for dtypes and devices that the engine does not serve."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from outstride.engine import borders
from outstride.engine.dispatch.call import Arguments, Call

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def function(nd: int, transposed: bool) -> Any:
    """Torch's own function."""
    return (_CONV_TRANSPOSE if transposed else _CONV)[nd]


def has(transposed: bool, arguments: Arguments) -> bool:
    """Whether torch's function has these arguments."""
    padding, stride = arguments.padding, arguments.stride
    if arguments.padding_mode != "zeros" or arguments.algorithm != "auto":
        return False
    if arguments.output_size is not None:
        return False
    if isinstance(padding, str):
        strides = stride if isinstance(stride, (tuple, list)) else (stride,)
        return not transposed and (padding != "same" or all(step == 1 for step in strides))
    entries = padding if isinstance(padding, (tuple, list)) else ()
    return not any(isinstance(entry, (tuple, list)) for entry in entries)


def convolve(call: Call, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return torch's result for a checked call, batched or not.

    Where torch has the same parameters they are handed over. Otherwise a convolution gets its border first, a
    transposed one is computed in full, cut or continued with zeros, folded, and given its bias last. No size
    is read, so a recording of this fits every size.
    """
    as_torchs = not call.recorded and not call.bordered and all(low == high for low, high in call.pairs)
    lows = tuple(low for low, _ in call.pairs)
    if not call.transposed:
        operator = _CONV[call.nd]
        if as_torchs:
            return operator(input, weight, bias, call.stride, lows, call.dilation, call.groups)
        if not call.batched:
            input = input.unsqueeze(0)
        if call.recorded:
            mode = "constant" if call.padding_mode == "zeros" else call.padding_mode
            input = F.pad(input, [end for pair in reversed(call.pairs) for end in pair], mode)
        else:
            input = borders.pad(input, call.pairs, call.padding_mode)
        result = operator(input, weight, bias, call.stride, 0, call.dilation, call.groups)
    else:
        if as_torchs:
            return _CONV_TRANSPOSE[call.nd](
                input, weight, bias, call.stride, lows, call.output_padding, call.groups, call.dilation
            )
        if not call.batched:
            input = input.unsqueeze(0)
        result = _transposed(call, input, weight, bias)
    return result if call.batched else result.squeeze(0)


def _transposed(call: Call, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    full = _CONV_TRANSPOSE[call.nd](input, weight, None, call.stride, 0, 0, call.groups, call.dilation)
    ends: list[int] = []
    for (low, high), beyond in zip(call.pairs, call.output_padding, strict=True):
        ends[:0] = [0, beyond] if call.bordered else [-low, beyond - high]
    result = F.pad(full, ends)
    if call.bordered:
        result = borders.fold(result, call.pairs, call.padding_mode)
    return result if bias is None else result + bias.reshape(-1, *[1] * call.nd)
