"""The weight gradient: for every (channel, tap) and output the sum over pixels of input times its gradient.

It is the microkernel of the dataflow "channels" with its loops renamed: the sum runs over pixels, the vectors
are the gradients of neighbouring outputs, packed pixel by pixel, and each broadcast reads the input under one
(channel, tap). Pixels are summed box after box in a fixed order, in as many separate splits as the problem
alone decides, so the bits do not depend on threads.
"""

from __future__ import annotations

from dataclasses import dataclass

from outstride.engine.codegen import elements
from outstride.engine.codegen.arguments import GRADIENT_INDEX
from outstride.engine.codegen.box import Box, decode_box
from outstride.engine.codegen.context import Context, Kernel, Vectors
from outstride.engine.codegen.dataflows.channels import Channels
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, module
from outstride.engine.codegen.outer_products import Parameters, ResultRows, TileResults
from outstride.engine.codegen.strip import copy_row, pack_functions, zeros
from outstride.engine.codegen.tasks import take_tasks
from outstride.engine.codegen.transpose import transpose
from outstride.engine.planner.dataflow import Tile
from outstride.engine.planner.recipe import Recipe


class _ListedResults(ResultRows):
    """Each broadcast operand has a row of results of its own, listed behind the operands."""

    def start(self, row: int) -> Value:
        place = self.k.f.load_i32(self.p.pixels, self.tile.rows + row)
        return self.k.f.at(self.p.results, place, self.k.e.accumulator)


class _Terms(Channels):
    """Vectors of output gradients, each input under a (channel, tap) broadcast to them."""

    def results(self, k: Vectors, tile: Tile, p: Parameters) -> TileResults:
        return _ListedResults(k, tile, p)


