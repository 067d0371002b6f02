"""Layer norms of tensors as torch normalises them, bit for bit, on torch's own threads."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.layer_norms import (
    LAYER_NORM_INDEX,
    LAYER_NORM_ROOM_BYTES,
    layer_norm_source,
)
from outstride.engine.codegen.moments import ROOM_BYTES, WIDTH, levels_of
from outstride.engine.launch.agreement import disagreement, trial
from outstride.engine.launch.argument_block import ArgumentBlock, address
from outstride.engine.launch.call_cache import CallCache
from outstride.engine.launch.fresh_result import fresh_result
from outstride.engine.launch.memory_format import contiguous_strides
from outstride.engine.runtime import chosen, decline, kernel, machine, scratch

_X, _Y, _WEIGHT, _BIAS, _SCRATCH = (
    LAYER_NORM_INDEX[n] for n in ("x_at", "y_at", "weight_at", "bias_at", "scratch_at")
)
LayerNormRun = Callable[[Tensor, Tensor | None, Tensor | None, Tensor | None], Tensor]
#: Elements from which more than one thread is worth waking, and below which counts are exact.
_PARALLEL, _EXACT = 1 << 15, 1 << 24


def layer_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5, out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Normalise the last axes of a tensor, with the bits of torch's ``layer_norm``.

    Args:
        x: any axes, and `shape`; ``layer_norm_declines`` must say nothing about it. What is not contiguous is
            copied first, as torch does.
        shape: the sizes of the axes that are normalised together.
        weight, bias: of that shape, or None; a bias has a weight beside it.
        eps: is added to the variance.
        out: where the result goes, a contiguous tensor: it may be a contiguous `x`.
    """
    has = weight is not None, bias is not None
    key = (tuple(shape), has, eps, x.shape, x.stride(), torch.get_num_threads(), chosen())
    run = _calls.get(key)
    if run is None:
        run = _calls.keep(tuple(shape), key, layer_norm_run(x, shape, *has, eps))
    return run(x, weight, bias, out)


def layer_norm_run(x: Tensor, shape: Sequence[int], weight: bool, bias: bool, eps: float) -> LayerNormRun:
    """What normalises plain CPU tensors like this one: `(x, weight, bias, out)`."""
    return _LayerNorm(x, tuple(shape), weight, bias, eps)


def layer_norm_declines(
    x: Tensor, shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5,
) -> str | None:  # fmt: skip
    """Why ``layer_norm`` does not take these arguments, or nothing."""
    if x.dtype is not torch.float32:
        return "inputs are float32"
    if x.device.type != "cpu" or x.layout is not torch.strided:
        return "inputs are dense and on the CPU"
    if not shape or x.shape[-len(shape) :] != tuple(shape) or not x.numel():
        return "inputs have elements, and end with the shape that is normalised"
    if prod(shape) >= _EXACT:
        return "so many elements are not exact in float32"
    if not eps > 0:
        return "'eps' is greater than 0"
    if bias is not None and weight is None:
        return "torch fuses a bias without a weight in another way"
    for vector in (weight, bias):
        if vector is not None and (
            vector.dtype is not x.dtype or vector.shape != tuple(shape) or not vector.is_contiguous()
        ):
            return "weight and bias are contiguous float32 tensors of that shape"
    return decline() or disagreement("layer norms of float32", _pairs)


def _pairs() -> list[tuple[Tensor, Tensor]]:
    """A few numbers normalised by torch and by the kernel."""
    found = []
    for rows, shape in ((19, (5,)), (9, (96,)), (4, (3, 87)), (3, (4159,))):
        x = torch.randn(rows, *shape, generator=torch.Generator().manual_seed(rows)) * 3 + 1
        x[:2] = trial(2, *shape, dtype=torch.float32)
        weight = trial(*shape, dtype=torch.float32, seed=2).nan_to_num(0.5, 1.0, -2.0)
        for w, b in ((None, None), (weight, weight.flip(0)), (weight, None)):
            ours = _LayerNorm(x, shape, w is not None, b is not None, 1e-5)
            found.append((F.layer_norm(x, shape, w, b, 1e-5), ours(x, w, b, None)))
    return found


class _LayerNorm:
    """The kernel for one shape."""

    def __init__(self, x: Tensor, shape: tuple[int, ...], weight: bool, bias: bool, eps: float) -> None:
        isa, threads = machine().instruction_set, torch.get_num_threads()
        positions = prod(shape)
        rows = x.numel() // positions
        tasks = -(-rows // WIDTH)
        self._workers = min(threads, tasks) if x.numel() > _PARALLEL else 1
        source = partial(layer_norm_source, isa, weight, bias)
        name = f"layer_norm{'_weight' if weight else ''}{'_bias' if bias else ''}"
        self._kernel = kernel(name, source, isa, authorship())
        self._empty = fresh_result(x.shape, contiguous_strides(x.shape), x.dtype)
        self._copies = not x.is_contiguous()
        room = -(-LAYER_NORM_ROOM_BYTES // 64) * 64
        self._scratch_bytes = room * self._workers
        (bits,) = struct.unpack("<i", struct.pack("<f", eps))
        scalars = {
            "tasks": tasks, "threads": self._workers, "rows": rows, "positions": positions,
            "levels": levels_of(positions), "eps": bits, "scratch_bytes": room,
            "room_pitch": ROOM_BYTES,
        }  # fmt: skip
        self._block = ArgumentBlock.of(LAYER_NORM_INDEX, scalars, {})

    def __call__(
        self, x: Tensor, weight: Tensor | None, bias: Tensor | None, out: Tensor | None
    ) -> Tensor:  # fmt: skip
        if out is None:
            out = self._empty()
        if self._copies:
            x = x.contiguous()
        block: array[int] = self._block.fresh()
        block[_X], block[_Y], block[_SCRATCH] = x.data_ptr(), out.data_ptr(), scratch(self._scratch_bytes)
        if weight is not None:
            block[_WEIGHT] = weight.data_ptr()
        if bias is not None:
            block[_BIAS] = bias.data_ptr()
        self._kernel.launch(address(block), self._workers)
        return out


_calls: CallCache[tuple[Any, ...], LayerNormRun] = CallCache("maps")
