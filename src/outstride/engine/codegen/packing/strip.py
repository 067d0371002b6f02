"""Packing: copy a task's input into the strip: padding is zeros, layout is one and every tap is an offset.

Strip order is [channel][residue plane][image][depth][height][width]: a strided convolution reads
plane u % stride at position u // stride, so that its vectors are contiguous too. With the
pixel-major strip the channels come last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from outstride.engine.codegen import elements
from outstride.engine.codegen.box import BOX, Box
from outstride.engine.codegen.context import Context, Kernel, Vectors
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value
from outstride.engine.codegen.steps import prologue

#: Rows that are copied side by side, a vector of each at a time: what a vector's place decides, which lanes
#: lie within the input, is found out once for all of them. They share the sets of a cache, so they are few.
ROWS_TOGETHER = 16
#: Channels likewise. With all of them side by side packing was faster still and all that follows slower by
#: 3 %: tiles read one channel's strip after the other, and so should the caches have seen them.
CHANNELS_TOGETHER = 4


class _Row(NamedTuple):
    """A row of the strip: the input index that it begins with, its length in each plane of the width.

    It is written in so many vectors from element `left` on, of which [low, high) lie within the input. Where
    it is `trimmed` (1, else 0) the input begins at `left`, with zeros before it and from `right` on.
    """

    first: Operand
    width: Operand
    left: Operand
    right: Operand
    trimmed: Operand
    vectors: Operand
    low: Operand
    high: Operand

    @classmethod
    def of(cls, k: Context, box: Box) -> _Row:
        """The rows of a box: those whose input fits into fewer vectors without its borders are trimmed."""
        f, a, lanes, step = k.f, k.a, k.lanes, _step(k)
        first = f.mul(f.add(box.start[3], a["low_w"]), step)
        width = f.add(box.count[3], a["reach_w"])
        left = f.div(f.maximum(0, f.sub(0, first)), step)
        right = f.ceil_div(f.maximum(0, f.sub(a["in_size_w"], first)), step)
        right = f.maximum(left, f.minimum(width, right))
        fewer = f.maximum(1, f.ceil_div(f.sub(right, left), lanes))
        vectors = f.ceil_div(width, lanes)
        # A vector of zeros is all that is written on either side.
        narrow = f.both(f.compare("sle", left, lanes), f.compare("sle", f.sub(width, right), lanes))
        trimmed = f.both(narrow, f.compare("slt", fewer, vectors))
        left, vectors = f.select(trimmed, left, 0), f.select(trimmed, fewer, vectors)
        # The last vector counts as one of those at the border: what it writes beyond the row must come early.
        start, taken = f.add(first, f.mul(left, step)), f.mul(step, lanes)
        low = f.minimum(vectors, f.ceil_div(f.maximum(0, f.sub(0, start)), taken))
        high = f.minimum(f.sub(vectors, 1), f.div(f.maximum(0, f.sub(a["in_size_w"], start)), taken))
        return cls(first, width, left, right, f.word(trimmed), vectors, low, f.maximum(low, high))

    def keep(self, f: Function) -> Value:
        """A place in memory that holds it, for a function that is called."""
        numbers = [f.i64(n) for n in self]
        place = f.variable(f"[{len(numbers)} x i64]")
        for i, number in enumerate(numbers):
            f.store(number, f.at(place, i, I64), 8)
        return place

    @classmethod
    def at(cls, f: Function, place: Value) -> _Row:
        """The row that a place in memory holds."""
        return cls(*(f.load_i64(place, i) for i in range(len(cls._fields))))


def pack_functions(kernel: Kernel) -> list[Function]:
    """The functions that fill a strip, of which others call `pack`."""
    return [_blank(kernel), _copy(kernel), _pack(kernel)]


def _pack(kernel: Kernel) -> Function:
    """`pack(block, source, strip, box, channels)`: fill the strip with the box and its surroundings.

    Every residue plane, image and depth has rows of the input, and zeros above and below them. What a row
    writes beyond its end lies in the next, which is written after it.
    """
    k = kernel.function("pack", ("source", PTR), ("strip", PTR), *BOX, ("channels", I64), rare=True)
    f, e, a, block = k.f, k.e, k.a, k.block
    source, strip, *numbers, channels = k.parameters
    box = Box.of(numbers)
    depth, height = (f.add(n, a[f"reach_{x}"]) for n, x in zip(box.count[1:3], "dh", strict=True))
    step = _step(k)
    row = _Row.of(k, box).keep(f)
    together = f.compare("ne", a["pixel_pitch"], 1)
    with (
        f.loop(0, f.select(together, 1, channels), CHANNELS_TOGETHER) as c,
        f.loop(0, a["planes"]) as plane,
    ):
        here = f.select(together, channels, f.minimum(CHANNELS_TOGETHER, f.sub(channels, c)))
        rd, before_d, behind_d, rh, before_h, behind_h = (
            f.load_i64(a["planes_at"], f.add(f.mul(plane, 6), i)) for i in range(6)
        )
        first_d = f.add(f.mul(f.add(box.start[1], a["low_d"]), a["in_step_d"]), rd)
        first_h = f.add(f.mul(f.add(box.start[2], a["low_h"]), a["in_step_h"]), rh)
        last = f.sub(height, behind_h)
        low, high = part_within(f, first_h, a["in_step_h"], before_h, last, a["in_size_h"])
        top = f.add(f.mul(first_h, a["x_stride_h"]), f.mul(c, a["x_stride_c"]))
        plane_start = f.add(f.mul(f.mul(plane, step), a["plane_pitch"]), f.mul(c, a["channel_pitch"]))
        with f.loop(0, box.count[0]) as n, f.loop(before_d, f.sub(depth, behind_d)) as d:
            ud = f.add(first_d, f.mul(d, a["in_step_d"]))
            sheet = f.add(f.add(f.mul(n, a["x_stride_n"]), f.mul(ud, a["x_stride_d"])), top)
            image = f.add(plane_start, f.add(f.mul(n, a["image_pitch"]), f.mul(d, a["depth_pitch"])))
            rows = f.at(source, sheet, e.storage)
            target = f.at(strip, f.mul(image, a["pixel_pitch"]), e.accumulator)
            exists = f.compare("ult", ud, a["in_size_d"])
            begin, end = f.select(exists, low, before_h), f.select(exists, high, before_h)
            with f.when(f.compare("slt", before_h, begin)):
                f.run("blank", block, row, target, here, before_h, begin)
            f.run("copy", block, row, rows, target, here, begin, end)
            with f.when(f.compare("slt", end, last)):
                f.run("blank", block, row, target, here, end, last)
    return f


def part_within(
    f: Function, first: Operand, step: Operand, begin: Operand, end: Operand, size: Operand
) -> tuple[Value, Value]:  # fmt: skip
    """The part [low, high) of the numbers i from `begin` to `end` for which 0 <= first + i * step < size."""
    low, high = f.variable(I64), f.variable(I64)
    f.set(low, f.i64(begin))
    f.set(high, f.i64(end))
    with f.when(f.compare("slt", f.add(first, f.mul(begin, step)), 0)):
        f.set(low, f.i64(f.minimum(end, f.ceil_div(f.sub(0, first), step))))
    with f.when(f.compare("sge", f.add(first, f.mul(f.sub(end, 1), step)), size)):
        beyond = f.ceil_div(f.maximum(0, f.sub(size, first)), step)
        f.set(high, f.i64(f.maximum(f.get(low, I64), f.minimum(end, beyond))))
    return f.get(low, I64), f.get(high, I64)


def _step(k: Context) -> Operand:
    """The input's step along the width from cell to cell."""
    return k.recipe.in_step or k.a["in_step_w"]


