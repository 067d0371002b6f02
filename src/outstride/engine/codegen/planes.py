"""Packing for short algorithms: the strip holds sums of inputs, a plane for each product of a cell.

An input that is contiguous along the width is read where it lies, rows of it in vectors that are dealt out to
neighbouring cells. Any other is packed as it lies, a few channels at a time, into a small strip that stays in
the first-level cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from outstride.engine.codegen import elements
from outstride.engine.codegen.arguments import RAW_STRIP
from outstride.engine.codegen.box import BOX, Box
from outstride.engine.codegen.context import Context, Kernel
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value
from outstride.engine.codegen.short import Index, Values, indices, planes_of
from outstride.engine.codegen.strip import pack_functions
from outstride.engine.planner.cuts import CHANNELS_SUMMED
from outstride.engine.planner.short_form import loads_of_row


def planes_functions(kernel: Kernel) -> list[Function]:
    """The functions that fill the planes, of which others call `pack_planes`."""
    if kernel.recipe.in_unit == "width":
        return [_pack_rows(kernel)]
    raw = {name: kernel.index[f"raw_{name}"] for name in RAW_STRIP}
    return [*pack_functions(Kernel(kernel.recipe, {**kernel.index, **raw})), _sum(kernel), _pack(kernel)]


_NUMBERS = (("source", PTR), ("strip", PTR), *BOX, ("channels", I64))


def _pack(kernel: Kernel) -> Function:
    """`pack_planes(block, source, strip, box, channels)`: fill the planes of the box, channel by channel."""
    k = kernel.function("pack_planes", *_NUMBERS, rare=True)
    f, e, a = k.f, k.e, k.a
    source, strip, *numbers, channels = k.parameters
    box = Box.of(numbers)
    raw = f.at(strip, a["raw_bytes_offset"], "i8")
    with f.loop(0, channels, CHANNELS_SUMMED) as c:
        few = f.minimum(CHANNELS_SUMMED, f.sub(channels, c))
        own = f.at(source, f.mul(c, a["x_stride_c"]), e.storage)
        f.run("pack", k.block, own, raw, *box.numbers, few)
        planes = f.at(strip, f.mul(c, a["channel_pitch"]), e.accumulator)
        f.run("sum_inputs", k.block, raw, planes, *box.count, few)
    return f


def _sum(kernel: Kernel) -> Function:
    """`sum_inputs(block, raw, strip, count, channels)`: the planes of so many cells."""
    count = tuple((f"count_{axis}", I64) for axis in "ndhw")
    k = kernel.function("sum_inputs", ("raw", PTR), ("strip", PTR), *count, ("channels", I64))
    f, e, a = k.f, k.e, k.a
    raw, strip, *counts, channels = k.parameters
    read = indices([len(axis.offsets) for axis in k.recipe.short])
    places = [f.load_i64(a["input_places_at"], i) for i in range(len(read))]

    def of_row(c: Operand, n: Operand, d: Operand, h: Operand) -> Callable[[Operand], Values]:
        row = f.at(raw, _place(k, (c, n, d, h), "raw_"), e.accumulator)

        def at(w: Operand) -> Values:
            source = f.at(row, w, e.accumulator)
            vectors = (f.load(k.vector, f.at(source, p, e.accumulator), e.accumulator_bytes) for p in places)
            return dict(zip(read, vectors, strict=True))

        return at

    _fill(k, strip, channels, tuple(counts), of_row)
    return f


def _fill(
    k: Context,
    strip: Value,
    channels: Operand,
    counts: tuple[Operand, ...],
    of_row: Callable[[Operand, Operand, Operand, Operand], Callable[[Operand], Values]],
) -> None:
    """Sum the inputs of every vector of cells into planes: `of_row` says how those of a row are loaded.

    What a row writes beyond its end lies in the next, which is written after it, or behind its plane.
    """
    f, e, axes = k.f, k.e, k.recipe.short
    images, depth, height, width = counts
    made = indices([len(axis.products) for axis in axes])
    starts = [f.mul(k.a["plane_pitch"], i) for i in range(len(made))]
    with (
        f.loop(0, channels) as c,
        f.loop(0, images) as n,
        f.loop(0, depth) as d,
        f.loop(0, height) as h,
    ):
        inputs = of_row(c, n, d, h)
        row = f.at(strip, _place(k, (c, n, d, h), ""), e.accumulator)
        with f.loop(0, width, k.lanes) as w:
            planes = planes_of(k, axes, inputs(w))
            target = f.at(row, w, e.accumulator)
            for index, start in zip(made, starts, strict=True):
                f.store(planes[index], f.at(target, start, e.accumulator), e.accumulator_bytes)


def _place(k: Context, numbers: tuple[Operand, ...], prefix: str) -> Operand:
    """Where a row of a channel, image, plane and height begins in a strip."""
    place: Operand = 0
    pitches = ("channel_pitch", "image_pitch", "depth_pitch", "strip_w")
    for number, pitch in zip(numbers, pitches, strict=True):
        place = k.f.add(place, k.f.mul(number, k.a[prefix + pitch]))
    return place


def _pack_rows(kernel: Kernel) -> Function:
    """`pack_planes(block, source, strip, box, channels)` from rows where they lie, contiguous."""
    k = kernel.function("pack_planes", *_NUMBERS)
    f = k.f
    source, strip, *numbers, channels = k.parameters
    box = Box.of(numbers)
    masks = _Masks.of(k, box, f.at(strip, k.a["raw_bytes_offset"], "i8"))

    def of_row(c: Operand, n: Operand, d: Operand, h: Operand) -> Callable[[Operand], Values]:
        return _Rows.of(k, source, box, masks, (c, n, d, h)).inputs

    _fill(k, strip, channels, box.count, of_row)
    return f


@dataclass(frozen=True)
class _Masks:
    """Which elements of the vectors of a row exist: a mask for each load of each vector of cells.

    Of the cells [low, high) all do. `first` is the input that the first load of cell 0 begins with.
    """

    k: Context
    table: Value
    first: Operand
    low: Operand
    high: Operand

    @classmethod
    def of(cls, k: Context, box: Box, table: Value) -> _Masks:
        """Those of a box's rows, written to a table."""
        f, a, lanes, axis = k.f, k.a, k.lanes, k.recipe.short[2]
        step, loads = axis.in_step, loads_of_row(axis)
        first = f.add(f.mul(box.start[3], step), a["first_input_w"])
        reach = (loads // step - 1) * step + lanes * step
        size = a["in_size_w"]
        low = f.ceil_div(f.maximum(0, f.sub(0, first)), step)
        high = f.sub(f.sub(size, first), reach)
        high = f.add(f.div(f.maximum(0, high), step), f.word(f.compare("sge", high, 0)))
        with f.loop(0, box.count[3], lanes) as w:
            number = f.mul(f.div(w, lanes), loads)
            for i in range(loads):
                group, part = divmod(i, step)
                start = f.add(f.add(first, f.mul(w, step)), group * step + part * lanes)
                inside = elements.lanes_within(f, start, size, lanes)
                elements.keep_mask(f, inside, table, f.add(number, i), lanes)
        return cls(k, table, first, low, high)


@dataclass(frozen=True)
class _Rows:
    """The rows of the input that a row of cells reads, those beyond the input included."""

    k: Context
    masks: _Masks
    #: By their numbers along depth and height: element 0 of each, and whether it exists.
    rows: dict[Index, tuple[Value, Value]]
    #: Whether all of them exist.
    every: Value
    room: dict[Index, list[Value]]

    @classmethod
    def of(cls, k: Context, source: Value, box: Box, masks: _Masks, numbers: tuple[Operand, ...]) -> _Rows:
        """Those of a channel, image, plane and height of a box."""
        f, e, a = k.f, k.e, k.a
        axes = k.recipe.short
        c, n, *cells = numbers
        image = f.add(f.mul(c, a["x_stride_c"]), f.mul(n, a["x_stride_n"]))
        along: list[list[tuple[Operand, Value]]] = []
        for x, axis, start, cell in zip("dh", axes, box.start[1:], cells, strict=False):
            first = f.add(f.mul(f.add(start, cell), axis.in_step), a[f"first_input_{x}"])
            places = [f.add(first, offset - axis.offsets[0]) for offset in axis.offsets]
            along.append([(u, f.compare("ult", u, a[f"in_size_{x}"])) for u in places])
        every: Value | None = None
        for _, exists in (*along[0], *along[1]):
            every = exists if every is None else f.both(every, exists)
        rows: dict[Index, tuple[Value, Value]] = {}
        for i, (u, deep) in enumerate(along[0]):
            for j, (v, high) in enumerate(along[1]):
                place = f.add(image, f.add(f.mul(u, a["x_stride_d"]), f.mul(v, a["x_stride_h"])))
                rows[i, j] = f.at(source, f.add(place, masks.first), e.storage), f.both(deep, high)
        assert every is not None
        loads = loads_of_row(axes[2])
        room: dict[Index, list[Value]] = {
            index: [f.variable(k.vector) for _ in range(loads)] for index in rows
        }
        return cls(k, masks, rows, every, room)

    def inputs(self, w: Operand) -> Values:
        """What a vector of cells reads, by its numbers along each axis."""
        k, masks = self.k, self.masks
        f, e, lanes, axis = k.f, k.e, k.lanes, k.recipe.short[2]
        step, loads = axis.in_step, loads_of_row(axis)
        inside = f.both(f.compare("sge", w, masks.low), f.compare("slt", w, masks.high))
        inside = f.both(inside, self.every)
        places = [(i // step) * step + (i % step) * lanes for i in range(loads)]
        along = f.mul(w, step)
        with f.when(inside):
            for index, (row, _) in self.rows.items():
                pointer = f.at(row, along, e.storage)
                for i, at in enumerate(places):
                    place = f.at(pointer, at, e.storage)
                    # The same row of the next channel begins far away, where no prefetcher expects it.
                    if i < step:
                        f.prefetch(f.at(place, k.a["x_stride_c"], e.storage))
                    f.set(self.room[index][i], elements.load(f, e, place, lanes))
        with f.when(f.negate(inside)):
            number = f.mul(f.div(w, lanes), loads)
            for index, (row, exists) in self.rows.items():
                pointer = f.at(row, along, e.storage)
                for i, at in enumerate(places):
                    kept = elements.kept_mask(f, masks.table, f.add(number, i), lanes, exists)
                    value = elements.load_masked(f, e, f.at(pointer, at, e.storage), lanes, kept)
                    f.set(self.room[index][i], value)
        found = {}
        for index in self.rows:
            vectors = [f.get(place, k.vector) for place in self.room[index]]
            for number, offset in enumerate(axis.offsets):
                group, residue = divmod(offset - axis.offsets[0], step)
                parts = vectors[group * step : (group + 1) * step]
                whole = (*index, number)
                found[whole] = elements.deal(f, parts, lanes, residue)
        return found
