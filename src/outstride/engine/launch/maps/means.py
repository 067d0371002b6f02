"""Means of whole maps as torch takes them, bit for bit, on torch's own threads."""

from __future__ import annotations

from array import array
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor

from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.maps.means import (
    MEAN_INDEX,
    PIECE_FIELDS,
    mean_channels_source,
    mean_rows_source,
)
from outstride.engine.launch.argument_block import ArgumentBlock, table
from outstride.engine.launch.call_cache import CallCache
from outstride.engine.launch.fresh_result import fresh_result
from outstride.engine.launch.maps.map_run import MapRun
from outstride.engine.launch.memory_format import Layout, contiguous_strides
from outstride.engine.launch.plans import DTYPES
from outstride.engine.launch.steps.agreement import disagreement, trial
from outstride.engine.planner.machine import LINE_BYTES
from outstride.engine.planner.maps.means import (
    FOUR,
    GRAIN,
    ONE,
    SumColumns,
    SumOrder,
    depends_on_threads,
    order_of_rows,
    orders_of_columns,
    pieces,
)
from outstride.engine.runtime import chosen, decline, kernel, machine

#: Bytes of torch's vectors: it has narrower ones for sums than its processor has. Which they are is tried.
_VECTOR_BYTES = (32, 64, 16)
#: Elements and channels of a task, and numbers that are exact in float32.
_PART, _MOST_CHANNELS, _EXACT = 1 << 13, 64, 1 << 24


def map_mean(
    x: Tensor, keepdim: bool = False, order: Layout | None = None, out: Tensor | None = None
) -> Tensor:  # fmt: skip
    """Take the mean of each channel of each image, with the bits of torch's ``mean`` over all further axes.

    Args:
        x: (N, C, *size); ``map_mean_declines`` must say nothing about it.
        keepdim: whether the result is (N, C, 1, ...) and not (N, C).
        order: the order in which torch would sum `x` if it lay so; of what is channels_last both may be asked
            for. By default as it lies.
        out: where the result goes, a contiguous tensor.
    """
    return map_mean_run(x, keepdim, order)(x, out)


def map_mean_run(x: Tensor, keepdim: bool = False, order: Layout | None = None) -> MeanRun:
    """What takes means of plain CPU tensors like this one, on as many threads as torch has now."""
    key = (x.shape, x.stride(), x.dtype, keepdim, order, torch.get_num_threads(), chosen())
    run = _calls.get(key)
    if run is None:
        lanes = _lanes(x.dtype)
        assert lanes is not None, "what disagrees is declined"
        run = _calls.keep((x.dim(), x.shape[1]), key, MeanRun(x, keepdim, order, lanes))
    return run


def map_mean_declines(x: Tensor, keepdim: bool = False, order: Layout | None = None) -> str | None:
    """Why ``map_mean`` does not take these arguments, or nothing."""
    del keepdim
    if x.dim() not in (3, 4, 5):
        return "inputs have a batch, channels and one to three axes"
    if x.dtype not in DTYPES:
        return f"there are no means of {x.dtype}"
    if x.device.type != "cpu" or x.layout is not torch.strided:
        return "inputs are dense and on the CPU"
    if not x.numel():
        return "inputs have elements"
    if prod(x.shape[2:]) >= _EXACT:
        return "so large a divisor is not exact in float32"
    if _layout(x) is None:
        return "inputs are contiguous or channels_last"
    if order == "channels_last" and _layout(x) == "contiguous" and not _is_both(x):
        return "only channels_last inputs are summed in their order"
    if depends_on_threads(tuple(x.shape)):
        return "torch's threads share the sum of a single map"
    return decline() or (
        None if _lanes(x.dtype) else f"this build of torch rounds means of {x.dtype} in another way"
    )


def _layout(x: Tensor) -> Layout | None:
    """How a tensor lies; one that is both counts as contiguous, as its elements are read so."""
    if x.is_contiguous():
        return "contiguous"
    return "channels_last" if x.permute(0, *range(2, x.dim()), 1).is_contiguous() else None


def _is_both(x: Tensor) -> bool:
    return x.shape[1] == 1 or prod(x.shape[2:]) == 1


