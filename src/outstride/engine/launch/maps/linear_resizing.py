"""Linear, bilinear and trilinear resizing as torch does it, bit for bit, on torch's own threads."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.maps.linear import AXES, LINEAR_INDEX, Way
from outstride.engine.codegen.maps.linear_pixels import linear_pixels_source
from outstride.engine.codegen.maps.linear_rows import HEAD_BYTES, linear_rows_source
from outstride.engine.launch.argument_block import ArgumentBlock
from outstride.engine.launch.call_cache import CallCache
from outstride.engine.launch.fresh_result import fresh_result
from outstride.engine.launch.maps.map_run import MapRun
from outstride.engine.launch.memory_format import FORMATS, Layout, layout_of_result, strides_of
from outstride.engine.launch.plans import three
from outstride.engine.launch.steps.agreement import disagreement, trial
from outstride.engine.runtime import chosen, decline, kernel, machine

#: Elements of the result from which more than one thread is worth waking, and those of a task.
_PARALLEL, _TASK = 1 << 15, 1 << 14
#: Lanes of torch's vectors, and how high and wide a result is together that torch makes of pixels.
_LANES, _SMALL = 8, 128
#: Bytes of the slices that a thread keeps of three axes.
_MOST_SCRATCH_BYTES = 1 << 24

Factors = Sequence[float | None]
#: Of each axis whether a position is found by a multiply-add, or its product is rounded first.
Fused = tuple[bool, ...]


def resize_linear(
    x: Tensor, size: Sequence[int], align_corners: bool = False, factors: Factors | None = None,
    order: Layout | None = None, out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Resize each channel, with the bits of torch's ``upsample_linear1d`` to ``upsample_trilinear3d``.

    Args:
        x: (N, C, *size); ``linear_declines`` must say nothing about it.
        size: of the result, along each axis.
        align_corners: whether the first and the last elements stay where they are.
        factors: which torch was given, or None for the quotients of the sizes; by axis.
        order: the layout of the tensor whose roundings torch's result has. By default as `x` lies.
        out: where the result goes: it lies as `x`, apart from it.
    """
    return linear_run(x, size, align_corners, factors, order)(x, out)


def linear_run(
    x: Tensor, size: Sequence[int], align_corners: bool, factors: Factors | None, order: Layout | None
) -> LinearRun:  # fmt: skip
    """What resizes plain CPU tensors like this one: `(x, out)`."""
    layer = (tuple(size), align_corners, None if factors is None else tuple(factors), order)
    key = (layer, x.shape, x.stride(), torch.get_num_threads(), chosen())
    run = _calls.get(key)
    if run is None:
        fused = _fused(len(size), _way(x, size, order))
        assert fused is not None, "another torch is declined"
        run = LinearRun(x, tuple(size), align_corners, factors, order, fused)
        _calls.keep(layer, key, run)
    return run


def linear_declines(x: Tensor, size: Sequence[int], order: Layout | None = None) -> str | None:
    """Why ``resize_linear`` does not take these arguments, or nothing."""
    if x.dim() not in (3, 4, 5) or len(size) != x.dim() - 2:
        return "inputs have a batch, channels and one to three axes"
    if x.dtype is not torch.float32:
        return "inputs are float32"
    if x.device.type != "cpu" or x.layout is not torch.strided:
        return "inputs are dense and on the CPU"
    if not x.numel() or min(size) < 1:
        return "inputs and results have elements"
    if layout_of_result(x) is None:
        return "inputs are contiguous or channels_last"
    if order == "channels_last" and x.dim() == 3:
        return "torch knows of no channels_last with one axis"
    if len(size) == 3 and layout_of_result(x) == "contiguous" and _way(x, size, order) == "corners":
        return "torch adds up the corners of contiguous volumes in another way"
    if len(size) == 3 and 8 * size[1] * size[2] > _MOST_SCRATCH_BYTES:
        return "so large slices are not kept for a moment"
    if reason := decline():
        return reason
    known = _fused(len(size), _way(x, size, order)) is not None
    return None if known else "this build of torch rounds linear resizing of float32 in another way"


