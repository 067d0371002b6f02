"""The weight gradient by short algorithms: a sum over cells for each product instead of one for each tap.

Of every product one factor is a sum of a cell's inputs, a plane of the strip; the other a sum of the
gradients of its outputs, a panel. A task keeps the sums over cells in its scratch, and when it has added the
last of its boxes it turns the sums of the products into those of the kernel's elements. Where it has all
boxes these are the gradient, and it writes it.
"""

from __future__ import annotations

from outstride.engine.codegen.box import BOX, Box, decode_box
from outstride.engine.codegen.context import Context, Kernel
from outstride.engine.codegen.gradients.partial_sums import write_rows
from outstride.engine.codegen.gradients.pixel_planes import pixel_planes_functions
from outstride.engine.codegen.gradients.rows import pack_row
from outstride.engine.codegen.gradients.tasks import Task
from outstride.engine.codegen.gradients.tiles import Operands, list_pixels, sum_rows, whole_run
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value
from outstride.engine.codegen.packing import runs
from outstride.engine.codegen.packing.planes import planes_functions
from outstride.engine.codegen.packing.strip import zeros
from outstride.engine.codegen.short import Index, gradients_of, indices, kernel_of
from outstride.engine.planner.dataflow import Tile
from outstride.engine.planner.gradients.short import WRITTEN_CHANNELS
from outstride.engine.planner.recipe import Recipe
from outstride.engine.planner.short_form import kernel_rows


def short_functions(kernel: Kernel, tile: Tile) -> list[Function]:
    """The functions of a kernel beside its register tile, of which `task` is one."""
    own = [_pack_gradients(kernel, tile), _multiply(kernel, tile), _turn(kernel, tile)]
    planes = pixel_planes_functions if kernel.recipe.in_unit == "channel" else planes_functions
    return [*planes(kernel), *own, _write(kernel, tile), _task(kernel, tile)]


def _products(recipe: Recipe) -> list[Index]:
    return indices([len(axis.products) for axis in recipe.short])


def _task(kernel: Kernel, tile: Tile) -> Function:
    """Some channels under some blocks of outputs, in one split of the boxes."""
    k = kernel.function("task", ("scratch", PTR), ("number", I64))
    f, e, a = k.f, k.e, k.a
    strip, number = k.parameters
    width, products = tile.vectors * k.lanes, len(_products(k.recipe))
    panels, terms, sums = (
        f.at(strip, a[f"{what}_bytes_offset"], "i8") for what in ("panel", "terms", "sums")
    )
    task = Task.of(k, number, width)
    channels, blocks = task.channels, task.blocks

    def of(base: Value, pitch: str, block: Operand) -> Value:
        return f.at(base, f.mul(f.mul(a[pitch], products), block), e.accumulator)

    with f.loop(task.begin, task.end) as index:
        box, _ = decode_box(f, a, index)
        count = list_pixels(k, terms, box)
        line = f.at(strip, a["line_bytes_offset"], "i8")
        with f.loop(0, blocks) as block:
            source, (_, outputs) = task.gradients(block), task.outputs(block)
            panel = of(panels, "panel_pitch", block)
            f.run("pack_gradients", k.block, source, line, panel, *box.numbers, outputs)
        source = f.at(task.x, f.mul(box.start[0], a["x_stride_n"]), e.storage)
        resume = f.word(f.compare("ne", index, task.begin))
        with f.loop(0, channels, a["channels_per_slab"]) as c:
            few = f.minimum(a["channels_per_slab"], f.sub(channels, c))
            slab = f.at(source, f.mul(c, a["x_stride_c"]), e.storage)
            f.run("pack_planes", k.block, slab, strip, *box.numbers, few)
            with f.loop(0, blocks) as block:
                own = f.at(of(sums, "sums_pitch", block), f.mul(c, width), e.accumulator)
                panel = of(panels, "panel_pitch", block)
                f.run("multiply", k.block, strip, panel, own, terms, count, few, resume)
    alone = f.compare("eq", a["splits"], 1)
    with f.when(f.negate(alone)), f.loop(0, blocks) as block:
        target = f.at(task.partial, f.mul(block, task.partial_pitch), e.accumulator)
        f.run("turn", k.block, of(sums, "sums_pitch", block), target, channels)
    with f.when(alone), f.loop(0, blocks) as block:
        target, (_, outputs) = task.written(block), task.outputs(block)
        f.run("write", k.block, of(sums, "sums_pitch", block), panels, target, channels, outputs)
    return f