def _blank(kernel: Kernel) -> Function:
    """`blank(block, row, target, channels, begin, end)`: zeros in the rows [begin, end) of every plane."""
    k = kernel.function(
        "blank", ("row", PTR), ("target", PTR), ("channels", I64), ("begin", I64), ("end", I64)
    )
    f, e, a = k.f, k.e, k.a
    kept, target, channels, begin, end = k.parameters
    row = _Row.at(f, kept)
    rows = f.add(f.mul(f.sub(f.sub(end, begin), 1), a["strip_w"]), row.width)
    start = f.mul(begin, a["strip_w"])
    with f.loop(0, _step(k)) as residue:
        plane = f.add(start, f.mul(residue, a["plane_pitch"]))
        if k.recipe.in_unit == "channel":
            with f.when(f.compare("ne", a["pixel_pitch"], 1)), f.loop(0, rows) as i:
                pixel = f.at(target, f.mul(f.add(plane, i), a["pixel_pitch"]), e.accumulator)
                zeros(k, pixel, 0, channels)
            channels_apart = f.select(f.compare("ne", a["pixel_pitch"], 1), 0, channels)
        else:
            channels_apart = channels
        with f.loop(0, channels_apart) as c:
            first = f.add(plane, f.mul(c, a["channel_pitch"]))
            zeros(k, f.at(target, first, e.accumulator), 0, rows)
    return f


