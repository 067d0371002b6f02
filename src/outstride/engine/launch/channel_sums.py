"""The sum of a tensor (N, O, *size) over batch and space, in one fixed order: the gradient of a bias."""

from __future__ import annotations

from array import array
from functools import partial
from math import prod

import torch
from torch import Tensor

from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.channel_sums import CHANNEL_SUMS_INDEX, channel_sums_source
from outstride.engine.launch.argument_block import ArgumentBlock, address
from outstride.engine.launch.guarded import Run
from outstride.engine.launch.memory_format import contiguous_strides
from outstride.engine.launch.plans import DTYPES
from outstride.engine.runtime import kernel, machine
from outstride.engine.torch_internals import empty_strided

_DATA, _RESULT = (CHANNEL_SUMS_INDEX[n] for n in ("data_at", "result_at"))
#: Elements from which more than one thread is worth waking.
_PARALLEL = 1 << 16


def channel_sums_run(grad: Tensor) -> Run:
    """What sums plain CPU tensors of this shape, dtype and memory format."""
    if not grad.numel():
        return lambda grad: torch.zeros(grad.shape[1], dtype=grad.dtype)
    return _ChannelSums(grad)


class _ChannelSums:
    """The kernel for one shape."""

    def __init__(self, grad: Tensor) -> None:
        batch, self._channels = grad.shape[:2]
        self._dtype, self._shape = grad.dtype, tuple(grad.shape)
        self._strides = None if grad.is_contiguous() else contiguous_strides(grad.shape)
        self._workers = min(torch.get_num_threads(), self._channels) if grad.numel() > _PARALLEL else 1
        dtype = DTYPES[grad.dtype]
        source = partial(channel_sums_source, dtype)
        self._kernel = kernel(f"channel_sums_{dtype}", source, machine().instruction_set, authorship())
        scalars = {"tasks": self._channels, "batch": batch, "positions": prod(grad.shape[2:])}
        self._block = ArgumentBlock.of(CHANNEL_SUMS_INDEX, scalars, {})

    def __call__(self, grad: Tensor) -> Tensor:
        if self._strides is not None:
            grad = empty_strided(self._shape, self._strides, self._dtype).copy_(grad)
        result = empty_strided((self._channels,), (1,), self._dtype)
        block: array[int] = self._block.fresh()
        block[_DATA], block[_RESULT] = grad.data_ptr(), result.data_ptr()
        self._kernel.launch(address(block), self._workers)
        return result
