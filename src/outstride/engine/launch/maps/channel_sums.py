"""The sum of a tensor (N, O, *size) over batch and space, in one fixed order: the gradient of a bias."""

from __future__ import annotations

from array import array
from functools import partial
from math import prod

import torch
from torch import Tensor

from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.maps.channel_sums import (
    CHANNEL_SUMS_INDEX,
    SCRATCH_BYTES,
    TOGETHER,
    TOGETHER_INDEX,
    channel_sums_source,
    sums_together_source,
)
from outstride.engine.launch.argument_block import ArgumentBlock, address
from outstride.engine.launch.guarded import Run
from outstride.engine.launch.memory_format import contiguous_strides
from outstride.engine.launch.plans import DTYPES
from outstride.engine.runtime import decline, kernel, machine, scratch
from outstride.engine.torch_internals import empty_strided

_DATA, _RESULT, _SCRATCH = (CHANNEL_SUMS_INDEX[n] for n in ("data_at", "result_at", "scratch_at"))
#: Elements from which more than one thread is worth waking.
_PARALLEL = 1 << 16


def channel_sums_run(grad: Tensor) -> Run:
    """What sums plain CPU tensors of this shape, dtype and memory format."""
    if not grad.numel():
        return lambda grad: torch.zeros(grad.shape[1], dtype=grad.dtype)
    if decline() is not None:
        return _by_torch
    lie = _side_by_side(grad)
    if lie is not None:
        return _SumsTogether(grad, *lie)
    if grad.dim() > 2:
        return _ChannelSums(grad)
    along = channel_sums_run(torch.empty(grad.shape, dtype=grad.dtype, device="meta"))
    return lambda grad: along(grad.contiguous())


def _by_torch(grad: Tensor) -> Tensor:
    """The sum where no kernel may run, in torch's order."""
    axes = [0, *range(2, grad.dim())]
    wide = grad.detach() if grad.dtype.itemsize > 2 else grad.detach().float()
    return wide.sum(axes).to(grad.dtype)


def _side_by_side(grad: Tensor) -> tuple[int, int, int, int] | None:
    """Of channels that are neighbours: images, positions, and how far each lie apart; None for others."""
    batch, channels, *size = grad.shape
    image, channel, *steps = grad.stride()
    if not size:  # rows of features are the positions of one image
        return (1, batch, image, 0) if channel == 1 else None
    if channels == 1 or channel != 1:
        return None
    pitch = next((s for n, s in zip(reversed(size), reversed(steps), strict=True) if n > 1), 0)
    expected = pitch
    for n, step in zip(reversed(size), reversed(steps), strict=True):
        if n > 1 and step != expected:
            return None
        expected *= n
    return batch, prod(size), pitch, image


class _SumsTogether:
    """The kernel for channels side by side, of one shape and strides."""

    def __init__(self, grad: Tensor, images: int, positions: int, pitch: int, image_pitch: int) -> None:
        self._channels, self._dtype = grad.shape[1], grad.dtype
        tasks = -(-self._channels // TOGETHER)
        self._workers = min(torch.get_num_threads(), tasks) if grad.numel() > _PARALLEL else 1
        dtype = DTYPES[grad.dtype]
        source = partial(sums_together_source, dtype)
        self._kernel = kernel(f"sums_together_{dtype}", source, machine().instruction_set, authorship())
        scalars = {
            "tasks": tasks, "batch": images, "positions": positions, "channels": self._channels,
            "position_pitch": pitch, "image_pitch": image_pitch, "scratch_bytes": SCRATCH_BYTES,
        }  # fmt: skip
        self._block = ArgumentBlock.of(TOGETHER_INDEX, scalars, {})

    def __call__(self, grad: Tensor) -> Tensor:
        result = empty_strided((self._channels,), (1,), self._dtype)
        block: array[int] = self._block.fresh()
        block[_DATA], block[_RESULT] = grad.data_ptr(), result.data_ptr()
        block[_SCRATCH] = scratch(SCRATCH_BYTES * self._workers)
        self._kernel.launch(address(block), self._workers)
        return result


class _ChannelSums:
    """The kernel for one shape, contiguous."""

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