def _pack_gradients(kernel: Kernel, tile: Tile) -> Function:
    """`pack_gradients(block, y, line, panels, box, outputs)`: a panel for each product.

    The gradients under a row of cells are packed into `line` pixel by pixel, and its vectors are summed.
    """
    k = kernel.function(
        "pack_gradients", ("y", PTR), ("line", PTR), ("panels", PTR), *BOX, ("outputs", I64)
    )  # fmt: skip
    f, e, a, axes = k.f, k.e, k.a, k.recipe.short
    y, line, panels, *numbers, outputs = k.parameters
    box, width = Box.of(numbers), tile.vectors * k.lanes
    steps, made = [axis.out_step for axis in axes], _products(k.recipe)
    starts = [f.mul(a["panel_pitch"], number) for number in range(len(made))]
    pixels = f.mul(box.count[3], steps[2])
    with f.loop(0, box.count[0]) as n, f.loop(0, box.count[1]) as d, f.loop(0, box.count[2]) as h:
        with f.loop(0, steps[0]) as pd, f.loop(0, steps[1]) as ph:
            od, oh = (
                f.add(runs.output(f, axis, f.add(start, cell), 0), f.mul(phase, axis.run))
                for axis, start, cell, phase in zip(axes, box.start[1:3], (d, h), (pd, ph), strict=False)
            )
            row = f.mul(f.add(f.mul(pd, steps[1]), ph), f.mul(pixels, width))
            _pack_line(k, y, f.at(line, row, e.accumulator), (width, pixels, outputs), (n, od, oh), box)
        row = f.mul(f.add(f.mul(f.add(f.mul(n, box.count[1]), d), box.count[2]), h), box.count[3])
        with f.loop(0, box.count[3]) as w, f.loop(0, width, k.lanes) as o:
            values = {}
            for index in indices(steps):
                row_of_cell = f.mul(pixels, index[0] * steps[1] + index[1])
                pixel = f.add(row_of_cell, runs.output(f, axes[2], w, index[2]))
                place = f.add(f.mul(pixel, width), o)
                values[index] = f.load(k.vector, f.at(line, place, e.accumulator), e.accumulator_bytes)
            factors = gradients_of(k, axes, values)
            target = f.at(panels, f.add(f.mul(f.add(row, w), width), o), e.accumulator)
            for index, start in zip(made, starts, strict=True):
                f.store(factors[index], f.at(target, start, e.accumulator), e.accumulator_bytes)
    return f


def _pack_line(
    k: Context, y: Value, target: Value, sizes: tuple[int, Operand, Operand],
    at: tuple[Operand, Operand, Operand], box: Box,
) -> None:  # fmt: skip
    """The gradients of a row of outputs under a row of cells: zeros beyond the tensor."""
    f, e, a = k.f, k.e, k.a
    (width, pixels, outputs), (n, d, h) = sizes, at
    first = f.mul(box.start[3], k.recipe.short[2].out_step)
    exists = f.both(f.compare("slt", d, a["out_size_d"]), f.compare("slt", h, a["out_size_h"]))
    present = f.select(exists, f.minimum(pixels, f.sub(a["out_size_w"], first)), 0)
    place = f.mul(f.add(box.start[0], n), a["y_stride_n"])
    for axis, number in zip("dhw", (d, h, first), strict=True):
        place = f.add(place, f.mul(number, a[f"y_stride_{axis}"]))
    pack_row(k, width, f.at(y, place, e.storage), target, present, outputs)
    zeros(k, f.at(target, f.mul(present, width), e.accumulator), 0, f.mul(f.sub(pixels, present), width))