def _copy(kernel: Kernel) -> Function:
    """`copy(block, row, source, target, channels, begin, end)`: rows [begin, end) of the input, dealt out."""
    k = kernel.function(
        "copy",
        ("row", PTR),
        ("source", PTR),
        ("target", PTR),
        ("channels", I64),
        ("begin", I64),
        ("end", I64),
    )
    f, a, recipe = k.f, k.a, k.recipe
    kept, source, target, channels, begin, end = k.parameters
    row = _Row.at(f, kept)
    rows = _Rows(row, source, target, channels, begin, end)
    if recipe.in_unit == "width" and recipe.in_step:
        _copy_vectors(k, rows)
    elif recipe.in_unit == "channel":
        together = f.compare("ne", a["pixel_pitch"], 1)
        with f.when(together):
            _copy_elements(k, rows, together=True)
        with f.when(f.negate(together)):
            _copy_elements(k, rows, together=False)
    else:
        _copy_elements(k, rows, together=False)
    return f


@dataclass(frozen=True)
class _Rows:
    """Rows [begin, end) of some channels: row 0 of the first one in the input and in the strip."""

    row: _Row
    source: Value
    target: Value
    channels: Operand
    begin: Operand
    end: Operand


def _copy_elements(k: Context, rows: _Rows, *, together: bool) -> None:
    """Element by element; all channels of each where they lie `together` in the strip."""
    f, e, a = k.f, k.e, k.a
    step, row = _step(k), rows.row
    with (
        f.loop(0, 1 if together else rows.channels) as c,
        f.loop(rows.begin, rows.end) as h,
        f.loop(0, step) as residue,
    ):
        along = f.mul(h, f.mul(a["in_step_h"], a["x_stride_h"]))
        line = f.at(rows.source, f.add(f.mul(c, a["x_stride_c"]), along), e.storage)
        place = f.add(f.mul(h, a["strip_w"]), f.mul(residue, a["plane_pitch"]))
        with f.loop(0, row.width) as i:
            u = f.add(f.add(row.first, residue), f.mul(i, step))
            pixel = f.at(line, f.mul(u, a["x_stride_w"]), e.storage)
            inside = f.compare("ult", u, a["in_size_w"])
            if together:
                target = f.at(rows.target, f.mul(f.add(place, i), a["pixel_pitch"]), e.accumulator)
                with f.when(inside):
                    copy_row(k, pixel, target, rows.channels, partial(prologue.taken, k, lanes=k.lanes))
                with f.when(f.negate(inside)):
                    zeros(k, target, 0, rows.channels)
            else:
                own = f.add(f.mul(c, a["channel_pitch"]), f.add(place, i))
                target = f.at(rows.target, own, e.accumulator)
                f.store(elements.zero(e, 1), target, e.accumulator_bytes)
                with f.when(inside):
                    value = prologue.taken(k, elements.load(f, e, pixel, 1), 1)
                    f.store(value, target, e.accumulator_bytes)


