"""The weight gradient: for every (channel, tap) and output the sum over pixels of input times its gradient.

It is the microkernel of the dataflow "channels" with its loops renamed: the sum runs over pixels, the vectors
are the gradients of neighbouring outputs, packed pixel by pixel, and each broadcast reads the input under one
(channel, tap). Pixels are summed box after box in a fixed order, in as many separate splits as the problem
alone decides, so the bits do not depend on threads.
"""

from __future__ import annotations

from outstride.engine.codegen import elements
from outstride.engine.codegen.arguments import GRADIENT_INDEX
from outstride.engine.codegen.box import Box, decode_box
from outstride.engine.codegen.elements import ELEMENTS, Element
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, module
from outstride.engine.codegen.microkernel import microkernel
from outstride.engine.codegen.strip import copy_row, pack_functions, zeros
from outstride.engine.codegen.tasks import read_arguments, take_tasks
from outstride.engine.codegen.transpose import transpose
from outstride.engine.planner.machine import INSTRUCTION_SETS
from outstride.engine.planner.recipe import Recipe
from outstride.engine.planner.tiles import Tile


def gradient_source(recipe: Recipe, tile: Tile) -> str:
    """The LLVM IR of a weight-gradient kernel; with out_unit "channel" y is contiguous along channels."""
    e = ELEMENTS[recipe.dtype]
    lanes = INSTRUCTION_SETS[recipe.instruction_set].lanes(e.accumulator_bytes)
    functions = [
        microkernel(tile, e, lanes, listed=True), *pack_functions(recipe, e, lanes, GRADIENT_INDEX),
        _task(recipe, tile, e, lanes), take_tasks(GRADIENT_INDEX),
    ]  # fmt: skip
    return module(functions, f"outstride gradient_{recipe.name}")


def _task(recipe: Recipe, tile: Tile, e: Element, lanes: int) -> Function:
    f = Function("task", [("block", PTR), ("scratch", PTR), ("number", I64)], internal=True)
    block, strip, number = f.parameters
    a = read_arguments(f, block, GRADIENT_INDEX)
    width = tile.vectors * lanes
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
        f.run("pack", block, source, strip, *box.numbers, channels)
        count = _terms(f, a, terms, box)
        _panel(f, recipe, width, e, lanes, a, y, panel, box, outputs)
        resume = f.word(f.compare("ne", index, begin))
        _tiles(f, tile, width, a, strip, panel, partial, terms, count, f.mul(channels, a["taps"]), resume)
    return f


def _terms(f: Function, a: dict[str, Value], terms: Value, box: Box) -> Value:
    """Strip offsets of the box's pixels in the order of summation; returns how many there are."""
    count = f.variable(I64, Value("0", I64))
    with f.loop(0, box.count[0]) as n, f.loop(0, box.count[1]) as d, f.loop(0, box.count[2]) as h:
        start = f.add(f.mul(n, a["image_pitch"]), f.add(f.mul(d, a["depth_pitch"]), f.mul(h, a["strip_w"])))
        done = f.get(count, I64)
        with f.loop(0, box.count[3]) as w:
            offset = f.i32(f.mul(f.add(start, w), a["pixel_pitch"]))
            f.store(offset, f.at(terms, f.add(done, w), "i32"), 4)
        f.set(count, f.i64(f.add(done, box.count[3])))
    return f.get(count, I64)


def _panel(
    f: Function, recipe: Recipe, width: int, e: Element, lanes: int, a: dict[str, Value], y: Value,
    panel: Value, box: Box, outputs: Operand,
) -> None:  # fmt: skip
    """The box of output gradients by pixel, a tile's width of outputs each; absent outputs are zeros."""
    with f.loop(0, box.count[0]) as n, f.loop(0, box.count[1]) as d, f.loop(0, box.count[2]) as h:
        row = f.add(f.mul(f.add(f.mul(n, box.count[1]), d), box.count[2]), h)
        target = f.at(panel, f.mul(f.mul(row, box.count[3]), width), e.accumulator)
        image = f.mul(f.add(box.start[0], n), a["y_stride_n"])
        place = f.add(image, f.mul(f.add(box.start[1], d), a["y_stride_d"]))
        place = f.add(place, f.mul(f.add(box.start[2], h), a["y_stride_h"]))
        line = f.at(y, f.add(place, f.mul(box.start[3], a["y_stride_w"])), e.storage)
        fill = {"channel": _panel_pixels, "width": _panel_squares, "any": _panel_elements}[recipe.out_unit]
        fill(f, width, e, lanes, a, line, target, box.count[3], outputs)


