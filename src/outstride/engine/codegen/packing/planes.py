"""Packing for short algorithms: the strip holds sums of inputs, a plane for each product of a cell.

An input that is contiguous along the width is read where it lies, rows of it in vectors that are dealt out to
neighbouring cells. Any other is packed as it lies, a few channels at a time, into a small strip that stays in
the first-level cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from outstride.engine.codegen import elements
from outstride.engine.codegen.arguments import RAW_STRIP
from outstride.engine.codegen.box import BOX, Box
from outstride.engine.codegen.context import Context, Kernel
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value
from outstride.engine.codegen.packing import runs
from outstride.engine.codegen.packing.strip import pack_functions
from outstride.engine.codegen.short import Index, Values, indices, planes_of
from outstride.engine.codegen.steps import prologue
from outstride.engine.planner.cuts import CHANNELS_SUMMED
from outstride.engine.planner.short_form import loads_of_row, loads_of_runs


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
        f.run("pack", k.block, own, raw, *runs.of_inputs(f, k.recipe.short, box).numbers, few)
        planes = f.at(strip, f.mul(c, a["channel_pitch"]), e.accumulator)
        f.run("sum_inputs", k.block, raw, planes, *box.count, few)
    return f


def _sum(kernel: Kernel) -> Function:
    """`sum_inputs(block, raw, strip, count, channels)`: the planes of so many cells."""
    count = tuple((f"count_{axis}", I64) for axis in "ndhw")
    k = kernel.function("sum_inputs", ("raw", PTR), ("strip", PTR), *count, ("channels", I64))
    f, e, a = k.f, k.e, k.a
    raw, strip, *counts, channels = k.parameters
    axes = k.recipe.short
    read = indices([len(axis.offsets) for axis in axes])
    places = [f.load_i64(a["input_places_at"], i) for i in range(len(read))]

    def of_row(c: Operand, n: Operand, d: Operand, h: Operand) -> Callable[[Operand], Values]:
        inputs = (runs.place(f, axis, cell) for axis, cell in zip(axes, (d, h), strict=False))
        row = f.at(raw, _place(k, (c, n, *inputs), "raw_"), e.accumulator)

        def at(w: Operand) -> Values:
            source = f.at(row, runs.place(f, axes[2], w), e.accumulator)

            def load(place: Operand) -> Value:
                return f.load(k.vector, f.at(source, place, e.accumulator), e.accumulator_bytes)

            def taken(place: Operand) -> Value:
                if axes[2].run == 1:
                    return load(place)
                return runs.taken(f, axes[2], k.lanes, lambda behind: load(f.add(place, behind)))

            return {index: taken(place) for index, place in zip(read, places, strict=True)}

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
        with runs.vectors(f, axes[2], width, k.lanes) as w:
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
    source, strip, *numbers, channels = k.parameters
    box = Box.of(numbers)

    def of_row(c: Operand, n: Operand, d: Operand, h: Operand) -> Callable[[Operand], Values]:
        return _Rows.of(k, source, box, (c, n, d, h)).inputs

    _fill(k, strip, channels, box.count, of_row)
    return k.f


@dataclass(frozen=True)
class _Rows:
    """The rows of the input that a row of cells reads, those beyond the input included."""

    k: Context
    #: By their numbers along depth and height: its input that cell 0 of the box begins with; does it exist?
    rows: dict[Index, tuple[Value, Value]]
    #: Inputs behind that one, [low, high): where a cell begins with one of them all of every vector that is
    #: loaded exists; none if a row does not.
    low: Operand
    high: Operand
    #: The number of that input along the width.
    first: Operand
    #: A variable for each vector of each row: those that are loaded, or of cells in runs those of each input.
    room: dict[Index, list[Value]]

    @classmethod
    def of(cls, k: Context, source: Value, box: Box, numbers: tuple[Operand, ...]) -> _Rows:
        """Those of a channel, image, plane and height of a box."""
        f, e, a, lanes, axes = k.f, k.e, k.a, k.lanes, k.recipe.short
        c, n, *cells = numbers
        image = f.add(f.mul(c, a["x_stride_c"]), f.mul(n, a["x_stride_n"]))
        along: list[list[tuple[Operand, Value]]] = []
        for x, axis, start, cell in zip("dh", axes, box.start[1:], cells, strict=False):
            begin = f.add(runs.first_input(f, axis, f.add(start, cell)), a[f"first_input_{x}"])
            places = [f.add(begin, offset - axis.offsets[0]) for offset in axis.offsets]
            along.append([(u, f.compare("ult", u, a[f"in_size_{x}"])) for u in places])
        first = f.add(runs.first_input(f, axes[2], box.start[3]), a["first_input_w"])
        rows: dict[Index, tuple[Value, Value]] = {}
        every: Value | None = None
        for i, (u, deep) in enumerate(along[0]):
            for j, (v, high) in enumerate(along[1]):
                place = f.add(image, f.add(f.mul(u, a["x_stride_d"]), f.mul(v, a["x_stride_h"])))
                exists = f.both(deep, high)
                rows[i, j] = f.at(source, f.add(place, first), e.storage), exists
                every = exists if every is None else f.both(every, exists)
        assert every is not None
        loads = loads_of_row(axes[2], lanes)
        reach = max(loads) + lanes
        end = f.add(f.sub(f.sub(a["in_size_w"], first), reach), 1)
        vectors = len(axes[2].offsets if axes[2].run > 1 else loads)
        room: dict[Index, list[Value]] = {
            index: [f.variable(k.vector) for _ in range(vectors)] for index in rows
        }
        return cls(k, rows, f.sub(0, first), f.select(every, end, 0), first, room)

    def inputs(self, w: Operand) -> Values:
        """What a vector of cells reads, by its numbers along each axis."""
        k = self.k
        f, lanes, axis = k.f, k.lanes, k.recipe.short[2]
        step = axis.in_step
        along = runs.first_input(f, axis, w)
        inside = f.both(f.compare("sge", along, self.low), f.compare("slt", along, self.high))
        with f.when(inside):
            self._load(along)
        with f.when(f.negate(inside)):
            self._load_what_exists(along)
        found: dict[Index, Value] = {}
        for index, room in self.room.items():
            vectors = [prologue.taken(k, f.get(place, k.vector), lanes) for place in room]
            if axis.run > 1:
                found |= {(*index, number): vector for number, vector in enumerate(vectors)}
                continue
            for number, offset in enumerate(axis.offsets):
                group, residue = divmod(offset - axis.offsets[0], step)
                parts = vectors[group * step : (group + 1) * step]
                whole = (*index, number)
                found[whole] = elements.deal(f, parts, lanes, residue)
        return found

    def _load(self, along: Operand) -> None:
        k = self.k
        f, e, axis = k.f, k.e, k.recipe.short[2]
        first = (
            loads_of_runs(axis.run, k.lanes) if axis.run > 1 else loads_of_row(axis, k.lanes)[: axis.in_step]
        )
        for index, (row, _) in self.rows.items():
            pointer = f.at(row, along, e.storage)

            def load(at: int, pointer: Value = pointer) -> Value:
                place = f.at(pointer, at, e.storage)
                # The same row of the next channel begins far away, where no prefetcher expects it.
                if at in first:
                    f.prefetch(f.at(place, k.a["x_stride_c"], e.storage))
                return elements.load(f, e, place, k.lanes)

            self._keep(index, load)

    def _load_what_exists(self, along: Operand) -> None:
        """Zeros beyond the input."""
        k = self.k
        f, e, size, axis = k.f, k.e, k.a["in_size_w"], k.recipe.short[2]
        begin = f.add(self.first, along)
        masks = {
            at: elements.lanes_between(f, f.add(begin, at), size, k.lanes)
            for at in loads_of_row(axis, k.lanes)
        }
        for index, (row, exists) in self.rows.items():
            pointer = f.at(row, along, e.storage)
            for room in self.room[index]:
                f.set(room, elements.zero(e, k.lanes))

            def load(at: int, pointer: Value = pointer) -> Value:
                return elements.load_masked(f, e, f.at(pointer, at, e.storage), k.lanes, masks[at])

            with f.when(exists):
                self._keep(index, load)

    def _keep(self, index: Index, load: Callable[[int], Value]) -> None:
        """Load the vectors of a row, each once; of cells in runs take those of each input from them."""
        k = self.k
        f, axis, loaded = k.f, k.recipe.short[2], cache(load)
        if axis.run == 1:
            for room, at in zip(self.room[index], loads_of_row(axis, k.lanes), strict=True):
                f.set(room, loaded(at))
            return
        for room, offset in zip(self.room[index], axis.offsets, strict=True):

            def behind(at: int, first: int = offset - axis.offsets[0]) -> Value:
                return loaded(first + at)

            f.set(room, runs.taken(f, axis, k.lanes, behind))
