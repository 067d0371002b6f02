"""A checked call as a contraction, with its batch and its border: built before, or folded back after."""

from __future__ import annotations

import torch
from torch import Tensor

from outstride.engine import borders
from outstride.engine.autograd.contractions import conv, conv_transpose
from outstride.engine.dispatch.call import Call
from outstride.layer.shortening import AlgorithmName

_NARROW = frozenset({torch.bfloat16, torch.float16})


def contract(call: Call, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Give an unbatched input its batch and a convolution its border; fold a transposed one's border back."""
    if not call.batched:
        input = input.unsqueeze(0)
    dtype = input.dtype
    if call.bordered and dtype in _NARROW:
        # The fold, and the border's gradient, add to sums: in float32, so that those are rounded once.
        input, weight, bias = input.float(), weight.float(), None if bias is None else bias.float()
    folded = call.bordered and call.transposed
    if call.bordered and not folded:
        input = borders.pad(input, call.pairs, call.padding_mode)
    contraction = conv_transpose if call.transposed else conv
    rest = (call.contracted_size, call.dilation, call.groups, call.algorithm)
    result = contraction(input, weight, None if folded else bias, call.stride, call.padding, *rest)
    if folded:
        result = borders.fold(result, call.pairs, call.padding_mode)
        if bias is not None:
            result = _add_bias(result, bias, call.nd, call.algorithm)
    if result.dtype != dtype:
        result = result.to(dtype)
    return result if call.batched else result.squeeze(0)


def _add_bias(result: Tensor, bias: Tensor, nd: int, algorithm: AlgorithmName) -> Tensor:
    """Add a bias; one with a gradient by a depthwise convolution with ones, which sums that in one order."""
    if not (torch.is_grad_enabled() and bias.requires_grad):
        return result + bias.reshape(-1, *[1] * nd)
    channels, ones = result.shape[1], (1,) * nd
    weight = torch.ones((channels, 1, *ones), dtype=result.dtype, device=result.device)
    size = tuple(result.shape[2:])
    return conv(result, weight, bias, ones, (0,) * nd, size, ones, channels, algorithm)
