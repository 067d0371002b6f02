"""Resizing as torch computes it: while a graph is traced, its operators stay whole.

Torch's tracer writes them out in index arithmetic, additions and multiplications, which round in another
order than the operators do, and take many times as long. The ways in which they are registered for it are put
aside while a graph of ours is traced: an operator that takes factors becomes the one that takes sizes, as it
does outside of a tracer, and that one stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import RLock
from typing import Any

import torch
from torch import Tensor

_NAMES = {
    1: ("upsample_nearest1d", "_upsample_nearest_exact1d", "upsample_linear1d"),
    2: ("upsample_nearest2d", "_upsample_nearest_exact2d", "upsample_bilinear2d", "upsample_bicubic2d"),
    3: ("upsample_nearest3d", "_upsample_nearest_exact3d", "upsample_trilinear3d"),
}
_lock = RLock()


@contextmanager
def whole_resizing() -> Iterator[None]:
    """Within, torch's tracer keeps its operators for resizing."""
    keys: Any = torch._C.DispatchKey  # noqa: SLF001 - the keys have no public name
    written = (keys.CompositeImplicitAutograd, keys.Autograd)
    with _lock:
        before = list[tuple[Any, dict[Any, Any]]]()
        try:
            for axes, names in _NAMES.items():
                for name in names:
                    packet = getattr(torch.ops.aten, name)
                    for operator in (packet.default, packet.vec):
                        before.append((operator, dict(operator.py_kernels)))
                        for key in written:
                            operator.py_kernels.pop(key, None)
                    by_sizes = partial(_by_sizes, packet.default, axes)
                    packet.vec.py_kernels.update(dict.fromkeys(written, by_sizes))
            _forget(operator for operator, _ in before)
            yield
        finally:
            for operator, kernels in before:
                operator.py_kernels.clear()
                operator.py_kernels.update(kernels)
            _forget(operator for operator, _ in before)


def _forget(operators: Iterator[Any]) -> None:
    for operator in operators:
        operator._dispatch_cache.clear()  # noqa: SLF001 - what was looked up before


def _by_sizes(operator: Callable[..., Tensor], axes: int, x: Tensor, *rest: Any) -> Tensor:
    """What an operator that takes sizes or factors does: the same by the one that takes both."""
    sizes, *further, factors = rest
    inputs: Sequence[Any] = x.shape[2:]
    if sizes is None:
        sizes = [
            n * int(f) if int(f) == f else torch.sym_int(n * f) for n, f in zip(inputs, factors, strict=True)
        ]
    return operator(x, sizes, *further, *(factors if factors is not None else [None] * axes))
