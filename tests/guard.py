"""Tensors whose neighbouring memory pages may not be touched: one byte too far and the process dies."""

from __future__ import annotations

import ctypes
import ctypes.util
import mmap
from typing import Literal

import torch
from torch import Tensor

Edge = Literal["start", "end"]
_PAGE_BYTES = mmap.PAGESIZE
_PROT_NONE, _PROT_READ_WRITE = 0, mmap.PROT_READ | mmap.PROT_WRITE
_LIBC = ctypes.CDLL(ctypes.util.find_library("c") or None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class GuardedPages:
    """Hands out tensors that lie flush against a protected page; frees them all on leaving the block.

    No tensor may be used after the block, its memory is gone then.
    """

    def __init__(self) -> None:
        self._mappings: list[tuple[int, int]] = []

    def __enter__(self) -> GuardedPages:
        return self

    def __exit__(self, *exc: object) -> None:
        for address, length_bytes in self._mappings:
            _LIBC.munmap(address, length_bytes)
        self._mappings.clear()

    def empty_like(self, tensor: Tensor, edge: Edge) -> Tensor:
        """A tensor of the same size, strides and dtype in guarded memory, filled with NaN."""
        span = 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
        elements = span if tensor.numel() else 0
        flat = self._elements(elements, tensor.dtype, edge)
        flat.fill_(float("nan"))
        return flat.as_strided(tensor.shape, tensor.stride()) if elements else torch.empty_like(tensor)

    def copy(self, tensor: Tensor, edge: Edge) -> Tensor:
        """The same tensor, its size and strides too, in guarded memory."""
        place = self.empty_like(tensor, edge)
        if 0 in tensor.stride():  # an expanded tensor refuses copy_: write its own elements once instead
            core = [slice(0, 1) if s == 0 else slice(None) for s in tensor.stride()]
            place[tuple(core)].copy_(tensor[tuple(core)])
        else:
            place.copy_(tensor)
        return place

    def _elements(self, count: int, dtype: torch.dtype, edge: Edge) -> Tensor:
        size_bytes = count * dtype.itemsize
        inner = max(1, -(-size_bytes // _PAGE_BYTES)) * _PAGE_BYTES
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        base = _LIBC.mmap(None, inner + 2 * _PAGE_BYTES, _PROT_NONE, flags, -1, 0)
        if base in (None, ctypes.c_void_p(-1).value):
            raise MemoryError(f"mmap of {inner} bytes failed")
        self._mappings.append((base, inner + 2 * _PAGE_BYTES))
        if _LIBC.mprotect(base + _PAGE_BYTES, inner, _PROT_READ_WRITE):
            raise MemoryError(f"mprotect of {inner} bytes failed")
        if not count:
            return torch.empty(0, dtype=dtype)
        first = base + _PAGE_BYTES + (inner - size_bytes if edge == "end" else 0)
        raw = (ctypes.c_char * size_bytes).from_address(first)
        return torch.frombuffer(raw, dtype=dtype, count=count)
