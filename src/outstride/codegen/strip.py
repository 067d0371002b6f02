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
ROWS_TOGETHER = 16
#: Channels likewise. With all of them side by side packing was faster still and all that follows slower by
#: 3 %: tiles read one channel's strip after the other, and so should the caches have seen them.
CHANNELS_TOGETHER = 4


@dataclass(frozen=True)
class _Row:
    """A row of the strip: the input index that it begins with, its length in each plane of the width.

    It is written in so many vectors from element `left` on, of which [low, high) lie within the input. Where
    it is `trimmed` it is the input that begins at `left`, with zeros before it and from `right` on.
    """

    first: Operand
    width: Operand
    left: Operand
    right: Operand
    trimmed: Value
    vectors: Operand
    low: Operand
    high: Operand


def _row(f: Function, step: Operand, lanes: int, a: dict[str, Value], box: Box) -> _Row:
    """The rows of a box: those whose input fits into fewer vectors without its borders are trimmed."""
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
    return _Row(first, width, left, right, trimmed, vectors, low, f.maximum(low, high))


@dataclass(frozen=True)
class _Rows:
    """Rows one behind the other, in the input and in the strip: where the first lies, and how far apart.

    They are of the first of some channels, which where `together` lie side by side in the strip.
    """

    row: _Row
    source: Value
    source_pitch: Operand
    place: Operand
    place_pitch: Operand
    channels: Operand
    together: bool


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
            _planes(f, recipe, e, lanes, a, source, strip, box, channels, together=True)
        with f.when(f.negate(pixel_major)):
            _planes(f, recipe, e, lanes, a, source, strip, box, channels, together=False)
    else:
        _planes(f, recipe, e, lanes, a, source, strip, box, channels, together=False)
    return f


def _planes(
    f: Function, recipe: Recipe, e: Element, lanes: int, a: dict[str, Value], source: Value, strip: Value,
    box: Box, channels: Operand, *, together: bool,
) -> None:  # fmt: skip
    """Every residue plane, image and depth: rows of the input, and zeros above and below them.

    What a row writes beyond its end lies in the next, which is written after it.
    """
    depth, height = (f.add(n, a[f"reach_{x}"]) for n, x in zip(box.count[1:3], "dh", strict=True))
    step = _step(recipe, a)
    row = _row(f, step, lanes, a, box)
    pitch = f.mul(a["in_step_h"], a["x_stride_h"])
    groups = f.loop(0, 1 if together else channels, CHANNELS_TOGETHER)
    with groups as c, f.loop(0, a["planes"]) as plane:
        here = channels if together else f.minimum(CHANNELS_TOGETHER, f.sub(channels, c))
        rd, before_d, behind_d, rh, before_h, behind_h = (
            f.load_i64(a["planes_at"], f.add(f.mul(plane, 6), i)) for i in range(6)
        )
        first_d = f.add(f.mul(f.add(box.start[1], a["low_d"]), a["in_step_d"]), rd)
        first_h = f.add(f.mul(f.add(box.start[2], a["low_h"]), a["in_step_h"]), rh)
        last = f.sub(height, behind_h)
        low, high = _within(f, first_h, a["in_step_h"], before_h, last, a["in_size_h"])
        plane_start = f.mul(f.mul(plane, step), a["plane_pitch"])
        top = f.mul(first_h, a["x_stride_h"])
        with f.loop(0, box.count[0]) as n, f.loop(before_d, f.sub(depth, behind_d)) as d:
            ud = f.add(first_d, f.mul(d, a["in_step_d"]))
            image = f.add(plane_start, f.add(f.mul(n, a["image_pitch"]), f.mul(d, a["depth_pitch"])))
            sheet = f.add(f.add(f.mul(n, a["x_stride_n"]), f.mul(ud, a["x_stride_d"])), top)
            origin = f.at(source, f.add(sheet, f.mul(c, a["x_stride_c"])), e.storage)
            place = f.add(image, f.mul(c, a["channel_pitch"]))
            rows = _Rows(row, origin, pitch, place, a["strip_w"], here, together)
            exists = f.compare("ult", ud, a["in_size_d"])
            begin, end = f.select(exists, low, before_h), f.select(exists, high, before_h)
            _blank(f, e, lanes, a, rows, strip, step, before_h, begin)
            _copy(f, recipe, e, lanes, a, rows, strip, begin, end)
            _blank(f, e, lanes, a, rows, strip, step, end, last)