def linear_order(x: Tensor) -> Layout:
    """The layout by which torch chooses a way: a tensor that has both is channels_last."""
    last = FORMATS.get(x.dim())
    return "channels_last" if last and x.is_contiguous(memory_format=last) else "contiguous"


def _way(x: Tensor, size: Sequence[int], order: Layout | None) -> Way:
    """Which way torch goes; with three channels that depends on its threads."""
    channels = x.shape[1]
    corners = (order or linear_order(x)) == "channels_last" and channels > 3
    if len(size) == 2:
        alone = channels == 3 and torch.get_num_threads() == 1
        corners = corners or sum(size) <= _SMALL or alone
    return "corners" if corners and len(size) > 1 else "nested"


def _fused(axes: int, way: Way) -> Fused | None:
    """How this torch finds positions where it goes that way; None where it is none of these.

    Its compiler chose: multiply-adds in most. With 2.6 and 2.15 products are rounded first where it goes axis
    by axis, and with 2.15 of the corners of volumes those along the width.
    """
    for fused in _known(axes):
        name = f"linear resizing of float32, {axes} axes, {way}, {fused}"
        if disagreement(name, partial(_pairs, axes, way, fused)) is None:
            return fused
    return None


def _known(axes: int) -> list[Fused]:
    """How torches are known to find positions along so many axes, the most usual way first."""
    everywhere = (True,) * axes
    return list(dict.fromkeys((everywhere, (False,) * axes, (*everywhere[1:], False))))


def _pairs(axes: int, way: Way, fused: Fused) -> list[tuple[Tensor, Tensor]]:
    """A few numbers resized that way by torch and by the kernels, to sizes that show what is rounded."""
    found = []
    for shape, size, factors in (
        ((2, 3, 13), (37,), None), ((1, 13, 6, 7), (11, 45), None), ((1, 3, 9, 5), (7, 163), None),
        ((1, 5, 9, 5), (7, 163), None), ((2, 13, 9, 31), (18, 124), (2.0, 4.0)),
        ((1, 13, 3, 4, 5), (7, 6, 37), None),
    ):  # fmt: skip
        if len(size) != axes:
            continue
        mode = ("linear", "bilinear", "trilinear")[axes - 1]
        x = torch.randn(shape, generator=torch.Generator().manual_seed(axes))
        x[:, :1] = trial(*x[:, :1].shape, dtype=torch.float32)
        for align in (False, True):
            given: dict[str, Any] = {"size": size} if factors is None or align else {"scale_factor": factors}
            for each in _laid_out(x):
                if _way(each, size, None) == way:
                    theirs = F.interpolate(each, mode=mode, align_corners=align, **given)
                    ours = LinearRun(each, size, align, None if align else factors, None, fused)
                    found.append((theirs, ours(each, None)))
    return found


def _laid_out(x: Tensor) -> list[Tensor]:
    last = FORMATS.get(x.dim())
    return [x] if last is None else [x, x.contiguous(memory_format=last)]


@dataclass(frozen=True)
class _Axis:
    """Of each output of an axis the two inputs and their weights."""

    low: array[int]
    high: array[int]
    near: array[float]
    far: array[float]

    @classmethod
    def of(
        cls, inputs: int, outputs: int, align_corners: bool, factor: float | None, room: int, fused: bool
    ) -> _Axis:  # fmt: skip
        """As torch computes them in float32, with room for a vector behind the weights.

        A product that is fused with a subtraction is exact in float64, as is the difference where it counts.
        """
        places = torch.arange(outputs)
        if inputs == outputs:
            low = high = places
            near, far = torch.ones(outputs), torch.zeros(outputs)
        else:
            if align_corners:
                scale = torch.tensor(float(inputs - 1)) / max(outputs - 1, 1)
                found = places.float() * (scale if outputs > 1 else 0.0)
            else:
                scale = torch.tensor(1.0 / factor) if factor else torch.tensor(float(inputs)) / outputs
                product = (places.float() + 0.5).double() * scale.double()
                found = ((product if fused else product.float()) - 0.5).float().clamp(min=0.0)
            low = found.floor().long().clamp(max=inputs - 1)
            far = (found - low.float()).clamp(0.0, 1.0)
            near = 1.0 - far
            high = torch.where(low < inputs - 1, low + 1, low)
        behind = [0.0] * room
        return cls(
            array("q", low.tolist()), array("q", high.tolist()),
            array("f", near.tolist() + behind), array("f", far.tolist() + behind),
        )  # fmt: skip

    def tables(self, axis: str) -> dict[str, array[Any]]:
        """By their names in the argument block."""
        named: dict[str, array[Any]] = {
            "low": self.low,
            "high": self.high,
            "near": self.near,
            "far": self.far,
        }
        return {f"{name}_{axis}_at": table for name, table in named.items()}