def gradient_source(recipe: Recipe, tile: Tile) -> str:
    """The LLVM IR of a weight-gradient kernel; with out_unit "channel" y is contiguous along channels."""
    kernel = Kernel(recipe, GRADIENT_INDEX)
    functions = [
        _Terms().microkernel(tile, kernel.e, kernel.lanes), *pack_functions(kernel),
        _task(kernel, tile), take_tasks(GRADIENT_INDEX),
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
    with f.loop(begin, end) as index:
        box, _ = decode_box(f, a, index)
        source = f.at(x, f.mul(box.start[0], a["x_stride_n"]), e.storage)
        f.run("pack", k.block, source, strip, *box.numbers, channels)
        count = _terms(k, terms, box)
        _panel(k, width, y, panel, box, outputs)
        resume = f.word(f.compare("ne", index, begin))
        own = _Operands(strip, panel, partial, terms, count, f.mul(channels, a["taps"]), resume)
        _tiles(k, tile, own)
    return f


def _terms(k: Context, terms: Value, box: Box) -> Value:
    """Strip offsets of the box's pixels in the order of summation; returns how many there are."""
    f, a = k.f, k.a
    count = f.variable(I64, Value("0", I64))
    with f.loop(0, box.count[0]) as n, f.loop(0, box.count[1]) as d, f.loop(0, box.count[2]) as h:
        start = f.add(f.mul(n, a["image_pitch"]), f.add(f.mul(d, a["depth_pitch"]), f.mul(h, a["strip_w"])))
        done = f.get(count, I64)
        with f.loop(0, box.count[3]) as w:
            offset = f.i32(f.mul(f.add(start, w), a["pixel_pitch"]))
            f.store(offset, f.at(terms, f.add(done, w), "i32"), 4)
        f.set(count, f.i64(f.add(done, box.count[3])))
    return f.get(count, I64)


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
        pack = {"channel": _panel_pixels, "width": _panel_squares, "any": _panel_elements}[k.recipe.out_unit]
        pack(k, width, line, target, box.count[3], outputs)


def _panel_pixels(
    k: Context, width: int, line: Value, target: Value, pixels: Operand, outputs: Operand
) -> None:  # fmt: skip
    """Outputs lie side by side already."""
    f = k.f
    with f.loop(0, pixels) as w:
        pixel = f.at(target, f.mul(w, width), k.e.accumulator)
        zeros(k, pixel, 0, width)
        copy_row(k, f.at(line, f.mul(w, k.a["y_stride_w"]), k.e.storage), pixel, outputs)


def _panel_squares(
    k: Context, width: int, line: Value, target: Value, pixels: Operand, outputs: Operand
) -> None:  # fmt: skip
    """Pixels lie side by side: squares of pixels by outputs are transposed; what runs on is overwritten."""
    f, e, lanes = k.f, k.e, k.lanes
    with f.loop(0, width, lanes) as o, f.loop(0, pixels, lanes) as w:
        rows = []
        for i in range(lanes):
            output = f.add(o, i)
            source = f.at(line, f.add(f.mul(output, k.a["y_stride_m"]), w), e.storage)
            count = f.select(f.compare("slt", output, outputs), f.sub(pixels, w), 0)
            inside = elements.lanes_within(f, 0, count, lanes)
            rows.append(elements.load_masked(f, e, source, lanes, inside))
        for j, column in enumerate(transpose(f, rows, lanes)):
            place = f.add(f.mul(f.add(w, j), width), o)
            f.store(column, f.at(target, place, e.accumulator), e.accumulator_bytes)


def _panel_elements(
    k: Context, width: int, line: Value, target: Value, pixels: Operand, outputs: Operand
) -> None:  # fmt: skip
    """Nothing lies side by side."""
    f, e, a = k.f, k.e, k.a
    with f.loop(0, pixels) as w:
        pixel = f.at(target, f.mul(w, width), e.accumulator)
        source = f.at(line, f.mul(w, a["y_stride_w"]), e.storage)
        with f.loop(0, outputs) as o:
            item = elements.load(f, e, f.at(source, f.mul(o, a["y_stride_m"]), e.storage), 1)
            f.store(item, f.at(pixel, o, e.accumulator), e.accumulator_bytes)
        with f.loop(outputs, width) as o:
            f.store(elements.zero(e, 1), f.at(pixel, o, e.accumulator), e.accumulator_bytes)


@dataclass(frozen=True)
class _Operands:
    """What the tiles of a box read and write: the strip, the panel of output gradients, the partial sums.

    `terms` are the strip offsets of `count` pixels; there are as many `rows` of sums as (channel, tap).
    """

    strip: Value
    panel: Value
    partial: Value
    terms: Value
    count: Value
    rows: Operand
    resume: Value


def _tiles(k: Context, tile: Tile, own: _Operands) -> None:
    """Every register tile of (channel, tap) rows; the last one repeats its last row."""
    f, a, width = k.f, k.a, tile.vectors * k.lanes
    listed = f.variable(f"[{2 * tile.rows} x i32]")
    null = Value("null", PTR)
    run = f.variable("[2 x i64]")
    f.store(Value("0", I64), run, 8)
    f.store(own.count, f.at(run, 1, I64), 8)
    with f.loop(0, own.rows, tile.rows) as start:
        with f.loop(0, tile.rows) as i:
            row = f.minimum(f.add(start, i), f.sub(own.rows, 1))
            channel, tap = f.div(row, a["taps"]), f.rem(row, a["taps"])
            offset = f.add(f.mul(channel, a["channel_pitch"]), f.load_i64(a["taps_at"], tap))
            f.store(f.i32(offset), f.at(listed, i, "i32"), 4)
            place = f.i32(f.mul(row, width))
            f.store(place, f.at(listed, f.add(i, tile.rows), "i32"), 4)
        # One block whose "taps" are the pixels, of one channel each.
        f.run(
            tile.name, own.strip, listed, own.panel, own.partial, 0, 1, own.terms, 1, own.count, run, 1, 0,
            null, 0, own.resume, null, 0,
        )  # fmt: skip
