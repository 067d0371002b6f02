"""Packing: copy a task's input into the strip, where padding is zeros, layout is one and every tap is an offset.

Strip order is [channel][residue plane][image][depth][height][width]: a strided convolution reads plane u % stride at
position u // stride, so that its vectors are contiguous too. With the pixel-major strip the channels come last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from outstride.codegen import elements
from outstride.codegen.elements import Element
from outstride.codegen.ir import Function, Operand, Value, vector_type
from outstride.planner.recipe import Recipe


RowFiller: TypeAlias = Callable[..., None]


@dataclass(frozen=True)
class Box:
    """A task's cells: where they start and how many there are, in images and along depth, height, width."""

    start: tuple[Operand, ...]
    count: tuple[Operand, ...]


def pack(f: Function, recipe: Recipe, e: Element, lanes: int, a: dict[str, Value], source: Value, strip: Value,
         box: Box, channels: Operand) -> None:  # fmt: skip
    """Emit the loops that fill `strip` with `channels` channels of the box and its surroundings."""
    whole_pixels = recipe.in_unit == "channel" and recipe.dataflow == "channels"
    fill = _channel_rows if whole_pixels else _width_rows
    with f.loop(0, 1 if whole_pixels else channels) as c:
        line = f.at(source, f.mul(c, a["x_stride_c"]), e.storage)
        rows = f.at(strip, f.mul(c, a["channel_pitch"]), e.accumulator)
        _planes(f, recipe, e, lanes, a, line, rows, box, channels, fill)


def _planes(f: Function, recipe: Recipe, e: Element, lanes: int, a: dict[str, Value], source: Value, strip: Value,
            box: Box, channels: Operand, fill: RowFiller) -> None:  # fmt: skip
    depth, height, width = (f.add(n, a[f"reach_{x}"]) for n, x in zip(box.count[1:], "dhw", strict=True))
    with f.loop(0, a["planes"]) as plane:
        residue = [f.load_i64(a["planes_at"], f.add(f.mul(plane, 3), i)) for i in range(3)]
        first = [
            f.add(f.mul(f.add(s, a[f"low_{x}"]), _step(recipe, a, x)), r)
            for s, x, r in zip(box.start[1:], "dhw", residue, strict=True)
        ]
        plane_start = f.mul(plane, a["plane_pitch"])
        with f.loop(0, box.count[0]) as n, f.loop(0, depth) as d, f.loop(0, height) as h:
            place = f.add(
                plane_start,
                f.add(f.mul(n, a["image_pitch"]), f.add(f.mul(d, a["depth_pitch"]), f.mul(h, a["strip_w"]))),
            )
            ud = f.add(first[0], f.mul(d, _step(recipe, a, "d")))
            uh = f.add(first[1], f.mul(h, _step(recipe, a, "h")))
            inside = f.emit(
                "i1",
                f"and i1 {f.compare('ult', ud, a['in_size_d']).name}, {f.compare('ult', uh, a['in_size_h']).name}",
            )
            origin = f.at(
                source,
                f.add(f.mul(n, a["x_stride_n"]), f.add(f.mul(ud, a["x_stride_d"]), f.mul(uh, a["x_stride_h"]))),
                e.storage,
            )
            low, high = _bounds(f, recipe, a, first[2], width)
            high = f.select(inside, high, low)
            fill(f, recipe, e, lanes, a, origin, strip, place, first[2], low, high, width, channels)


def _step(recipe: Recipe, a: dict[str, Value], axis: str) -> Operand:
    return recipe.in_step if axis == "w" and recipe.in_step else a[f"in_step_{axis}"]


def _bounds(f: Function, recipe: Recipe, a: dict[str, Value], first: Operand, width: Operand) -> tuple[Operand, Operand]:
    """The part [low, high) of a strip row that lies inside the input."""
    step = _step(recipe, a, "w")
    low = f.minimum(f.ceil_div(f.maximum(0, f.sub(0, first)), step), width)
    high = f.minimum(f.ceil_div(f.maximum(0, f.sub(a["in_size_w"], first)), step), width)
    return low, f.maximum(low, high)


def _width_rows(
    f: Function, recipe: Recipe, e: Element, lanes: int, a: dict[str, Value], origin: Value, strip: Value,
    place: Operand, first: Operand, low: Operand, high: Operand, width: Operand, channels: Operand,
) -> None:  # fmt: skip
    """A strip row of one channel, contiguous along the width."""
    step = _step(recipe, a, "w")
    row = f.at(strip, place, e.accumulator)
    line = f.at(origin, f.mul(f.add(first, f.mul(low, step)), a["x_stride_w"]), e.storage)
    zeros(f, e, lanes, row, 0, low)
    count = f.sub(high, low)
    body = f.at(row, low, e.accumulator)
    if recipe.in_unit == "width" and recipe.in_step == 1:
        copy_row(f, e, lanes, line, body, count)
    else:
        pitch = f.mul(a["x_stride_w"], step)
        with f.loop(0, count) as i:
            item = elements.load(f, e, f.at(line, f.mul(i, pitch), e.storage), 1)
            f.store(item, f.at(body, i, e.accumulator), e.accumulator_bytes)
    zeros(f, e, lanes, row, high, width)


def _channel_rows(
    f: Function, recipe: Recipe, e: Element, lanes: int, a: dict[str, Value], origin: Value, strip: Value,
    place: Operand, first: Operand, low: Operand, high: Operand, width: Operand, channels: Operand,
) -> None:  # fmt: skip
    """One pixel after the other, contiguous along the channels."""
    step = _step(recipe, a, "w")
    pitch = a["pixel_pitch"]
    with f.loop(0, width) as i:
        pixel = f.at(strip, f.mul(f.add(place, i), pitch), e.accumulator)
        inside = f.emit("i1", f"and i1 {f.compare('sge', i, low).name}, {f.compare('slt', i, high).name}")
        with f.when(inside):
            u = f.add(first, f.mul(i, step))
            copy_row(f, e, lanes, f.at(origin, f.mul(u, a["x_stride_w"]), e.storage), pixel, channels)
        outside = f.emit("i1", f"xor i1 {inside.name}, true")
        with f.when(outside):
            zeros(f, e, lanes, pixel, 0, channels)


def copy_row(f: Function, e: Element, lanes: int, source: Value, target: Value, count: Operand) -> None:
    """Copy `count` contiguous elements, widened; the last store may run on into the lanes behind, as zeros."""
    whole = f.mul(f.div(count, lanes), lanes)
    with f.loop(0, whole, lanes) as i:
        value = elements.load(f, e, f.at(source, i, e.storage), lanes)
        f.store(value, f.at(target, i, e.accumulator), e.accumulator_bytes)
    with f.when(f.compare("slt", whole, count)):
        value = elements.load_first(f, e, f.at(source, whole, e.storage), lanes, f.sub(count, whole))
        f.store(value, f.at(target, whole, e.accumulator), e.accumulator_bytes)


def zeros(f: Function, e: Element, lanes: int, row: Value, start: Operand, stop: Operand) -> None:
    """Zero row[start:stop]; may run on by less than a vector, which later rows overwrite."""
    vector = vector_type(lanes, e.accumulator)
    zero = Value("zeroinitializer" if lanes > 1 else "0.0", vector)
    with f.loop(start, stop, lanes) as i:
        f.store(zero, f.at(row, i, e.accumulator), e.accumulator_bytes)
