"""Nearest resizing and pixel shuffling of contiguous tensors, as torch does them, on torch's own threads."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from math import prod
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.maps.rearrangement import REARRANGEMENT_INDEX, SOURCES, rearrangement_source
from outstride.engine.launch.argument_block import ArgumentBlock
from outstride.engine.launch.call_cache import CallCache
from outstride.engine.launch.fresh_result import fresh_result
from outstride.engine.launch.maps.map_run import MapRun
from outstride.engine.launch.memory_format import contiguous_strides, result_format
from outstride.engine.launch.plans import DTYPES
from outstride.engine.runtime import chosen, decline, kernel, machine

Nearest = Literal["nearest", "nearest-exact"]
Numbers = float | Sequence[float] | None

#: Elements of the result from which more than one thread is worth waking, and those of a task.
_PARALLEL = 1 << 15
_TASK = 1 << 12


def resize_nearest(
    x: Tensor, size: Numbers = None, scale_factor: Numbers = None, mode: Nearest = "nearest",
    recompute_scale_factor: bool | None = None, out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Repeat or leave out elements along each axis, as torch's ``interpolate`` does in its nearest modes.

    Args:
        x: (N, C, *size), of one to three axes; ``rearrangement_declines`` must say nothing about it.
        size, scale_factor, mode, recompute_scale_factor: as torch takes them.
        out: where the result goes: contiguous, apart from `x`.
    """
    return nearest_run(x, size, scale_factor, mode, recompute_scale_factor)(x, out)


def nearest_run(
    x: Tensor, size: Numbers, scale_factor: Numbers, mode: Nearest, recompute_scale_factor: bool | None = None
) -> RearrangementRun:  # fmt: skip
    """What resizes tensors like this one."""
    given = (_hashable(size), _hashable(scale_factor), mode, recompute_scale_factor)
    return _run(x, ("resize", *given), partial(_resized, *given))


def pixel_shuffle(x: Tensor, factor: int, out: Tensor | None = None) -> Tensor:
    """Move groups of `factor` ** 2 channels into space, as torch's ``pixel_shuffle`` does.

    Args:
        x: (N, C * factor ** 2, H, W); ``rearrangement_declines`` must say nothing about it.
        factor: how many times as high and wide the result is.
        out: where the result goes: contiguous, apart from `x`.
    """
    return shuffle_run(x, factor)(x, out)


def shuffle_run(x: Tensor, factor: int) -> RearrangementRun:
    """What shuffles tensors like this one."""
    return _run(x, ("shuffle", factor), partial(_shuffled, factor))


def pixel_unshuffle(x: Tensor, factor: int, out: Tensor | None = None) -> Tensor:
    """Move blocks of `factor` by `factor` pixels into channels, as torch's ``pixel_unshuffle`` does.

    Args:
        x: (N, C, H * factor, W * factor); ``rearrangement_declines`` must say nothing about it.
        factor: how many times as low and narrow the result is.
        out: where the result goes: contiguous, apart from `x`.
    """
    return unshuffle_run(x, factor)(x, out)


def unshuffle_run(x: Tensor, factor: int) -> RearrangementRun:
    """What does so to tensors like this one."""
    return _run(x, ("unshuffle", factor), partial(_unshuffled, factor))


def rearrangement_declines(x: Tensor) -> str | None:
    """Why none of the three takes a tensor, or nothing; their arguments must be those that torch takes."""
    if x.dim() not in (3, 4, 5):
        return "inputs have a batch, channels and one to three axes"
    if x.dtype not in DTYPES:
        return f"{x.dtype} is rearranged by torch"
    if x.device.type != "cpu" or x.layout is not torch.strided:
        return "inputs are dense and on the CPU"
    if not x.numel():
        return "inputs without elements are torch's"
    if not x.is_contiguous() or (x.dim() > 3 and result_format(x, x) is not torch.contiguous_format):
        return "inputs are contiguous: of channels_last torch moves whole pixels"
    return decline()


@dataclass(frozen=True)
class _Layout:
    """Where the elements of a result lie in the input: see the argument block."""

    shape: tuple[int, ...]
    image_stride: int
    depths: tuple[int, ...]
    rows: tuple[int, ...]
    sources: int = 0
    source_pitch: int = 0
    columns: tuple[int, ...] = ()


