"""A linear layer is a convolution that slides along no axis: each row of features is an image of its own."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.compiler import is_compiling
from torch.fx import Proxy
from torch.overrides import handle_torch_function

from outstride.engine.autograd.contractions import Conv, conv, guarded_contraction
from outstride.engine.dispatch import register  # noqa: F401  # its import registers the operators
from outstride.engine.dispatch.operands import autocast
from outstride.engine.launch.call_cache import CallCache
from outstride.engine.launch.guarded import GuardedCall
from outstride.engine.launch.linear_layers import linear_declines
from outstride.engine.torch_internals import is_tracing, overrides_torch_function

#: Along no axis, with one group.
_GEOMETRY = (), (), (), 1
#: By the weight's identity.
_LATEST: CallCache[int, GuardedCall] = CallCache("latest calls")


def linear(public: Any, input: Any, weight: Any, bias: Any) -> Tensor:
    """Compute one call of ``outstride.functional.linear``, which is `public`, by the engine or by torch."""
    compiling = is_compiling()
    guarded = None if compiling else _LATEST.get(id(weight))
    if guarded is not None and isinstance(input, Tensor) and input.dim():
        rows = input if input.dim() == 2 else input.reshape(-1, input.shape[-1])
        result: Tensor | None = guarded(rows, weight) if bias is None else guarded(rows, weight, bias)
        if result is not None:
            return result if rows is input else result.view(*input.shape[:-1], result.shape[1])
    if overrides_torch_function(input, weight, bias):
        return _overridden(public, input, weight, bias)
    if is_tracing():  # a recording is to run where this package is not
        return F.linear(input, weight, bias)
    x, w, b = autocast(input, weight, bias)
    if not _are_served(x, w, b):
        return F.linear(input, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    if not compiling:
        operands = (rows, w) if b is None else (rows, w, b)
        made = guarded_contraction(Conv, (), (*_GEOMETRY, "auto"), *operands)
        if made is not None:
            _LATEST.keep(id(weight), id(weight), made)
    stride, padding, dilation, groups = _GEOMETRY
    return conv(rows, w, b, stride, padding, (), dilation, groups).view(*x.shape[:-1], w.shape[0])


def _overridden(public: Any, *operands: Any) -> Tensor:
    """What the operands' class makes of torch's function; what is traced with proxies stays served."""
    if any(isinstance(operand, Proxy) for operand in operands):
        given = [operand for operand in operands if operand is not None]
        traced: Tensor = handle_torch_function(public, given, *operands)
        return traced
    return F.linear(*operands)


def _are_served(input: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether they fit each other, and the engine computes on such; what does not fit, torch refuses."""
    tensors = (input, weight) if bias is None else (input, weight, bias)
    if any(t.dtype != weight.dtype or t.layout is not torch.strided for t in tensors):
        return False
    if any(t.device != weight.device for t in tensors):
        return False
    if weight.dim() != 2 or input.dim() == 0 or input.shape[-1] != weight.shape[1]:
        return False
    if bias is not None and bias.shape != weight.shape[:1]:
        return False
    return linear_declines(weight.shape, weight.dtype, weight.device) is None
