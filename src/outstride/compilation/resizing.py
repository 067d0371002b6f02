"""Resizing as torch computes it: while a graph is traced, its operators stay whole.

Torch's tracer writes them out in index arithmetic, additions and multiplications, which round in another
order than the operators do, and take many times as long. The ways in which they are registered for it are put
aside while a graph of ours is traced: an operator that takes factors becomes the one that takes sizes, as it
does outside of a tracer, and that one stays. So do the derivatives, most of which torch's tracer never meets
otherwise: those that are written for it take no sizes that are symbols.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

from outstride.compilation.tracing import Kernels

_NAMES = {
    1: ("upsample_nearest1d", "_upsample_nearest_exact1d", "upsample_linear1d"),
    2: ("upsample_nearest2d", "_upsample_nearest_exact2d", "upsample_bilinear2d", "upsample_bicubic2d"),
    3: ("upsample_nearest3d", "_upsample_nearest_exact3d", "upsample_trilinear3d"),
}

_IN_FORMAT = (
    "upsample_nearest2d", "_upsample_nearest_exact2d", "upsample_bilinear2d", "upsample_trilinear3d"
)  # fmt: skip
"""Those whose derivative lies in the memory format of the gradient that it takes; others' are contiguous."""


def whole_resizing() -> Kernels:
    """Kernels with which torch's tracer keeps its operators for resizing, and knows their derivatives."""
    keys: Any = torch._C.DispatchKey  # noqa: SLF001 - the keys have no public name
    written = (keys.CompositeImplicitAutograd, keys.Autograd)
    kernels = dict[Any, dict[Any, Callable[..., Any] | None]]()
    for axes, names in _NAMES.items():
        for name in names:
            packet = getattr(torch.ops.aten, name)
            kernels[packet.default] = dict.fromkeys(written)
            kernels[packet.vec] = dict.fromkeys(written, partial(_by_sizes, packet.default, axes))
            derivative = getattr(torch.ops.aten, f"{name}_backward").default
            kernels[derivative] = {keys.Meta: partial(_as_it_lies, name in _IN_FORMAT)}
    return kernels


def _by_sizes(operator: Callable[..., Tensor], axes: int, x: Tensor, *rest: Any) -> Tensor:
    """What an operator that takes sizes or factors does: the same by the one that takes both."""
    sizes, *further, factors = rest
    inputs: Sequence[Any] = x.shape[2:]
    if sizes is None:
        sizes = [
            n * int(f) if int(f) == f else torch.sym_int(n * f) for n, f in zip(inputs, factors, strict=True)
        ]
    return operator(x, sizes, *further, *(factors if factors is not None else [None] * axes))


def _as_it_lies(in_format: bool, gradient: Tensor, _: Any, sizes: Sequence[Any], *__: Any) -> Tensor:
    """The derivative of resizing a tensor of these sizes, without its numbers."""
    wanted = suggest_memory_format(gradient) if in_format else torch.contiguous_format
    return torch.empty(sizes, dtype=gradient.dtype, device=gradient.device, memory_format=wanted)
