"""Rows of tensors copied, or put one behind the other, on torch's own threads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.maps.joining import JOINING_INDEX, joining_source
from outstride.engine.launch.argument_block import ArgumentBlock, address
from outstride.engine.launch.call_cache import CallCache
from outstride.engine.launch.fresh_result import fresh_result
from outstride.engine.launch.launches import At, Launch
from outstride.engine.launch.memory_format import contiguous_strides
from outstride.engine.runtime import chosen, decline, kernel, machine

_SIZES = (2, 4, 8)
#: Elements from which more than one thread is worth waking, and those of a task.
_PARALLEL, _TASK = 1 << 15, 1 << 14

Layout = tuple[tuple[int, ...], tuple[int, ...]]
"""Shape and strides."""


class _Rows(NamedTuple):
    """How many rows there are, of how many elements side by side, and how far apart."""

    rows: int
    width: int
    pitches: tuple[int, ...]


def joined(parts: Sequence[Tensor], axis: int, out: Tensor | None = None) -> Tensor:
    """One tensor, or two one behind the other along an axis: ``joining_declines`` must say nothing."""
    return joining_run(parts, axis, out)(*parts, out=out)


def joining_run(parts: Sequence[Tensor], axis: int, out: Tensor | None = None) -> JoiningRun:
    """What joins plain CPU tensors like these, into one like `out`: `(*parts, out)`."""
    layouts = tuple((tuple(part.shape), part.stride()) for part in parts)
    strides = None if out is None else out.stride()
    key = (layouts, axis, strides, parts[0].dtype, torch.get_num_threads(), chosen())
    run = _calls.get(key)
    return run or _calls.keep((axis, len(parts)), key, JoiningRun(layouts, axis, strides, parts[0].dtype))


def joining_declines(parts: Sequence[Tensor], axis: int, out: Tensor | None = None) -> str | None:
    """Why ``joined`` does not take these arguments, or nothing."""
    first = parts[0]
    if len(parts) > 2:
        return "inputs are one or two"
    if any(part.dtype != first.dtype or part.dim() != first.dim() for part in parts):
        return "inputs are of one type and rank"
    if first.element_size() not in _SIZES or first.is_complex():
        return f"elements of {first.dtype} are copied by torch"
    if any(part.device.type != "cpu" or part.layout is not torch.strided for part in parts):
        return "inputs are dense and on the CPU"
    if not all(part.numel() for part in parts):
        return "inputs have elements"
    layouts = [(tuple(part.shape), part.stride()) for part in parts]
    if _rows_of(layouts, axis, None if out is None else out.stride()) is None:
        return "inputs have rows that are equally far apart"
    return decline()


def _rows_of(parts: Sequence[Layout], axis: int, strides: tuple[int, ...] | None) -> list[_Rows] | None:
    """Of each part the rows, with their pitch in it and in the result; None where they lie otherwise."""
    shapes = [list(shape) for shape, _ in parts]
    whole = list(shapes[0])
    whole[axis] = sum(shape[axis] for shape in shapes)
    target = contiguous_strides(whole) if strides is None else strides
    found = []
    for shape, own in parts:
        # From the last axis on as far as both lie without gaps; of several parts no further than the joint.
        width, place = 1, len(shape)
        while place > (axis if len(parts) > 1 else 0) and all(
            shape[place - 1] == 1 or lies[place - 1] == width for lies in (own, target)
        ):
            place -= 1
            width *= shape[place]
        if len(parts) > 1 and place != axis:
            return None
        pitches = [_pitch(shape[:place], lies[:place]) for lies in (own, target)]
        if None in pitches:
            return None
        found.append(_Rows(prod(shape[:place]), width, tuple(pitch or 0 for pitch in pitches)))
    return found


def _pitch(shape: Sequence[int], strides: Sequence[int]) -> int | None:
    """How far rows are apart that some axes count; None where that is not one distance."""
    pitch, expected = 0, 0
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size == 1:
            continue
        if expected and stride != expected:
            return None
        pitch, expected = pitch or stride, size * stride
    return pitch


class JoiningRun:
    """The kernel for tensors of one shape and strides: `(*parts, out)`."""

    def __init__(
        self, parts: Sequence[Layout], axis: int, strides: tuple[int, ...] | None, dtype: torch.dtype
    ) -> None:  # fmt: skip
        rows = _rows_of(parts, axis, strides)
        assert rows is not None, "others are declined"
        shape = list(parts[0][0])
        shape[axis] = sum(part[axis] for part, _ in parts)
        first, last = rows[0], rows[-1]
        block_rows = max(1, min(first.rows, _TASK // sum(row.width for row in rows)))
        tasks = -(-first.rows // block_rows)
        self._workers = min(torch.get_num_threads(), tasks) if prod(shape) > _PARALLEL else 1
        scalars = {
            "tasks": tasks, "rows": first.rows, "block_rows": block_rows,
            "x_width": first.width, "x_pitch": first.pitches[0], "y_pitch": first.pitches[1],
            "z_width": last.width if len(rows) > 1 else 0, "z_pitch": last.pitches[0],
        }  # fmt: skip
        item, isa = dtype.itemsize, machine().instruction_set
        self._block = ArgumentBlock.of(JOINING_INDEX, scalars, {})
        self._kernel = kernel(f"joining_{item}", partial(joining_source, item, isa), isa, authorship())
        self._empty = fresh_result(shape, strides or contiguous_strides(shape), dtype)

    def __call__(self, *parts: Tensor, out: Tensor | None = None) -> Tensor:
        if out is None:
            out = self._empty()
        block: Any = self._block.fresh()
        for name, tensor in (("x_at", parts[0]), ("z_at", parts[-1]), ("y_at", out)):
            block[JOINING_INDEX[name]] = tensor.data_ptr()
        self._kernel.launch(address(block), self._workers)
        return out

    def launch(self, parts: Sequence[At], y: At) -> Launch:
        """What a call launches."""
        addresses = {"x_at": parts[0], "z_at": parts[-1], "y_at": y}
        return Launch(self._kernel, self._block, self._workers, addresses, empty=self._empty)


_calls: CallCache[tuple[Any, ...], JoiningRun] = CallCache("maps")
