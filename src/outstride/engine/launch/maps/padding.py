"""Padding by torch's rules, as one pass over memory, on torch's own threads."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import partial
from itertools import product
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor

from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.maps.padding import PADDING_INDEX, padding_source
from outstride.engine.launch.argument_block import ArgumentBlock
from outstride.engine.launch.call_cache import CallCache
from outstride.engine.launch.fresh_result import fresh_result
from outstride.engine.launch.maps.map_run import MapRun
from outstride.engine.launch.memory_format import layout_of_result, strides_of
from outstride.engine.launch.plans import DTYPES
from outstride.engine.runtime import chosen, decline, kernel, machine

Border = Literal["reflect", "replicate", "constant"]
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
#: Elements of the result from which more than one thread is worth waking, and those of a task.
_PARALLEL, _TASK = 1 << 15, 1 << 14


def padded(
    x: Tensor, padding: Sequence[int], border: Border, value: float = 0.0, out: Tensor | None = None
) -> Tensor:  # fmt: skip
    """Put elements around each map, as torch's ``pad`` does.

    Args:
        x: (N, C, *size); ``padding_declines`` must say nothing about it.
        padding: low and high along the last axis, then the one before it, and so on, as torch has it.
        border, value: the mode, and what stands outside where that is "constant".
        out: where the result goes: it lies as `x`, apart from it.
    """
    return padding_run(x, padding, border, value)(x, out)


def padding_run(x: Tensor, padding: Sequence[int], border: Border, value: float) -> PaddingRun:
    """What pads plain CPU tensors like this one: `(x, out)`."""
    layer = (tuple(padding), border, value)
    key = (layer, x.shape, x.stride(), x.dtype, torch.get_num_threads(), chosen())
    run = _calls.get(key)
    return run or _calls.keep(layer, key, PaddingRun(x, tuple(padding), border, value))


def padding_declines(x: Tensor, padding: Sequence[int], border: Border) -> str | None:
    """Why ``padded`` does not take these arguments, or nothing."""
    if x.dim() not in (3, 4, 5):
        return "inputs have a batch, channels and one to three axes"
    if x.dtype not in DTYPES:
        return f"{x.dtype} is padded by torch"
    if x.device.type != "cpu" or x.layout is not torch.strided:
        return "inputs are dense and on the CPU"
    if not x.numel():
        return "inputs have elements"
    if len(padding) % 2 or len(padding) > 2 * (x.dim() - 2) or min(padding, default=0) < 0:
        return "inputs have axes for the padding, which is not negative"
    pads = _by_axis(padding, x.dim() - 2)
    if border == "reflect" and any(max(pad) >= n for pad, n in zip(pads, x.shape[2:], strict=True)):
        return "torch refuses to reflect so much"
    if layout_of_result(x) is None:
        return "inputs are contiguous or channels_last"
    return decline()


def _by_axis(padding: Sequence[int], axes: int) -> list[tuple[int, int]]:
    """Low and high of each axis, the first one first."""
    pairs = list(zip(padding[::2], padding[1::2], strict=True))
    return ([*pairs, *[(0, 0)] * (axes - len(pairs))])[::-1]


def _places(size: int, pad: tuple[int, int], border: Border) -> list[int]:
    """Of each element of a padded axis where it comes from; -1 from nowhere."""
    low, high = pad
    found = range(-low, size + high)
    if border == "constant":
        return [place if 0 <= place < size else -1 for place in found]
    if border == "replicate":
        return [min(max(place, 0), size - 1) for place in found]
    return [size - 1 - abs(size - 1 - abs(place)) for place in found]


class PaddingRun(MapRun):
    """The kernel for one shape."""

    def __init__(self, x: Tensor, padding: tuple[int, ...], border: Border, value: float) -> None:
        isa, threads, axes = machine().instruction_set, torch.get_num_threads(), x.dim() - 2
        lies = layout_of_result(x)
        assert lies is not None, "other strides are declined"
        together = lies == "channels_last"
        pads, size = _by_axis(padding, axes), x.shape[2:]
        places = [_places(n, pad, border) for n, pad in zip(size, pads, strict=True)]
        shape = (*x.shape[:2], *map(len, places))
        images, unit = (x.shape[0], x.shape[1]) if together else (x.shape[0] * x.shape[1], 1)
        left, right = pads[-1]
        pitch, rows = unit * size[-1], list[int]()
        for outer in product(*places[:-1]):
            row = 0
            for place, n in zip(outer, size[:-1], strict=True):
                row = -1 if row < 0 or place < 0 else row * n + place
            rows.append(-1 if row < 0 else row * pitch)
        columns = [*places[-1][:left], *places[-1][left + size[-1] :]]
        block = max(1, min(len(rows), _TASK // (len(places[-1]) * unit)))
        blocks = -(-len(rows) // block)
        item = x.element_size()
        bits = torch.full((1,), value, dtype=x.dtype).view(_BITS[item]).item()
        scalars = {
            "tasks": images * blocks, "blocks": blocks, "block_rows": block, "rows": len(rows),
            "plane": prod(size) * unit, "unit": unit, "width": size[-1], "left": left, "right": right,
            "fill": int(bits),
        }  # fmt: skip
        tables = {"rows_at": array("q", rows), "columns_at": array("q", columns)}
        source = partial(padding_source, item, isa, together)
        name = f"padding_{item}{'_together' if together else ''}"
        workers = min(threads, scalars["tasks"]) if prod(shape) > _PARALLEL else 1
        arguments = ArgumentBlock.of(PADDING_INDEX, scalars, tables)
        empty = fresh_result(shape, strides_of(shape, lies), x.dtype)
        super().__init__(kernel(name, source, isa, authorship()), arguments, workers, empty)


_calls: CallCache[tuple[Any, ...], PaddingRun] = CallCache("maps")