def _lanes(dtype: torch.dtype) -> int | None:
    """How many numbers torch's vectors for sums have, or None where it sums in none of the orders known."""
    wide = max(4, dtype.itemsize)  # what has 16 bits is summed as float32
    for vector_bytes in _VECTOR_BYTES:
        lanes = vector_bytes // wide
        name = f"means of {DTYPES[dtype]}, {lanes} at a time,"
        if disagreement(name, partial(_pairs, dtype, lanes)) is None:
            return lanes
    return None


def _pairs(dtype: torch.dtype, lanes: int) -> list[tuple[Tensor, Tensor]]:
    """A few maps whose means are taken by torch and by the kernels."""
    found = []
    for shape in ((2, 3, 5), (1, 19, 7, 7), (1, 70, 3, 11), (2, 5, 23, 61), (1, 3, 5, 70, 71)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)
        x = (x * 3 + 1).to(dtype)
        x[:, :1] = trial(*x[:, :1].shape, dtype=dtype)
        axes, layouts = tuple(range(2, x.dim())), [x]
        if x.dim() > 3:
            layouts.append(x.permute(0, *range(2, x.dim()), 1).contiguous().movedim(-1, 1))
        for each in layouts:
            found.append((each.mean(axes), MeanRun(each, False, None, lanes)(each)))
            found.append((x.mean(axes), MeanRun(each, False, "contiguous", lanes)(each)))
    return found


class MeanRun(MapRun):
    """The kernel for one shape: `(x, out)`."""

    def __init__(self, x: Tensor, keepdim: bool, order: Layout | None, lanes: int) -> None:
        isa, dtype = machine().instruction_set, DTYPES[x.dtype]
        images, channels = x.shape[:2]
        positions, threads = prod(x.shape[2:]), torch.get_num_threads()
        shape = (images, channels, *[1] * (x.dim() - 2 if keepdim else 0))
        scalars = {"positions": positions, "channels": channels, "rows": images * channels}
        tables: dict[str, array[int]] = {}
        rows = order_of_rows(positions, lanes)
        orders: tuple[SumOrder, ...] = (rows,)
        if _layout(x) == "contiguous":
            part = max(1, _PART // positions)
            scalars |= {
                "part": part, "level_steps": rows.level_steps(positions),
                "tasks": -(-images * channels // part),
            }  # fmt: skip
            source = partial(mean_rows_source, dtype, isa, rows)
            name = f"mean_rows_{dtype}"
        else:
            columns = [SumColumns(0, channels, rows)]
            if order != "contiguous":
                wide, orders = max(4, x.element_size()), (ONE, FOUR)
                columns = orders_of_columns(images, channels, positions, wide, lanes, threads)
            taken = pieces(columns, _channels_of_a_task(images * channels, threads, x.dtype))
            tables["pieces_at"] = _table(taken, orders, positions)
            scalars |= {"pieces": len(taken), "tasks": images * len(taken)}
            source = partial(mean_channels_source, dtype, isa, orders)
            name = f"mean_channels_{dtype}"
        name += "".join(f"_{each.fold}_{each.width}" for each in orders)
        workers = min(threads, scalars["tasks"]) if x.numel() > GRAIN else 1
        block = ArgumentBlock.of(MEAN_INDEX, scalars, tables)
        empty = fresh_result(shape, contiguous_strides(shape), x.dtype)
        super().__init__(kernel(name, source, isa, authorship()), block, workers, empty)


def _channels_of_a_task(channels: int, threads: int, dtype: torch.dtype) -> int:
    """Whole lines, and few enough for each thread to have some."""
    line = LINE_BYTES // dtype.itemsize
    return min(_MOST_CHANNELS, max(1, channels // (threads * line)) * line)


def _table(taken: list[SumColumns], orders: tuple[SumOrder, ...], positions: int) -> array[int]:
    """What the kernel is told of each piece."""
    return table(
        PIECE_FIELDS,
        [
            {
                "first": each.first, "count": each.count, "order": orders.index(each.order),
                "level_steps": each.order.level_steps(positions),
            }
            for each in taken
        ],
    )  # fmt: skip


_calls: CallCache[tuple[Any, ...], MeanRun] = CallCache("maps")