class LinearRun(MapRun):
    """The kernel for one shape."""

    def __init__(
        self, x: Tensor, size: tuple[int, ...], align_corners: bool, factors: Factors | None,
        order: Layout | None, fused: Fused,
    ) -> None:  # fmt: skip
        isa, threads = machine().instruction_set, torch.get_num_threads()
        lies, axes = layout_of_result(x), len(size)
        assert lies is not None, "other strides are declined"
        way = _way(x, size, order)
        together = lies == "channels_last"
        images, channels = x.shape[:2]
        shape = (images, channels, *size)
        scalars = {"channels": channels, "whole": channels // _LANES * _LANES}
        tables: dict[str, array[Any]] = {}
        given: Factors = factors or (None,) * axes
        sizes = zip(AXES[3 - axes :], x.shape[2:], size, given, fused, strict=True)
        for axis, n, m, factor, at_once in sizes:
            made = _Axis.of(n, m, align_corners, factor, isa.lanes(4), at_once)
            tables |= made.tables(axis)
            scalars["paired"] = sum(high > low for low, high in zip(made.low, made.high, strict=True))
        for name, lengths in (("input", x.shape[2:]), ("output", size)):
            scalars |= {f"{name}_{axis}": n for axis, n in zip(AXES, three(lengths, 1), strict=True)}
        room = 0
        if together:
            scalars["tasks"] = images * prod(size[:-1])
            source = partial(linear_pixels_source, axes, way, isa)
        else:
            scalars |= _blocks(images * channels, size)
            pitch = -(-size[-1] // isa.lanes(4)) * isa.lanes(4)
            scalars["line_pitch"] = pitch
            slices = 2 * (prod(size[1:]) + isa.lanes(4)) if axes == 3 else 0
            room = HEAD_BYTES + 4 * ((4 if way == "corners" else 2) * pitch + slices)
            source = partial(linear_rows_source, axes, way, isa)
        room = -(-room // 64) * 64
        name = f"linear_{'pixels' if together else 'rows'}_{axes}_{way}"
        workers = min(threads, scalars["tasks"]) if prod(shape) > _PARALLEL else 1
        scalars["scratch_bytes"] = room
        block = ArgumentBlock.of(LINEAR_INDEX, scalars, tables)
        empty = fresh_result(shape, strides_of(shape, lies), x.dtype)
        super().__init__(kernel(name, source, isa, authorship()), block, workers, empty, room * workers)


def _blocks(planes: int, size: tuple[int, ...]) -> dict[str, int]:
    """What a task has: planes of one axis, rows of two, slices of three; rows are made anew for each task."""
    if len(size) == 1:
        block = max(1, _TASK // size[0])
        return {"planes": planes, "block": block, "blocks": 1, "tasks": -(-planes // block)}
    enough = planes >= 4 * torch.get_num_threads()
    block = size[0] if enough else max(4, _TASK // prod(size[1:]))
    blocks = -(-size[0] // block)
    return {"planes": planes, "block": block, "blocks": blocks, "tasks": planes * blocks}


_calls: CallCache[tuple[Any, ...], LinearRun] = CallCache("maps")