def _within(
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


def _step(recipe: Recipe, a: dict[str, Value]) -> Operand:
    return recipe.in_step or a["in_step_w"]


def _blank(
    f: Function, e: Element, lanes: int, a: dict[str, Value], rows: _Rows, strip: Value, step: Operand,
    begin: Operand, end: Operand,
) -> None:  # fmt: skip
    """Rows [begin, end), which lie beyond the input: zeros in every plane of the width."""
    with f.when(f.compare("slt", begin, end)), f.loop(0, step) as residue:
        place = f.add(rows.place, f.mul(residue, a["plane_pitch"]))
        start = f.add(place, f.mul(begin, rows.place_pitch))
        stop = f.add(f.add(place, f.mul(f.sub(end, 1), rows.place_pitch)), rows.row.width)
        if rows.together:
            with f.loop(start, stop) as i:
                pixel = f.mul(i, a["pixel_pitch"])
                zeros(f, e, lanes, f.at(strip, pixel, e.accumulator), 0, rows.channels)
        else:
            with f.loop(0, rows.channels) as c:
                first = f.add(start, f.mul(c, a["channel_pitch"]))
                zeros(f, e, lanes, f.at(strip, first, e.accumulator), 0, f.sub(stop, start))


def _copy(
    f: Function, recipe: Recipe, e: Element, lanes: int, a: dict[str, Value], rows: _Rows, strip: Value,
    begin: Operand, end: Operand,
) -> None:  # fmt: skip
    """Rows [begin, end) of the input, each residue of the width into its plane."""
    if not rows.together and recipe.in_unit == "width" and recipe.in_step:
        _split_vectors(f, recipe, e, lanes, a, rows, strip, begin, end)
        return
    step = _step(recipe, a)
    with (
        f.loop(0, 1 if rows.together else rows.channels) as c,
        f.loop(begin, end) as h,
        f.loop(0, step) as residue,
    ):
        source = f.add(f.mul(c, a["x_stride_c"]), f.mul(h, rows.source_pitch))
        line = f.at(rows.source, source, e.storage)
        place = f.add(f.add(rows.place, f.mul(h, rows.place_pitch)), f.mul(residue, a["plane_pitch"]))
        start = f.add(rows.row.first, residue)
        with f.loop(0, rows.row.width) as i:
            u = f.add(start, f.mul(i, step))
            pixel = f.at(line, f.mul(u, a["x_stride_w"]), e.storage)
            inside = f.compare("ult", u, a["in_size_w"])
            if rows.together:
                target = f.at(strip, f.mul(f.add(place, i), a["pixel_pitch"]), e.accumulator)
                with f.when(inside):
                    copy_row(f, e, lanes, pixel, target, rows.channels)
                with f.when(f.negate(inside)):
                    zeros(f, e, lanes, target, 0, rows.channels)
            else:
                own = f.add(f.mul(c, a["channel_pitch"]), f.add(place, i))
                target = f.at(strip, own, e.accumulator)
                f.store(elements.zero(e, 1), target, e.accumulator_bytes)
                with f.when(inside):
                    f.store(elements.load(f, e, pixel, 1), target, e.accumulator_bytes)


def _split_vectors(
    f: Function, recipe: Recipe, e: Element, lanes: int, a: dict[str, Value], rows: _Rows, strip: Value,
    begin: Operand, end: Operand,
) -> None:  # fmt: skip
    """Contiguous input, its vectors dealt out to `step` planes; lanes beyond the input are masked.

    Vectors at the border come first, the last of a row before all others: what it writes beyond its row is
    the beginning of the next. Their masks are made once for all channels.
    """
    step, row = recipe.in_step, rows.row
    behind = f.sub(row.vectors, row.high)
    some = f.compare("slt", row.low, row.high)
    with f.loop(begin, end, ROWS_TOGETHER) as first:
        last = f.minimum(f.add(first, ROWS_TOGETHER), end)
        with f.loop(0, f.add(behind, row.low)) as k:
            from_left = f.sub(f.add(behind, f.sub(row.low, 1)), k)
            number = f.select(f.compare("slt", k, behind), f.sub(f.sub(row.vectors, 1), k), from_left)
            i = f.add(row.left, f.mul(number, lanes))
            u = f.add(row.first, f.mul(i, step))
            masks = [
                elements.lanes_within(f, f.add(u, j * lanes), a["in_size_w"], lanes) for j in range(step)
            ]
            around = f.both(row.trimmed, f.compare("eq", k, 0))
            with f.loop(0, rows.channels) as c:
                source, planes = _channel(f, e, a, rows, strip, c, step)
                with f.loop(first, last) as h:
                    along = f.mul(h, rows.place_pitch)
                    with f.when(around):
                        for plane in planes:
                            for start in (along, f.add(along, row.right)):
                                place = f.at(plane, start, e.accumulator)
                                f.store(elements.zero(e, lanes), place, e.accumulator_bytes)
                    _split(f, e, lanes, a, rows, source, planes, h, i, masks)
        with f.when(some), f.loop(0, rows.channels) as c:
            source, planes = _channel(f, e, a, rows, strip, c, step)
            with f.loop(first, last) as h, f.loop(row.low, row.high) as number:
                i = f.add(row.left, f.mul(number, lanes))
                _split(f, e, lanes, a, rows, source, planes, h, i, None)


def _channel(
    f: Function, e: Element, a: dict[str, Value], rows: _Rows, strip: Value, c: Operand, step: int
) -> tuple[Value, list[Value]]:
    """Where the rows of a channel lie in the input, and in each plane of the width."""
    source = f.at(rows.source, f.mul(c, a["x_stride_c"]), e.storage)
    place = f.add(rows.place, f.mul(c, a["channel_pitch"]))
    return source, [f.at(strip, f.add(place, f.mul(a["plane_pitch"], p)), e.accumulator) for p in range(step)]


def _split(
    f: Function, e: Element, lanes: int, a: dict[str, Value], rows: _Rows, source: Value,
    planes: list[Value], h: Operand, i: Operand, masks: list[Value] | None,
) -> None:  # fmt: skip
    """The elements from i on that make a vector, in each plane, of row h."""
    step = len(planes)
    u = f.add(rows.row.first, f.mul(i, step))
    pointer = f.at(source, f.add(f.mul(h, rows.source_pitch), u), e.storage)
    parts = [f.at(pointer, j * lanes, e.storage) for j in range(step)]
    # The same row of the next channel begins far away, where no prefetcher of the machine expects it.
    for part in parts:
        f.prefetch(f.at(part, a["x_stride_c"], e.storage))
    if masks is None:
        loaded = [elements.load(f, e, part, lanes) for part in parts]
    else:
        pairs = zip(parts, masks, strict=True)
        loaded = [elements.load_masked(f, e, part, lanes, inside) for part, inside in pairs]
    place = f.add(f.mul(h, rows.place_pitch), i)
    for residue, plane in enumerate(planes):
        value = _deal(f, loaded, lanes, residue)
        f.store(value, f.at(plane, place, e.accumulator), e.accumulator_bytes)


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
