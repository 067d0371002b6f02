"""The weight gradient: for every (channel, tap) and output the sum over pixels of input times its gradient.

The sum runs over pixels, and each row of sums reads the input under one (channel, tap). Pixels are summed box
after box in a fixed order, in as many separate splits as the problem alone decides, so the bits do not depend
on threads.
"""

from __future__ import annotations

from outstride.engine.codegen.arguments import GRADIENT_INDEX
from outstride.engine.codegen.box import Box, decode_box
from outstride.engine.codegen.context import Context, Kernel
from outstride.engine.codegen.gradient_rows import pack_row
from outstride.engine.codegen.gradient_tiles import (
    GradientTile,
    Operands,
    list_pixels,
    sum_rows,
    used_pixels,
    whole_run,
)
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, module
from outstride.engine.codegen.short_gradient import short_functions
from outstride.engine.codegen.strip import pack_functions
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
    """Some channels under a block of outputs, in one split of the boxes."""
    k = kernel.function("task", ("scratch", PTR), ("number", I64))
    f, e, a = k.f, k.e, k.a
    strip, number = k.parameters
    width = tile.vectors * k.lanes
    panel = f.at(strip, a["panel_bytes_offset"], "i8")
    terms = f.at(strip, a["terms_bytes_offset"], "i8")
    part, rest = f.rem(number, a["output_blocks"]), f.div(number, a["output_blocks"])
    slab, rest = f.rem(rest, a["channel_blocks"]), f.div(rest, a["channel_blocks"])
    split, group = f.rem(rest, a["splits"]), f.div(rest, a["splits"])
    first = f.mul(slab, a["channels_per_block"])
    channels = f.minimum(a["channels_per_block"], f.sub(a["channels"], first))
    output = f.mul(part, width)
    outputs = f.minimum(width, f.sub(a["outputs"], output))
    x = f.at(a["x_at"], f.add(f.mul(group, a["x_stride_g"]), f.mul(first, a["x_stride_c"])), e.storage)
    y = f.at(a["y_at"], f.add(f.mul(group, a["y_stride_g"]), f.mul(output, a["y_stride_m"])), e.storage)
    rows = f.mul(a["channels"], a["taps"])
    place = f.add(f.mul(f.add(f.mul(split, a["groups"]), group), a["output_blocks"]), part)
    place = f.add(f.mul(place, rows), f.mul(first, a["taps"]))
    partial = f.at(a["partial_at"], f.mul(place, width), e.accumulator)
    begin = f.mul(split, a["boxes_per_split"])
    end = f.minimum(f.add(begin, a["boxes_per_split"]), a["boxes"])

    runs = f.at(strip, a["runs_bytes_offset"], "i8")
    by_tap = f.compare("ne", a["by_tap"], 0)
    taps_together = f.select(by_tap, 1, a["taps"])
    with f.loop(begin, end) as index:
        box, _ = decode_box(f, a, index)
        source = f.at(x, f.mul(box.start[0], a["x_stride_n"]), e.storage)
        f.run("pack", k.block, source, strip, *box.numbers, channels)
        count = list_pixels(k, terms, box)
        _panel(k, width, y, panel, box, outputs)
        resume = f.word(f.compare("ne", index, begin))
        with f.loop(0, a["taps"], taps_together) as first_tap:
            whole_run(f, runs, count)
            with f.when(by_tap):
                f.run("used_pixels", k.block, runs, first_tap, *box.numbers)

            def place_of(row: Operand, first_tap: Operand = first_tap) -> tuple[Operand, Operand]:
                channel, tap = f.div(row, taps_together), f.add(first_tap, f.rem(row, taps_together))
                source = f.add(f.mul(channel, a["channel_pitch"]), f.load_i64(a["taps_at"], tap))
                return source, f.mul(f.add(f.mul(channel, a["taps"]), tap), width)

            own = Operands(strip, panel, partial, terms, count, runs, resume)
            sum_rows(k, tile, own, f.mul(channels, taps_together), place_of)
    return f


def _panel(k: Context, width: int, y: Value, panel: Value, box: Box, outputs: Operand) -> None:
    """The box of output gradients by pixel, a tile's width of outputs each; absent outputs are zeros."""
    f, e, a = k.f, k.e, k.a
    with f.loop(0, box.count[0]) as n, f.loop(0, box.count[1]) as d, f.loop(0, box.count[2]) as h:
        row = f.add(f.mul(f.add(f.mul(n, box.count[1]), d), box.count[2]), h)
        target = f.at(panel, f.mul(f.mul(row, box.count[3]), width), e.accumulator)
        image = f.mul(f.add(box.start[0], n), a["y_stride_n"])
        place = f.add(image, f.mul(f.add(box.start[1], d), a["y_stride_d"]))
        place = f.add(place, f.mul(f.add(box.start[2], h), a["y_stride_h"]))
        line = f.at(y, f.add(place, f.mul(box.start[3], a["y_stride_w"])), e.storage)
        pack_row(k, width, line, target, box.count[3], outputs)
