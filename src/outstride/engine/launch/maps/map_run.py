"""Kernels that make one tensor of one other: what is the same of all of them, bound to tensors of a shape."""

from __future__ import annotations

from array import array
from collections.abc import Callable

from torch import Tensor

from outstride.engine.launch.argument_block import ArgumentBlock, address
from outstride.engine.launch.launches import At, Launch
from outstride.engine.runtime import Kernel, scratch


class MapRun:
    """The kernel for one shape: `(x, out)`; `scratch_bytes` are those of all workers."""

    def __init__(
        self, kernel: Kernel, block: ArgumentBlock, workers: int, empty: Callable[[], Tensor],
        scratch_bytes: int = 0,
    ) -> None:  # fmt: skip
        self._kernel, self._block, self._workers = kernel, block, workers
        self._empty, self._scratch_bytes = empty, scratch_bytes
        self._x, self._y, self._room = (block.index.get(name, -1) for name in ("x_at", "y_at", "scratch_at"))

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        if out is None:
            out = self._empty()
        block: array[int] = self._block.fresh()
        block[self._x], block[self._y] = x.data_ptr(), out.data_ptr()
        if self._scratch_bytes:
            block[self._room] = scratch(self._scratch_bytes)
        self._kernel.launch(address(block), self._workers)
        return out

    def launch(self, x: At, y: At) -> Launch | None:
        """What a call launches; None where it does more than that, or nothing."""
        return Launch(
            self._kernel, self._block, self._workers, {"x_at": x, "y_at": y},
            scratch_bytes=self._scratch_bytes, empty=self._empty,
        )  # fmt: skip