def _multiply(kernel: Kernel, tile: Tile) -> Function:
    """`multiply(block, strip, panels, sums, terms, count, channels, resume)`: the sums of every product."""
    k = kernel.function(
        "multiply", ("strip", PTR), ("panels", PTR), ("sums", PTR), ("terms", PTR), ("count", I64),
        ("channels", I64), ("resume", I64),
    )  # fmt: skip
    f, e, a = k.f, k.e, k.a
    strip, panels, sums, terms, count, channels, resume = k.parameters

    def place_of(channel: Operand) -> tuple[Operand, Operand]:
        return f.mul(channel, a["channel_pitch"]), f.mul(channel, tile.vectors * k.lanes)

    runs = f.variable("[3 x i64]")
    whole_run(f, runs, count)
    pitches = f.mul(a["plane_pitch"], a["pixel_pitch"]), a["panel_pitch"], a["sums_pitch"]
    with f.loop(0, len(_products(k.recipe))) as number:
        plane, panel, total = (
            f.at(base, f.mul(number, pitch), e.accumulator)
            for base, pitch in zip((strip, panels, sums), pitches, strict=True)
        )
        sum_rows(k, tile, Operands(plane, panel, total, terms, count, runs, resume), channels, place_of)
    return f


def _turn(kernel: Kernel, tile: Tile) -> Function:
    """`turn(block, sums, target, channels)`: the sums of the products become those of kernel elements."""
    k = kernel.function("turn", ("sums", PTR), ("target", PTR), ("channels", I64))
    f, e, a, axes = k.f, k.e, k.a, k.recipe.short
    sums, target, channels = k.parameters
    width, made = tile.vectors * k.lanes, _products(k.recipe)
    taps = indices([len(kernel_rows(axis)) for axis in axes])
    starts = [f.mul(a["sums_pitch"], number) for number in range(len(made))]
    with f.loop(0, channels) as c, f.loop(0, width, k.lanes) as o:
        source = f.at(sums, f.add(f.mul(c, width), o), e.accumulator)
        values = {
            index: f.load(k.vector, f.at(source, start, e.accumulator), e.accumulator_bytes)
            for index, start in zip(made, starts, strict=True)
        }
        totals = kernel_of(k, axes, values)
        row = f.at(target, f.add(f.mul(f.mul(c, len(taps)), width), o), e.accumulator)
        for number, index in enumerate(taps):
            f.store(totals[index], f.at(row, number * width, e.accumulator), e.accumulator_bytes)
    return f


def _write(kernel: Kernel, tile: Tile) -> Function:
    """`write(block, sums, room, target, channels, outputs)`: the gradient, some channels at a time."""
    k = kernel.function(
        "write", ("sums", PTR), ("room", PTR), ("target", PTR), ("channels", I64), ("outputs", I64)
    )  # fmt: skip
    f, e, a, width = k.f, k.e, k.a, tile.vectors * k.lanes
    sums, room, target, channels, outputs = k.parameters
    pitch = f.mul(a["channels"], a["taps"])
    with f.loop(0, channels, WRITTEN_CHANNELS) as c:
        few = f.minimum(WRITTEN_CHANNELS, f.sub(channels, c))
        f.run("turn", k.block, f.at(sums, f.mul(c, width), e.accumulator), room, few)
        rows = f.mul(few, a["taps"])

        def square(row: Operand, output: Operand, rows: Operand = rows) -> list[Value]:
            """The last row stands for those beyond it."""
            numbers = (f.minimum(f.add(row, i), f.sub(rows, 1)) for i in range(k.lanes))
            places = [f.at(room, f.add(f.mul(n, width), output), e.accumulator) for n in numbers]
            return [f.load(k.vector, place, e.accumulator_bytes) for place in places]

        write_rows(k, square, f.at(target, f.mul(c, a["taps"]), e.storage), pitch, (0, rows), outputs)
    return f