def _panel_pixels(
    f: Function, width: int, e: Element, lanes: int, a: dict[str, Value], line: Value, target: Value,
    pixels: Operand, outputs: Operand,
) -> None:  # fmt: skip
    """Outputs lie side by side already."""
    with f.loop(0, pixels) as w:
        pixel = f.at(target, f.mul(w, width), e.accumulator)
        zeros(f, e, lanes, pixel, 0, width)
        copy_row(f, e, lanes, f.at(line, f.mul(w, a["y_stride_w"]), e.storage), pixel, outputs)


def _panel_squares(
    f: Function, width: int, e: Element, lanes: int, a: dict[str, Value], line: Value, target: Value,
    pixels: Operand, outputs: Operand,
) -> None:  # fmt: skip
    """Pixels lie side by side: squares of pixels by outputs are transposed; what runs on is overwritten."""
    with f.loop(0, width, lanes) as o, f.loop(0, pixels, lanes) as w:
        rows = []
        for i in range(lanes):
            output = f.add(o, i)
            source = f.at(line, f.add(f.mul(output, a["y_stride_m"]), w), e.storage)
            count = f.select(f.compare("slt", output, outputs), f.sub(pixels, w), 0)
            inside = elements.lanes_within(f, 0, count, lanes)
            rows.append(elements.load_masked(f, e, source, lanes, inside))
        for j, column in enumerate(transpose(f, rows, lanes)):
            place = f.add(f.mul(f.add(w, j), width), o)
            f.store(column, f.at(target, place, e.accumulator), e.accumulator_bytes)


def _panel_elements(
    f: Function, width: int, e: Element, lanes: int, a: dict[str, Value], line: Value, target: Value,
    pixels: Operand, outputs: Operand,
) -> None:  # fmt: skip
    """Nothing lies side by side."""
    del lanes
    with f.loop(0, pixels) as w:
        pixel = f.at(target, f.mul(w, width), e.accumulator)
        source = f.at(line, f.mul(w, a["y_stride_w"]), e.storage)
        with f.loop(0, outputs) as o:
            item = elements.load(f, e, f.at(source, f.mul(o, a["y_stride_m"]), e.storage), 1)
            f.store(item, f.at(pixel, o, e.accumulator), e.accumulator_bytes)
        with f.loop(outputs, width) as o:
            f.store(elements.zero(e, 1), f.at(pixel, o, e.accumulator), e.accumulator_bytes)


def _tiles(
    f: Function, tile: Tile, width: int, a: dict[str, Value], strip: Value, panel: Value, partial: Value,
    terms: Value, count: Value, rows: Operand, resume: Value,
) -> None:  # fmt: skip
    """Every register tile of (channel, tap) rows; the last one repeats its last row."""
    listed = f.variable(f"[{2 * tile.rows} x i32]")
    null = Value("null", PTR)
    run = f.variable("[2 x i64]")
    f.store(Value("0", I64), run, 8)
    f.store(count, f.at(run, 1, I64), 8)
    with f.loop(0, rows, tile.rows) as start:
        with f.loop(0, tile.rows) as i:
            row = f.minimum(f.add(start, i), f.sub(rows, 1))
            channel, tap = f.div(row, a["taps"]), f.rem(row, a["taps"])
            offset = f.add(f.mul(channel, a["channel_pitch"]), f.load_i64(a["taps_at"], tap))
            f.store(f.i32(offset), f.at(listed, i, "i32"), 4)
            place = f.i32(f.mul(row, width))
            f.store(place, f.at(listed, f.add(i, tile.rows), "i32"), 4)
        # One block whose "taps" are the pixels, of one channel each.
        f.run(
            tile.name, strip, listed, panel, partial, 0, 1, terms, 1, count, run, 1, 0, null, 0, resume, null
        )  # fmt: skip
