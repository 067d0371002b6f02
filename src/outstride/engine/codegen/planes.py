"""Packing for short algorithms: the strip holds sums of inputs, a plane for each product of a cell.

The input of a few channels is packed as it lies into a small strip, which stays in the first-level cache, and
its vectors are summed into the planes.
"""

from __future__ import annotations

from outstride.engine.codegen.arguments import RAW_STRIP
from outstride.engine.codegen.box import BOX, Box
from outstride.engine.codegen.context import Kernel
from outstride.engine.codegen.ir import I64, PTR, Function, Operand
from outstride.engine.codegen.short import indices, planes_of
from outstride.engine.codegen.strip import pack_functions
from outstride.engine.planner.cuts import CHANNELS_SUMMED


def planes_functions(kernel: Kernel) -> list[Function]:
    """The functions that fill the planes, of which others call `pack_planes`."""
    raw = {name: kernel.index[f"raw_{name}"] for name in RAW_STRIP}
    return [*pack_functions(Kernel(kernel.recipe, {**kernel.index, **raw})), _sum(kernel), _pack(kernel)]


def _pack(kernel: Kernel) -> Function:
    """`pack_planes(block, source, strip, box, channels)`: fill the planes of the box, channel by channel."""
    k = kernel.function("pack_planes", ("source", PTR), ("strip", PTR), *BOX, ("channels", I64), rare=True)
    f, e, a = k.f, k.e, k.a
    source, strip, *numbers, channels = k.parameters
    box = Box.of(numbers)
    raw = f.at(strip, a["raw_bytes_offset"], "i8")
    with f.loop(0, channels, CHANNELS_SUMMED) as c:
        few = f.minimum(CHANNELS_SUMMED, f.sub(channels, c))
        own = f.at(source, f.mul(c, a["x_stride_c"]), e.storage)
        f.run("pack", k.block, own, raw, *box.numbers, few)
        planes = f.at(strip, f.mul(c, a["channel_pitch"]), e.accumulator)
        f.run("sum_inputs", k.block, raw, planes, *box.count, few)
    return f


def _sum(kernel: Kernel) -> Function:
    """`sum_inputs(block, raw, strip, count, channels)`: the planes of so many cells.

    What a row writes beyond its end lies in the next, which is written after it, or behind its plane.
    """
    count = tuple((f"count_{axis}", I64) for axis in "ndhw")
    k = kernel.function("sum_inputs", ("raw", PTR), ("strip", PTR), *count, ("channels", I64))
    f, e, a, axes = k.f, k.e, k.a, k.recipe.short
    raw, strip, images, depth, height, width, channels = k.parameters
    read = indices([len(axis.offsets) for axis in axes])
    made = indices([len(axis.products) for axis in axes])
    places = [f.load_i64(a["input_places_at"], i) for i in range(len(read))]
    starts = [f.mul(a["plane_pitch"], i) for i in range(len(made))]
    with (
        f.loop(0, channels) as c,
        f.loop(0, images) as n,
        f.loop(0, depth) as d,
        f.loop(0, height) as h,
    ):
        rows = []
        for prefix, base in (("raw_", raw), ("", strip)):
            pitches = zip(
                (c, n, d, h), ("channel_pitch", "image_pitch", "depth_pitch", "strip_w"), strict=True
            )
            place: Operand = 0
            for number, pitch in pitches:
                place = f.add(place, f.mul(number, a[prefix + pitch]))
            rows.append(f.at(base, place, e.accumulator))
        with f.loop(0, width, k.lanes) as w:
            source, target = (f.at(row, w, e.accumulator) for row in rows)
            inputs = {
                index: f.load(k.vector, f.at(source, place, e.accumulator), e.accumulator_bytes)
                for index, place in zip(read, places, strict=True)
            }
            planes = planes_of(k, axes, inputs)
            for index, start in zip(made, starts, strict=True):
                f.store(planes[index], f.at(target, start, e.accumulator), e.accumulator_bytes)
    return f
