"""Planes of sums of inputs where channels lie side by side: vectors of channels are summed, cell by cell.

Nothing is transposed: cells of the planes hold their channels as the input's pixels do.
"""

from __future__ import annotations

from outstride.engine.codegen.arguments import RAW_STRIP
from outstride.engine.codegen.box import BOX, Box
from outstride.engine.codegen.context import Kernel
from outstride.engine.codegen.ir import I64, PTR, Function
from outstride.engine.codegen.packing import runs
from outstride.engine.codegen.packing.strip import pack_functions
from outstride.engine.codegen.short import indices, planes_of


def pixel_planes_functions(kernel: Kernel) -> list[Function]:
    """The functions that fill the planes, of which others call `pack_planes`."""
    raw = {name: kernel.index[f"raw_{name}"] for name in RAW_STRIP}
    return [*pack_functions(Kernel(kernel.recipe, {**kernel.index, **raw})), _sum(kernel), _pack(kernel)]


def _pack(kernel: Kernel) -> Function:
    """`pack_planes(block, source, strip, box, channels)`: fill the planes of the box, all channels."""
    k = kernel.function("pack_planes", ("source", PTR), ("strip", PTR), *BOX, ("channels", I64), rare=True)
    f = k.f
    source, strip, *numbers, channels = k.parameters
    box = Box.of(numbers)
    raw = f.at(strip, k.a["raw_bytes_offset"], "i8")
    f.run("pack", k.block, source, raw, *runs.of_inputs(f, k.recipe.short, box).numbers, channels)
    f.run("sum_inputs", k.block, raw, strip, *box.count, channels)
    return f


def _sum(kernel: Kernel) -> Function:
    """`sum_inputs(block, raw, strip, count, channels)`: the planes of so many cells.

    What a cell writes beyond its channels lies in the next, which is written after it, or behind its plane.
    """
    count = tuple((f"count_{axis}", I64) for axis in "ndhw")
    k = kernel.function("sum_inputs", ("raw", PTR), ("strip", PTR), *count, ("channels", I64))
    f, e, a, axes = k.f, k.e, k.a, k.recipe.short
    raw, strip, images, depth, height, width, channels = k.parameters
    read = indices([len(axis.offsets) for axis in axes])
    made = indices([len(axis.products) for axis in axes])
    places = [f.load_i64(a["input_places_at"], i) for i in range(len(read))]
    plane = f.mul(a["plane_pitch"], a["pixel_pitch"])
    starts = [f.mul(plane, i) for i in range(len(made))]
    with (
        f.loop(0, images) as n,
        f.loop(0, depth) as d,
        f.loop(0, height) as h,
        f.loop(0, width) as w,
        f.loop(0, channels, k.lanes) as c,
    ):
        rows = []
        for prefix, base in (("raw_", raw), ("", strip)):
            cells = zip(axes, (d, h, w), strict=True)
            at = [runs.place(f, axis, cell) if prefix else cell for axis, cell in cells]
            pixel = at[2]
            for number, pitch in zip((n, *at[:2]), ("image_pitch", "depth_pitch", "strip_w"), strict=True):
                pixel = f.add(pixel, f.mul(number, a[prefix + pitch]))
            rows.append(f.at(base, f.add(f.mul(pixel, a[f"{prefix}pixel_pitch"]), c), e.accumulator))
        source, target = rows
        inputs = {
            index: f.load(k.vector, f.at(source, place, e.accumulator), e.accumulator_bytes)
            for index, place in zip(read, places, strict=True)
        }
        planes = planes_of(k, axes, inputs)
        for index, start in zip(made, starts, strict=True):
            f.store(planes[index], f.at(target, start, e.accumulator), e.accumulator_bytes)
    return f
