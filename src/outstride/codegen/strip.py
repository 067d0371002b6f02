"""Packing: copy a task's input into the strip: padding is zeros, layout is one and every tap is an offset.

Strip order is [channel][residue plane][image][depth][height][width]: a strided convolution reads
plane u % stride at position u // stride, so that its vectors are contiguous too. With the
pixel-major strip the channels come last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from outstride.codegen import elements
from outstride.codegen.box import BOX, Box
from outstride.codegen.elements import Element
from outstride.codegen.ir import I64, PTR, Function, Operand, Value
from outstride.codegen.tasks import read_arguments
from outstride.planner.recipe import Recipe

#: Rows that are copied side by side, a vector of each at a time: what a vector's place decides, which lanes
#: lie within the input, is found out once for all of them. They share the sets of a cache, so they are few.
ROWS_TOGETHER = 8


@dataclass(frozen=True)
class _Rows:
    """Rows of a plane one behind the other, in the input and in the strip.

    `first` is the input index of the elements that a row begins with, `width` its length.
    """

    source: Value
    source_pitch: Operand
    place: Operand
    place_pitch: Operand
    first: Operand
    width: Operand


def pack_function(recipe: Recipe, e: Element, lanes: int, index: Mapping[str, int]) -> Function:
    """`pack(block, source, strip, box, channels)`: fill the strip with the box and its surroundings."""
    head = [("block", PTR), ("source", PTR), ("strip", PTR)]
    f = Function("pack", [*head, *BOX, ("channels", I64)], internal=True)
    block, source, strip, *numbers, channels = f.parameters
    a = read_arguments(f, block, index)
    box = Box.of(numbers)
    if recipe.in_unit == "channel":
        pixel_major = f.compare("ne", a["pixel_pitch"], 1)
        with f.when(pixel_major):
            _rows(f, recipe, e, lanes, a, source, strip, box, channels)
        channels = f.select(pixel_major, 0, channels)
    with f.loop(0, channels) as c:
        line = f.at(source, f.mul(c, a["x_stride_c"]), e.storage)
        rows = f.at(strip, f.mul(c, a["channel_pitch"]), e.accumulator)
        _rows(f, recipe, e, lanes, a, line, rows, box, None)
    return f


def _rows(
    f: Function, recipe: Recipe, e: Element, lanes: int, a: dict[str, Value], source: Value, strip: Value,
    box: Box, channels: Operand | None,
) -> None:  # fmt: skip
    """Every row of one channel, or of all of them where the strip is pixel-major."""
    depth, height, width = (f.add(n, a[f"reach_{x}"]) for n, x in zip(box.count[1:], "dhw", strict=True))
    step = _step(recipe, a)
    low_w = f.mul(f.add(box.start[3], a["low_w"]), step)
    pitch = f.mul(a["in_step_h"], a["x_stride_h"])
    with f.loop(0, a["planes"]) as plane:
        rd, rh = (f.load_i64(a["planes_at"], f.add(f.mul(plane, 2), i)) for i in range(2))
        first_d = f.add(f.mul(f.add(box.start[1], a["low_d"]), a["in_step_d"]), rd)
        first_h = f.add(f.mul(f.add(box.start[2], a["low_h"]), a["in_step_h"]), rh)
        low, high = _within(f, first_h, a["in_step_h"], height, a["in_size_h"])
        plane_start = f.mul(f.mul(plane, step), a["plane_pitch"])
        top = f.mul(first_h, a["x_stride_h"])
        with f.loop(0, box.count[0]) as n, f.loop(0, depth) as d:
            ud = f.add(first_d, f.mul(d, a["in_step_d"]))
            image = f.add(plane_start, f.add(f.mul(n, a["image_pitch"]), f.mul(d, a["depth_pitch"])))
            sheet = f.add(f.add(f.mul(n, a["x_stride_n"]), f.mul(ud, a["x_stride_d"])), top)
            rows = _Rows(f.at(source, sheet, e.storage), pitch, image, a["strip_w"], low_w, width)
            exists = f.compare("ult", ud, a["in_size_d"])
            begin, end = f.select(exists, low, 0), f.select(exists, high, 0)
            # What a row writes beyond its end lies in the next, which is written after it.
            _blank(f, e, lanes, a, rows, strip, step, channels, 0, begin)
            _copy(f, recipe, e, lanes, a, rows, strip, channels, begin, end)
            _blank(f, e, lanes, a, rows, strip, step, channels, end, height)


def _within(
    f: Function, first: Operand, step: Operand, count: Operand, size: Operand
) -> tuple[Value, Value]:  # fmt: skip
    """The numbers i in [low, high), below `count`, for which 0 <= first + i * step < size."""
    low, high = f.variable(I64), f.variable(I64)
    f.set(low, f.i64(0))
    f.set(high, f.i64(count))
    last = f.add(first, f.mul(f.sub(count, 1), step))
    with f.when(f.compare("slt", first, 0)):
        f.set(low, f.i64(f.minimum(count, f.ceil_div(f.sub(0, first), step))))
    with f.when(f.compare("sge", last, size)):
        end = f.ceil_div(f.maximum(0, f.sub(size, first)), step)
        f.set(high, f.i64(f.maximum(f.get(low, I64), f.minimum(count, end))))
    return f.get(low, I64), f.get(high, I64)


def _step(recipe: Recipe, a: dict[str, Value]) -> Operand:
    return recipe.in_step or a["in_step_w"]


def _blank(
    f: Function, e: Element, lanes: int, a: dict[str, Value], rows: _Rows, strip: Value, step: Operand,
    channels: Operand | None, begin: Operand, end: Operand,
) -> None:  # fmt: skip
    """Rows [begin, end), which lie beyond the input: zeros in every plane of the width."""
    with f.when(f.compare("slt", begin, end)), f.loop(0, step) as residue:
        place = f.add(rows.place, f.mul(residue, a["plane_pitch"]))
        start = f.add(place, f.mul(begin, rows.place_pitch))
        stop = f.add(f.add(place, f.mul(f.sub(end, 1), rows.place_pitch)), rows.width)
        if channels is None:
            zeros(f, e, lanes, f.at(strip, start, e.accumulator), 0, f.sub(stop, start))
        else:
            with f.loop(start, stop) as i:
                pixel = f.mul(i, a["pixel_pitch"])
                zeros(f, e, lanes, f.at(strip, pixel, e.accumulator), 0, channels)


def _copy(
    f: Function, recipe: Recipe, e: Element, lanes: int, a: dict[str, Value], rows: _Rows, strip: Value,
    channels: Operand | None, begin: Operand, end: Operand,
) -> None:  # fmt: skip
    """Rows [begin, end) of the input, each residue of the width into its plane."""
    if channels is None and recipe.in_unit == "width" and recipe.in_step:
        _split_vectors(f, recipe, e, lanes, a, rows, strip, begin, end)
        return
    step = _step(recipe, a)
    with f.loop(begin, end) as h, f.loop(0, step) as residue:
        line = f.at(rows.source, f.mul(h, rows.source_pitch), e.storage)
        place = f.add(f.add(rows.place, f.mul(h, rows.place_pitch)), f.mul(residue, a["plane_pitch"]))
        start = f.add(rows.first, residue)
        with f.loop(0, rows.width) as i:
            u = f.add(start, f.mul(i, step))
            pixel = f.at(line, f.mul(u, a["x_stride_w"]), e.storage)
            inside = f.compare("ult", u, a["in_size_w"])
            if channels is None:
                target = f.at(strip, f.add(place, i), e.accumulator)
                f.store(elements.zero(e, 1), target, e.accumulator_bytes)
                with f.when(inside):
                    f.store(elements.load(f, e, pixel, 1), target, e.accumulator_bytes)
            else:
                target = f.at(strip, f.mul(f.add(place, i), a["pixel_pitch"]), e.accumulator)
                with f.when(inside):
                    copy_row(f, e, lanes, pixel, target, channels)
                with f.when(f.negate(inside)):
                    zeros(f, e, lanes, target, 0, channels)


def _split_vectors(
    f: Function, recipe: Recipe, e: Element, lanes: int, a: dict[str, Value], rows: _Rows, strip: Value,
    begin: Operand, end: Operand,
) -> None:  # fmt: skip
    """Contiguous input, its vectors dealt out to `step` planes; lanes beyond the input are masked.

    The vectors of a row come from the right, so that what the last one writes beyond the row is overwritten.
    """
    step = recipe.in_step
    across = f.ceil_div(rows.width, lanes)
    with f.loop(begin, end, ROWS_TOGETHER) as first, f.loop(0, across) as k:
        last = f.minimum(f.add(first, ROWS_TOGETHER), end)
        i = f.mul(f.sub(f.sub(across, 1), k), lanes)
        u = f.add(rows.first, f.mul(i, step))
        room = f.sub(a["in_size_w"], step * lanes)
        whole = f.both(f.compare("sge", u, 0), f.compare("sle", u, room))
        with f.when(whole):
            _vectors_of_rows(f, recipe, e, lanes, a, rows, strip, first, last, i, None)
        with f.when(f.negate(whole)):
            masks = [
                elements.lanes_within(f, f.add(u, j * lanes), a["in_size_w"], lanes) for j in range(step)
            ]
            _vectors_of_rows(f, recipe, e, lanes, a, rows, strip, first, last, i, masks)


def _vectors_of_rows(
    f: Function, recipe: Recipe, e: Element, lanes: int, a: dict[str, Value], rows: _Rows, strip: Value,
    first: Operand, last: Operand, i: Operand, masks: list[Value] | None,
) -> None:  # fmt: skip
    """Vector i / lanes of each plane, of the rows [first, last)."""
    step = recipe.in_step
    source = f.at(rows.source, f.add(rows.first, f.mul(i, step)), e.storage)
    place = f.add(rows.place, i)
    targets = [f.at(strip, f.add(place, f.mul(a["plane_pitch"], p)), e.accumulator) for p in range(step)]
    with f.loop(first, last) as h:
        pointer = f.at(source, f.mul(h, rows.source_pitch), e.storage)
        parts = [f.at(pointer, j * lanes, e.storage) for j in range(step)]
        # The same row of the next channel begins far away, where no prefetcher of the machine expects it.
        for part in parts:
            f.prefetch(f.at(part, a["x_stride_c"], e.storage))
        if masks is None:
            loaded = [elements.load(f, e, part, lanes) for part in parts]
        else:
            loaded = [
                elements.load_masked(f, e, part, lanes, m) for part, m in zip(parts, masks, strict=True)
            ]
        along = f.mul(h, rows.place_pitch)
        for residue, target in enumerate(targets):
            value = _deal(f, loaded, lanes, residue)
            f.store(value, f.at(target, along, e.accumulator), e.accumulator_bytes)


def _deal(f: Function, parts: list[Value], lanes: int, residue: int) -> Value:
    """Elements residue, residue + step, residue + 2 * step, ... of the parts laid end to end."""
    step = len(parts)
    if step == 1:
        return parts[0]
    where = [divmod(lane * step + residue, lanes) for lane in range(lanes)]
    dealt = elements.pick(f, None, parts[0], 0, where)
    for p in range(1, step):
        dealt = elements.pick(f, dealt, parts[p], p, where)
    return dealt


def copy_row(f: Function, e: Element, lanes: int, source: Value, target: Value, count: Operand) -> None:
    """Copy `count` contiguous elements, widened; the last store may put zeros into the lanes behind."""
    whole = f.mul(f.div(count, lanes), lanes)
    with f.loop(0, whole, lanes) as i:
        value = elements.load(f, e, f.at(source, i, e.storage), lanes)
        f.store(value, f.at(target, i, e.accumulator), e.accumulator_bytes)
    with f.when(f.compare("slt", whole, count)):
        value = elements.load_first(f, e, f.at(source, whole, e.storage), lanes, f.sub(count, whole))
        f.store(value, f.at(target, whole, e.accumulator), e.accumulator_bytes)


def zeros(f: Function, e: Element, lanes: int, row: Value, start: Operand, stop: Operand) -> None:
    """Zero row[start:stop]; may run on by less than a vector, which later rows overwrite."""
    with f.loop(start, stop, lanes) as i:
        f.store(elements.zero(e, lanes), f.at(row, i, e.accumulator), e.accumulator_bytes)