def _copy_vectors(k: Context, rows: _Rows) -> None:
    """Contiguous input, its vectors dealt out to a plane for each residue; lanes beyond the input are masked.

    Vectors at the border come first, the last of a row before all others: what it writes beyond its row is
    the beginning of the next. Their masks are made once for all channels.
    """
    f, e, a, lanes, row = k.f, k.e, k.a, k.lanes, rows.row
    step = k.recipe.in_step
    behind = f.sub(row.vectors, row.high)
    some = f.compare("slt", row.low, row.high)
    with f.loop(rows.begin, rows.end, ROWS_TOGETHER) as first:
        last = f.minimum(f.add(first, ROWS_TOGETHER), rows.end)
        with f.loop(0, f.add(behind, row.low)) as turn:
            from_left = f.sub(f.add(behind, f.sub(row.low, 1)), turn)
            number = f.select(f.compare("slt", turn, behind), f.sub(f.sub(row.vectors, 1), turn), from_left)
            i = f.add(row.left, f.mul(number, lanes))
            u = f.add(row.first, f.mul(i, step))
            masks = [
                elements.lanes_within(f, f.add(u, j * lanes), a["in_size_w"], lanes) for j in range(step)
            ]
            around = f.both(f.compare("ne", row.trimmed, 0), f.compare("eq", turn, 0))
            with f.loop(0, rows.channels) as c, f.loop(first, last) as h:
                with f.when(around):
                    for plane in _planes(k, rows, c, h):
                        for start in (0, row.right):
                            place = f.at(plane, start, e.accumulator)
                            f.store(elements.zero(e, lanes), place, e.accumulator_bytes)
                _copy_vector(k, rows, (c, h, i), masks)
        with (
            f.when(some),
            f.loop(0, rows.channels) as c,
            f.loop(first, last) as h,
            f.loop(row.low, row.high) as number,
        ):
            i = f.add(row.left, f.mul(number, lanes))
            _copy_vector(k, rows, (c, h, i), None)


def _planes(k: Context, rows: _Rows, c: Operand, h: Operand) -> list[Value]:
    """Where row h of channel c begins in each plane of the width."""
    f, a = k.f, k.a
    place = f.add(f.mul(c, a["channel_pitch"]), f.mul(h, a["strip_w"]))
    steps = (f.mul(a["plane_pitch"], p) for p in range(k.recipe.in_step))
    return [f.at(rows.target, f.add(place, step), k.e.accumulator) for step in steps]


def _copy_vector(
    k: Context, rows: _Rows, start: tuple[Operand, Operand, Operand], masks: list[Value] | None
) -> None:  # fmt: skip
    """The elements from (channel, row, place) on that make a vector in each plane."""
    f, e, a, lanes, step = k.f, k.e, k.a, k.lanes, k.recipe.in_step
    c, h, i = start
    along = f.mul(h, f.mul(a["in_step_h"], a["x_stride_h"]))
    u = f.add(rows.row.first, f.mul(i, step))
    pointer = f.at(rows.source, f.add(f.add(f.mul(c, a["x_stride_c"]), along), u), e.storage)
    parts = [f.at(pointer, j * lanes, e.storage) for j in range(step)]
    # The same row of the next channel begins far away, where no prefetcher of the machine expects it.
    for part in parts:
        f.prefetch(f.at(part, a["x_stride_c"], e.storage))
    if masks is None:
        read = [elements.load(f, e, part, lanes) for part in parts]
    else:
        pairs = zip(parts, masks, strict=True)
        read = [elements.load_masked(f, e, part, lanes, inside) for part, inside in pairs]
    loaded = [prologue.taken(k, value, lanes) for value in read]
    for residue, plane in enumerate(_planes(k, rows, c, h)):
        value = elements.deal(f, loaded, lanes, residue)
        f.store(value, f.at(plane, i, e.accumulator), e.accumulator_bytes)


def copy_row(
    k: Vectors, source: Value, target: Value, count: Operand, change: Callable[[Value], Value] | None = None
) -> None:  # fmt: skip
    """Copy `count` contiguous elements, widened, and changed; the last store may put zeros into lanes behind.

    Where they are changed, 0 stays 0.
    """
    f, e, lanes = k.f, k.e, k.lanes
    whole = f.mul(f.div(count, lanes), lanes)
    with f.loop(0, whole, lanes) as i:
        value = elements.load(f, e, f.at(source, i, e.storage), lanes)
        value = value if change is None else change(value)
        f.store(value, f.at(target, i, e.accumulator), e.accumulator_bytes)
    with f.when(f.compare("slt", whole, count)):
        value = elements.load_first(f, e, f.at(source, whole, e.storage), lanes, f.sub(count, whole))
        value = value if change is None else change(value)
        f.store(value, f.at(target, whole, e.accumulator), e.accumulator_bytes)


def zeros(k: Vectors, row: Value, start: Operand, stop: Operand) -> None:
    """Zero row[start:stop]; may run on by less than a vector, which later rows overwrite."""
    f, e, lanes = k.f, k.e, k.lanes
    with f.loop(start, stop, lanes) as i:
        f.store(elements.zero(e, lanes), f.at(row, i, e.accumulator), e.accumulator_bytes)
