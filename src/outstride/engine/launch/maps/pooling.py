"""Pooling of tensors as torch pools them, bit for bit, on torch's own threads."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from operator import lt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.maps.pooling import AXES, POOLING_INDEX
from outstride.engine.codegen.maps.pooling_channels import pooling_channels_source
from outstride.engine.codegen.maps.pooling_rows import COLUMNS, STEPS, VECTORS, pooling_rows_source
from outstride.engine.launch.argument_block import ArgumentBlock
from outstride.engine.launch.call_cache import CallCache
from outstride.engine.launch.fresh_result import fresh_result
from outstride.engine.launch.launches import At, Launch
from outstride.engine.launch.maps.map_run import MapRun
from outstride.engine.launch.memory_format import contiguous_strides, result_format
from outstride.engine.launch.plans import DTYPES, three
from outstride.engine.launch.steps.agreement import disagreement, trial
from outstride.engine.planner.maps.pooling import Ints, Kind, Pooling, strip_of
from outstride.engine.runtime import Kernel, chosen, decline, kernel, machine

#: Elements of the input from which more than one thread is worth waking.
_PARALLEL = 1 << 15
#: Numbers below which counts, and their products, are exact in every type.
_EXACT = 1 << 24


def max_pool(
    x: Tensor, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, dilation: Ints = 1,
    ceil_mode: bool = False, out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Take the largest element of every window, with the bits of torch's ``max_pool1d`` to ``max_pool3d``.

    Args:
        x: (N, C, *size), of one to three axes; ``max_pool_declines`` must say nothing about it.
        kernel_size, stride, padding, dilation, ceil_mode: as torch takes them.
        out: where the result goes: of the shape and strides of torch's result, apart from `x`.
    """
    return pooling_run("max", x, kernel_size, stride, padding, dilation, ceil_mode)(x, out)


def max_pool_declines(
    x: Tensor, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, dilation: Ints = 1,
    ceil_mode: bool = False,
) -> str | None:  # fmt: skip
    """Why ``max_pool`` does not take these arguments, or nothing."""
    return _declines(x, Pooling.of("max", x.dim() - 2, kernel_size, stride, padding, dilation, ceil_mode))


