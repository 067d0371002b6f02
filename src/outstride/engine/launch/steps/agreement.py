"""Whether this torch rounds as the kernels do that stand for its operators: asked once for each kind.

A kernel that has torch's bits follows what torch's own code does, which another build may do in another way.
So a few numbers go through both before a kind is first used.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import TypeVar

import torch
from torch import Tensor

from outstride.engine.torch_internals import is_intercepted

#: Makes pairs of results: torch's and ours.
Pairs = Callable[[], list[tuple[Tensor, Tensor]]]
_Result = TypeVar("_Result")

_lock = Lock()
_found: dict[str, str | None] = {}
_BITS = {
    torch.float32: torch.int32, torch.float64: torch.int64, torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
}  # fmt: skip


def disagreement(kind: str, pairs: Pairs) -> str | None:
    """Why a kind of kernel is not used with this torch, or nothing; ``pairs`` runs once in a process."""
    with _lock:
        if kind not in _found:
            _found[kind] = (
                None
                if plainly(partial(_compared, pairs))
                else f"this build of torch rounds {kind} in another way"
            )
        return _found[kind]


def plainly(compute: Callable[[], _Result]) -> _Result:
    """What a function computes where nothing intercepts operators: in a thread of its own if something does.

    A compiler asks what is served while it traces with tensors that have no numbers; modes and tracers belong
    to a thread.
    """
    if not is_intercepted():
        return compute()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(compute).result()


def _compared(pairs: Pairs) -> bool:
    with torch.inference_mode():
        return all(_same(theirs, ours) for theirs, ours in pairs())


def _same(theirs: Tensor, ours: Tensor) -> bool:
    return theirs.stride() == ours.stride() and same_bits(theirs, ours)


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same shape and bits; a NaN equals a NaN."""
    if a.shape != b.shape:
        return False
    bits = _BITS[a.dtype]
    return bool(((a.view(bits) == b.view(bits)) | (a.isnan() & b.isnan())).all())


def trial(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Numbers of many magnitudes, with zeros of both signs, infinities and NaN among them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    x = x * 10.0 ** torch.randint(-2, 3, shape, generator=generator)
    flat = x.flatten()
    special = (0.0, -0.0, float("inf"), float("-inf"), float("nan"))
    for i, value in enumerate(special):
        flat[(2 * i + 1) * flat.numel() // 11 :][:1] = value
    return flat.view(shape).to(dtype)