def _resized(
    size: Any, scale_factor: Any, mode: Nearest, recompute: bool | None, x: Tensor
) -> _Layout:  # fmt: skip
    axes = x.dim() - 2
    sizes, factors = (
        values if isinstance(values, tuple) else (values,) * axes for values in (size, scale_factor)
    )
    # What bfloat16 and float16 are computed in.
    dtype = x.dtype if x.dtype.itemsize > 2 else torch.float32
    tables = [
        _indices(axis, axes, x.shape[2 + axis], sizes[axis], factors[axis], mode, recompute, dtype)
        for axis in range(axes)
    ]
    shape = (*x.shape[:2], *map(len, tables))
    depths, rows, columns = [(0,)] * (3 - axes) + tables
    *_, height, width = (1, 1, *x.shape[2:])
    plane = height * width
    depths, rows = tuple(d * plane for d in depths), tuple(r * width for r in rows)
    factor = len(columns) // width
    if factor in SOURCES and columns == tuple(c // factor for c in range(width * factor)):
        return _Layout(shape, prod(x.shape[2:]), depths, rows, factor)
    return _Layout(shape, prod(x.shape[2:]), depths, rows, columns=columns)


@lru_cache(maxsize=256)
def _indices(
    axis: int, axes: int, inputs: int, size: int | None, factor: float | None, mode: Nearest,
    recompute: bool | None, dtype: torch.dtype,
) -> tuple[int, ...]:  # fmt: skip
    """Which elements along an axis the result takes: asked of torch, which resizes the numbers from 0 on."""
    shape = [1, 1, *(inputs if each == axis else 1 for each in range(axes))]
    sizes = None if size is None else [size if each == axis else 1 for each in range(axes)]
    factors = None if factor is None else [factor if each == axis else 1.0 for each in range(axes)]
    numbers = torch.arange(inputs, dtype=dtype).view(shape)
    resized = F.interpolate(numbers, sizes, factors, mode, recompute_scale_factor=recompute)
    return tuple(int(number) for number in resized.flatten().tolist())


def _shuffled(factor: int, x: Tensor) -> _Layout:
    batch, channels, height, width = x.shape
    plane = height * width
    shape = (batch, channels // factor**2, height * factor, width * factor)
    rows = tuple(row % factor * factor * plane + row // factor * width for row in range(height * factor))
    if factor in SOURCES:
        return _Layout(shape, factor**2 * plane, (0,), rows, factor, plane)
    columns = tuple(column % factor * plane + column // factor for column in range(width * factor))
    return _Layout(shape, factor**2 * plane, (0,), rows, columns=columns)


def _unshuffled(factor: int, x: Tensor) -> _Layout:
    batch, channels, height, width = x.shape
    shape = (batch, channels * factor**2, height // factor, width // factor)
    depths = tuple(place // factor * width + place % factor for place in range(factor**2))
    rows = tuple(row * factor * width for row in range(height // factor))
    columns = tuple(column * factor for column in range(width // factor))
    return _Layout(shape, height * width, depths, rows, columns=columns)


def _run(
    x: Tensor, layer: tuple[Any, ...], layout: Callable[[Tensor], _Layout]
) -> RearrangementRun:  # fmt: skip
    key = (layer, x.shape, x.dtype, torch.get_num_threads(), chosen())
    run = _calls.get(key)
    return run or _calls.keep((layer, x.shape[1]), key, RearrangementRun(layout(x), x))


class RearrangementRun(MapRun):
    """The kernel for one shape: `(x, out)`."""

    def __init__(self, layout: _Layout, x: Tensor) -> None:
        elements = prod(layout.shape)
        isa = machine().instruction_set
        source = partial(rearrangement_source, x.element_size(), isa, layout.sources)
        name = f"rearrangement_{x.element_size()}_{layout.sources}"
        rows, width = len(layout.rows), layout.shape[-1]
        block_rows = min(rows, -(-_TASK // width))
        blocks = -(-rows // block_rows)
        tasks = elements // (rows * width) * blocks
        workers = min(torch.get_num_threads(), tasks) if elements > _PARALLEL else 1
        scalars = {
            "tasks": tasks, "blocks": blocks, "block_rows": block_rows,
            "rows": rows, "width": width, "depth": len(layout.depths), "image_stride": layout.image_stride,
            "source_pitch": layout.source_pitch,
        }  # fmt: skip
        tables: dict[str, array[Any]] = {
            "depths_at": array("q", layout.depths), "rows_at": array("q", layout.rows),
            "columns_at": array("i", layout.columns),
        }  # fmt: skip
        block = ArgumentBlock.of(REARRANGEMENT_INDEX, scalars, tables)
        empty = fresh_result(layout.shape, contiguous_strides(layout.shape), x.dtype)
        super().__init__(kernel(name, source, isa, authorship()), block, workers, empty)


_calls: CallCache[tuple[Any, ...], RearrangementRun] = CallCache("maps")


def _hashable(value: Numbers) -> Any:
    return tuple(value) if isinstance(value, list) else value