def avg_pool(
    x: Tensor, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None, out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Take the mean of every window, with the bits of torch's ``avg_pool1d`` to ``avg_pool3d``.

    Args:
        x: (N, C, *size), of one to three axes; ``avg_pool_declines`` must say nothing about it.
        kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override: as torch takes them.
        out: where the result goes: of the shape and strides of torch's result, apart from `x`.
    """
    further = (kernel_size, stride, padding, 1, ceil_mode, count_include_pad, divisor_override)
    return pooling_run("average", x, *further)(x, out)


def avg_pool_declines(
    x: Tensor, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> str | None:  # fmt: skip
    """Why ``avg_pool`` does not take these arguments, or nothing."""
    further = (kernel_size, stride, padding, 1, ceil_mode, count_include_pad, divisor_override)
    return _declines(x, Pooling.of("average", x.dim() - 2, *further))


def by_torch(pooling: Pooling, x: Tensor) -> Tensor:
    """The same by torch's own operator."""
    axes = len(pooling.kernel_size)
    if pooling.kind == "max":
        largest: Callable[..., Tensor] = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[axes - 1]
        return largest(x, *pooling.axes, pooling.ceil_mode)
    mean: Callable[..., Tensor] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[axes - 1]
    divisor = () if axes == 1 else (pooling.divisor_override,)
    return mean(x, *pooling.axes[:3], pooling.ceil_mode, pooling.count_include_pad, *divisor)


def pooling_run(kind: Kind, x: Tensor, *further: Any) -> PoolingRun:
    """What pools tensors like this one, on as many threads as torch has now."""
    layer = (kind, *(tuple(each) if isinstance(each, list) else each for each in further))
    key = (layer, x.shape, x.stride(), x.dtype, torch.get_num_threads(), chosen())
    run = _calls.get(key)
    return run or _calls.keep(layer, key, PoolingRun(Pooling.of(kind, x.dim() - 2, *further), x))


def _declines(x: Tensor, pooling: Pooling) -> str | None:
    if x.dim() not in (3, 4, 5):
        return "inputs have a batch, channels and one to three axes"
    if x.dtype not in (torch.float32, torch.float64):
        return "inputs are float32 or float64"
    if x.device.type != "cpu" or x.layout is not torch.strided:
        return "inputs are dense and on the CPU"
    if not _is_legal(pooling, x.shape[1:]):
        return "torch refuses these arguments"
    if prod(pooling.kernel_size) >= _EXACT or abs(pooling.divisor_override or 0) >= _EXACT:
        return "so large a divisor is not exact in float32"
    if _format(pooling.kind, x) is None:
        return "inputs are contiguous or channels_last"
    name = f"{pooling.kind} pooling of {DTYPES[x.dtype]}"
    return decline() or disagreement(name, partial(_pairs, pooling.kind, x.dtype))


def _is_legal(pooling: Pooling, sizes: Sequence[int]) -> bool:
    """Whether torch takes these arguments for these channels and sizes."""
    _, *spatial = sizes
    if len({len(spatial), *map(len, pooling.axes)}) > 1 or pooling.divisor_override == 0:
        return False
    legal = zip(*pooling.axes, strict=True)
    if any(k < 1 or s < 1 or d < 1 or not 0 <= p <= k // 2 for k, s, p, d in legal):
        return False
    if pooling.kind == "average" and len(spatial) == 3 and any(map(lt, spatial, pooling.kernel_size)):
        return False
    return min(sizes) > 0 and min(pooling.output_size(spatial)) > 0


def _pairs(kind: Kind, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """A few numbers pooled by torch and by the kernels."""
    return [
        (by_torch(pooling, x), PoolingRun(pooling, x)(x))
        for axes, channels, size in ((1, 2, (37,)), (2, 3, (6, 39)), (2, 17, (6, 5)), (3, 2, (3, 4, 21)))
        for padding, stride in ((0, 2), (1, 1))
        for pooling in (Pooling.of(kind, axes, 3, stride, padding, 1),)
        for x in _laid_out(trial(1, channels, *size, dtype=dtype, seed=axes + padding))
    ]


def _laid_out(x: Tensor) -> list[Tensor]:
    """The input in the memory formats that are served."""
    return [x, x.contiguous(memory_format=torch.channels_last)] if x.dim() == 4 else [x]


def _format(kind: Kind, x: Tensor) -> torch.memory_format | None:
    """The memory format of the result; None where the input has another."""
    if kind == "average" and x.dim() == 5:  # whatever torch is given, it makes a contiguous copy
        return torch.contiguous_format
    wanted = result_format(x, x) if x.dim() > 3 else torch.contiguous_format
    return wanted if x.is_contiguous(memory_format=wanted) else None


class PoolingRun(MapRun):
    """The kernel for one shape, dtype and memory format: `(x, out)`."""

    def __init__(self, pooling: Pooling, x: Tensor) -> None:
        input_size, output_size = x.shape[2:], pooling.output_size(x.shape[2:])
        together = _format(pooling.kind, x) is not torch.contiguous_format
        shape = (*x.shape[:2], *output_size)
        self._is_nothing = not x.numel()
        self._copies = not together and not x.is_contiguous()
        dtype, isa = DTYPES[x.dtype], machine().instruction_set
        scalars = _sizes(pooling, input_size, output_size) | {"channels": x.shape[1] if together else 1}
        tables = _tables(pooling, input_size, output_size, x.dtype)
        images = x.shape[0] if together else x.shape[0] * x.shape[1]
        if together:
            found = _channels_kernel(pooling.kind, dtype)
            scalars["tasks"] = images * scalars["output_d"] * scalars["output_h"]
        else:
            strip = strip_of(pooling, output_size, isa, x.element_size())
            blocks = -(-scalars["output_h"] // strip.block_rows)
            found = _rows_kernel(pooling, dtype)
            scalars |= {
                "block_rows": strip.block_rows, "blocks": blocks, "line_rows": strip.line_rows,
                "line_pitch": strip.line_pitch, "residue_pitch": strip.residue_pitch,
                "scratch_bytes": strip.scratch_bytes, "tasks": images * scalars["output_d"] * blocks,
            }  # fmt: skip
            tables["taps_at"] = array("q", strip.taps)
        workers = min(torch.get_num_threads(), scalars["tasks"]) if x.numel() > _PARALLEL else 1
        room = scalars.get("scratch_bytes", 0) * workers
        block = ArgumentBlock.of(POOLING_INDEX, scalars, tables)
        super().__init__(found, block, workers, fresh_result(shape, _strides(shape, together), x.dtype), room)

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        if self._is_nothing:
            return self._empty() if out is None else out
        return super().__call__(x.contiguous() if self._copies else x, out)

    def launch(self, x: At, y: At) -> Launch | None:
        """What a call launches; None where it does more than that, or nothing."""
        return None if self._is_nothing or self._copies else super().launch(x, y)


_calls: CallCache[tuple[Any, ...], PoolingRun] = CallCache("maps")


def _sizes(pooling: Pooling, input_size: Sequence[int], output_size: Sequence[int]) -> dict[str, int]:
    """The numbers of each axis in the argument block."""
    kernel_size, stride, padding, dilation = pooling.axes
    named = {
        "input": (input_size, 1), "output": (output_size, 1), "kernel": (kernel_size, 1),
        "stride": (stride, 1), "padding": (padding, 0), "dilation": (dilation, 1),
    }  # fmt: skip
    return {
        f"{name}_{axis}": number
        for name, (values, fill) in named.items()
        for axis, number in zip(AXES, three(values, fill), strict=True)
    }


def _tables(
    pooling: Pooling, input_size: Sequence[int], output_size: Sequence[int], dtype: torch.dtype
) -> dict[str, array[Any]]:
    """The factors of the divisors along each axis; along the width as numbers, with room for vectors."""
    if pooling.kind == "max":
        return {}
    counts = [[1]] * (3 - len(output_size)) + pooling.counts(input_size, output_size)
    room = [1] * (max(VECTORS) * machine().instruction_set.vector_bytes // dtype.itemsize)
    return {
        "divisors_d_at": array("q", counts[0]), "divisors_h_at": array("q", counts[1]),
        "divisors_w_at": array("f" if dtype is torch.float32 else "d", counts[2] + room),
    }  # fmt: skip


def _rows_kernel(pooling: Pooling, dtype: str) -> Kernel:
    isa, kind = machine().instruction_set, pooling.kind
    step = pooling.stride[-1] if pooling.stride[-1] in STEPS else 0
    columns = pooling.kernel_size[-1] if pooling.dilation[-1] == 1 else 0
    columns = columns if columns in COLUMNS else 0
    source = partial(pooling_rows_source, kind, dtype, isa.name, step, columns)
    return kernel(f"pooling_rows_{kind}_{dtype}_{step}_{columns}", source, isa, authorship())


def _channels_kernel(kind: Kind, dtype: str) -> Kernel:
    isa = machine().instruction_set
    source = partial(pooling_channels_source, kind, dtype, isa.name)
    return kernel(f"pooling_channels_{kind}_{dtype}", source, isa, authorship())


def _strides(shape: Sequence[int], together: bool) -> tuple[int, ...]:
    """The strides of a result whose channels lie together in memory, or whose rows do."""
    sizes = [max(1, n) for n in shape]
    if not together:
        return contiguous_strides(sizes)
    batch, *spatial, channel = contiguous_strides([sizes[0], *sizes[2:], sizes[1]])
    return (batch, channel, *spatial)
