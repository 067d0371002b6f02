"""Kernels of norms: what is the same of all of them, bound to tensors of a shape."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from outstride.engine.launch.argument_block import ArgumentBlock, address
from outstride.engine.launch.launches import At, Launch, Operand
from outstride.engine.launch.steps.chain_operands import addresses
from outstride.engine.runtime import Kernel, scratch

#: Elements from which more than one thread is worth waking, and below which counts are exact in float32.
PARALLEL, EXACT = 1 << 15, 1 << 24


class NormRun:
    """The kernel for one shape: `(x, weight, bias, operands, out)`; `scratch_bytes` are those of all workers.

    What is not contiguous is copied first, where a kernel `copies`.
    """

    def __init__(
        self, kernel: Kernel, block: ArgumentBlock, workers: int, empty: Callable[[], Tensor],
        scratch_bytes: int, copies: bool = False,
    ) -> None:  # fmt: skip
        self._kernel, self._block, self._workers = kernel, block, workers
        self._empty, self._scratch_bytes, self._copies = empty, scratch_bytes, copies
        names = ("x_at", "y_at", "weight_at", "bias_at", "operands_at", "scratch_at")
        self._x, self._y, self._weight, self._bias, self._operands, self._room = (
            block.index.get(name, -1) for name in names
        )

    def __call__(
        self, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None,
        operands: Sequence[Tensor] = (), out: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        if out is None:
            out = self._empty()
        if self._copies:
            x = x.contiguous()
        block: array[int] = self._block.fresh()
        block[self._x], block[self._y] = x.data_ptr(), out.data_ptr()
        block[self._room] = scratch(self._scratch_bytes)
        if weight is not None:
            block[self._weight] = weight.data_ptr()
        if bias is not None:
            block[self._bias] = bias.data_ptr()
        if operands:
            table = addresses(operands)
            block[self._operands] = address(table)
        self._kernel.launch(address(block), self._workers)
        return out

    def launch(
        self, x: At, weight: At | None, bias: At | None, operands: Sequence[At], y: At
    ) -> Launch | None:  # fmt: skip
        """What a call launches; None where it does more than that."""
        if self._copies:
            return None
        given = {"x_at": x, "y_at": y, "weight_at": weight, "bias_at": bias}
        return Launch(
            self._kernel, self._block, self._workers,
            {name: at for name, at in given.items() if at is not None},
            [Operand(operand, apart=False) for operand in operands],
            scratch_bytes=self._scratch_bytes, empty=self._empty,
        )  # fmt: skip


def unfit(x: Tensor, eps: float, shape: Sequence[int], *vectors: Tensor | None) -> str | None:
    """Why no kernel of a norm takes these, or nothing: `vectors` have the shape that is named."""
    if x.dtype is not torch.float32:
        return "inputs are float32"
    if x.device.type != "cpu" or x.layout is not torch.strided:
        return "inputs are dense and on the CPU"
    if not eps > 0:
        return "'eps' is greater than 0"
    for vector in vectors:
        if vector is not None and (
            vector.dtype is not x.dtype or vector.shape != tuple(shape) or not vector.is_contiguous()
        ):
            return "weight or bias is of another type, shape or layout"
    return None


def bits_of(number: float, form: str) -> int:
    """A number as its bits: of 'd', 64, or 'f', 32."""
    whole = {"d": "q", "f": "i"}[form]
    (bits,) = struct.unpack(f"<{whole}", struct.pack(f"<{form}", number))
    return int(bits)
