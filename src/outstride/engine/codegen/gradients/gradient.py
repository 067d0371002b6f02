"""The weight gradient: for every (channel, tap) and output the sum over pixels of input times its gradient.

The sum runs over pixels, and each row of sums reads the input under one (channel, tap). Pixels are summed box
after box in a fixed order, in as many separate splits as the problem alone decides, so the bits do not depend
on threads.
"""

from __future__ import annotations

from outstride.engine.codegen.arguments import GRADIENT_INDEX
from outstride.engine.codegen.box import Box, decode_box
from outstride.engine.codegen.context import Context, Kernel
from outstride.engine.codegen.gradients.partial_sums import sums_of_rows, write_rows
from outstride.engine.codegen.gradients.rows import pack_row, pack_squares
from outstride.engine.codegen.gradients.short import short_functions
from outstride.engine.codegen.gradients.tasks import Task, parts_of
from outstride.engine.codegen.gradients.tiles import (
    GradientTile,
    Operands,
    list_pixels,
    sum_rows,
    used_pixels,
    whole_run,
)
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, module
from outstride.engine.codegen.packing.strip import pack_functions
from outstride.engine.codegen.tasks import take_tasks
from outstride.engine.planner.dataflow import Tile
from outstride.engine.planner.recipe import Recipe


def gradient_source(recipe: Recipe, tile: Tile) -> str:
    """The LLVM IR of a weight-gradient kernel; with out_unit "channel" y is contiguous along channels."""
    kernel = Kernel(recipe, GRADIENT_INDEX)
    direct = [*pack_functions(kernel), used_pixels(kernel), _task(kernel, tile)]
    functions = [
        GradientTile().microkernel(tile, kernel.e, kernel.lanes),
        *(short_functions(kernel, tile) if recipe.short else direct), take_tasks(GRADIENT_INDEX),
    ]  # fmt: skip
    return module(functions, f"outstride gradient_{recipe.name}")


def _task(kernel: Kernel, tile: Tile) -> Function:
    """Some channels under some blocks of outputs, in one split of the boxes."""
    k = kernel.function("task", ("scratch", PTR), ("number", I64))
    f, e, a = k.f, k.e, k.a
    strip, number = k.parameters
    width = tile.vectors * k.lanes
    task = Task.of(k, number, width)
    panels, terms, runs, own_sums = (
        f.at(strip, a[f"{what}_bytes_offset"], "i8") for what in ("panel", "terms", "runs", "sums")
    )
    alone = f.compare("eq", a["splits"], 1)
    sums = f.select(alone, own_sums, task.partial)
    sums_pitch = f.select(alone, a["sums_pitch"], task.partial_pitch)
    by_tap = f.compare("ne", a["by_tap"], 0)
    taps_together = f.select(by_tap, 1, a["taps"])
    resume = f.variable(I64, Value("0", I64))
    with f.loop(task.begin, task.end) as index, parts_of(k, decode_box(f, a, index)[0]) as part:
        count = list_pixels(k, terms, part)
        with f.loop(0, task.blocks) as block:
            panel = f.at(panels, f.mul(block, a["panel_pitch"]), e.accumulator)
            _panel(k, width, task.gradients(block), panel, part, task.outputs(block)[1])
        source = f.at(task.x, f.mul(part.start[0], a["x_stride_n"]), e.storage)
        with f.loop(0, task.channels, a["channels_per_slab"]) as c:
            few = f.minimum(a["channels_per_slab"], f.sub(task.channels, c))
            slab = f.at(source, f.mul(c, a["x_stride_c"]), e.storage)
            f.run("pack", k.block, slab, strip, *part.numbers, few)
            with f.loop(0, a["taps"], taps_together) as first_tap:
                whole_run(f, runs, count)
                with f.when(by_tap):
                    f.run("used_pixels", k.block, runs, first_tap, *part.numbers)

                def place_of(row: Operand, first_tap: Operand = first_tap) -> tuple[Operand, Operand]:
                    channel, tap = f.div(row, taps_together), f.add(first_tap, f.rem(row, taps_together))
                    source = f.add(f.mul(channel, a["channel_pitch"]), f.load_i64(a["taps_at"], tap))
                    return source, f.mul(f.add(f.mul(channel, a["taps"]), tap), width)

                with f.loop(0, task.blocks) as block:
                    panel = f.at(panels, f.mul(block, a["panel_pitch"]), e.accumulator)
                    place = f.add(f.mul(block, sums_pitch), f.mul(f.mul(c, a["taps"]), width))
                    own = Operands(
                        strip, panel, f.at(sums, place, e.accumulator), terms, count, runs,
                        f.get(resume, I64),
                    )  # fmt: skip
                    sum_rows(k, tile, own, f.mul(few, taps_together), place_of)
        f.set(resume, Value("1", I64))
    with f.when(alone), f.loop(0, task.blocks) as block:
        own_block = f.at(own_sums, f.mul(block, a["sums_pitch"]), e.accumulator)
        _write(k, width, own_block, task, block)
    return f


def _write(k: Context, width: int, sums: Value, task: Task, block: Operand) -> None:
    """The gradients of a block of outputs, from sums over all boxes."""
    f, a = k.f, k.a
    rows = f.mul(task.channels, a["taps"])

    def square(row: Operand, output: Operand) -> list[Value]:
        return sums_of_rows(k, sums, width, rows, (row, output))

    pitch = f.mul(a["channels"], a["taps"])
    write_rows(k, square, task.written(block), pitch, (0, rows), task.outputs(block)[1])


def _panel(k: Context, width: int, y: Value, panel: Value, box: Box, outputs: Operand) -> None:
    """The output gradients of a box by pixel, a tile's width of outputs each; absent outputs are zeros.

    Where pixels lie side by side those of a vector of outputs come one behind the other, as memory has them.
    """
    f, e, a = k.f, k.e, k.a
    squares = k.recipe.out_unit == "width"
    with (
        f.loop(0, width, k.lanes if squares else width) as o,
        f.loop(0, box.count[0]) as n,
        f.loop(0, box.count[1]) as d,
        f.loop(0, box.count[2]) as h,
    ):
        row = f.add(f.mul(f.add(f.mul(n, box.count[1]), d), box.count[2]), h)
        target = f.at(panel, f.add(f.mul(f.mul(row, box.count[3]), width), o), e.accumulator)
        image = f.mul(f.add(box.start[0], n), a["y_stride_n"])
        place = f.add(image, f.mul(f.add(box.start[1], d), a["y_stride_d"]))
        place = f.add(place, f.mul(f.add(box.start[2], h), a["y_stride_h"]))
        place = f.add(place, f.add(f.mul(box.start[3], a["y_stride_w"]), f.mul(o, a["y_stride_m"])))
        pack = pack_squares if squares else pack_row
        pack(k, width, f.at(y, place, e.storage), target, box.count[3], f.sub(outputs, o))
