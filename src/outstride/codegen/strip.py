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
from outstride.codegen.ir import I64, PTR, Function, Operand, Value, vector_type
from outstride.codegen.tasks import read_arguments
from outstride.planner.recipe import Recipe


@dataclass(frozen=True)
class _Row:
    """A row of the strip: its source, its place, the input index of its first element, and how long it is."""

    source: Value
    place: Operand
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
    with f.loop(0, a["planes"]) as plane:
        rd, rh = (f.load_i64(a["planes_at"], f.add(f.mul(plane, 2), i)) for i in range(2))
        first_d = f.add(f.mul(f.add(box.start[1], a["low_d"]), a["in_step_d"]), rd)
        first_h = f.add(f.mul(f.add(box.start[2], a["low_h"]), a["in_step_h"]), rh)
        plane_start = f.mul(f.mul(plane, step), a["plane_pitch"])
        with f.loop(0, box.count[0]) as n, f.loop(0, depth) as d:
            ud = f.add(first_d, f.mul(d, a["in_step_d"]))
            image = f.add(plane_start, f.add(f.mul(n, a["image_pitch"]), f.mul(d, a["depth_pitch"])))
            sheet = f.at(source, f.add(f.mul(n, a["x_stride_n"]), f.mul(ud, a["x_stride_d"])), e.storage)
            real = f.compare("ult", ud, a["in_size_d"])
            with f.loop(0, height) as h:
                uh = f.add(first_h, f.mul(h, a["in_step_h"]))
                both = f.both(real, f.compare("ult", uh, a["in_size_h"]))
                line = f.at(sheet, f.mul(uh, a["x_stride_h"]), e.storage)
                row = _Row(line, f.add(image, f.mul(h, a["strip_w"])), low_w, width)
                with f.when(both):
                    _copy(f, recipe, e, lanes, a, row, strip, channels)
                with f.when(f.negate(both)):
                    _blank(f, e, lanes, a, row, strip, step, channels)


def _step(recipe: Recipe, a: dict[str, Value]) -> Operand:
    return recipe.in_step or a["in_step_w"]


def _blank(
    f: Function, e: Element, lanes: int, a: dict[str, Value], row: _Row, strip: Value, step: Operand,
    channels: Operand | None,
) -> None:  # fmt: skip
    """A row beyond the input: zeros in every plane of the width."""
    with f.loop(0, step) as residue:
        place = f.add(row.place, f.mul(residue, a["plane_pitch"]))
        if channels is None:
            zeros(f, e, lanes, f.at(strip, place, e.accumulator), 0, row.width)
        else:
            with f.loop(0, row.width) as i:
                pixel = f.mul(f.add(place, i), a["pixel_pitch"])
                zeros(f, e, lanes, f.at(strip, pixel, e.accumulator), 0, channels)


def _copy(
    f: Function, recipe: Recipe, e: Element, lanes: int, a: dict[str, Value], row: _Row, strip: Value,
    channels: Operand | None,
) -> None:  # fmt: skip
    """A row of the input, each residue of the width into its plane."""
    if channels is None and recipe.in_unit == "width" and recipe.in_step:
        _split_vectors(f, recipe, e, lanes, a, row, strip)
        return
    step = _step(recipe, a)
    with f.loop(0, step) as residue:
        place = f.add(row.place, f.mul(residue, a["plane_pitch"]))
        start = f.add(row.first, residue)
        with f.loop(0, row.width) as i:
            u = f.add(start, f.mul(i, step))
            pixel = f.at(row.source, f.mul(u, a["x_stride_w"]), e.storage)
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


def _inside(
    f: Function, e: Element, lanes: int, a: dict[str, Value], pointer: Value, u: Operand, j: int
) -> Value:
    """Vector j from `pointer`, which is input index u: zero in the lanes beyond the input."""
    inside = elements.lanes_within(f, f.add(u, j * lanes), a["in_size_w"], lanes)
    return elements.load_masked(f, e, f.at(pointer, j * lanes, e.storage), lanes, inside)


def _split_vectors(
    f: Function, recipe: Recipe, e: Element, lanes: int, a: dict[str, Value], row: _Row, strip: Value
) -> None:
    """Contiguous input, its vectors dealt out to `step` planes; one that leaves the input is masked."""
    step, vector = recipe.in_step, vector_type(lanes, e.accumulator)
    parts = [f.variable(vector) for _ in range(step)]
    with f.loop(0, row.width, lanes) as i:
        u = f.add(row.first, f.mul(i, step))
        pointer = f.at(row.source, u, e.storage)
        # The same row of the next channel begins far away, where no prefetcher of the machine expects it.
        for j in range(step):
            f.prefetch(f.at(pointer, f.add(a["x_stride_c"], j * lanes), e.storage))
        if recipe.instruction_set == "avx512":  # a masked load costs what a plain one does
            loaded = [_inside(f, e, lanes, a, pointer, u, j) for j in range(step)]
        else:
            room = f.sub(a["in_size_w"], step * lanes)
            whole = f.both(f.compare("sge", u, 0), f.compare("sle", u, room))
            with f.when(whole):
                for j, part in enumerate(parts):
                    f.set(part, elements.load(f, e, f.at(pointer, j * lanes, e.storage), lanes))
            with f.when(f.negate(whole)):
                for j, part in enumerate(parts):
                    f.set(part, _inside(f, e, lanes, a, pointer, u, j))
            loaded = [f.get(part, vector) for part in parts]
        for residue in range(step):
            place = f.add(f.add(row.place, f.mul(a["plane_pitch"], residue)), i)
            f.store(_deal(f, loaded, lanes, residue), f.at(strip, place, e.accumulator), e.accumulator_bytes)


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
