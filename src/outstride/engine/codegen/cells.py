"""Writing for short algorithms: the products of a cell are summed into its outputs, which are written.

Where the output is contiguous along the width, vectors hold neighbouring cells; where it is along the
channels, neighbouring outputs; else there is one lane. `found` becomes 1 where something is written that is
not finite.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from outstride.engine.codegen import elements
from outstride.engine.codegen.arguments import INDEX
from outstride.engine.codegen.box import BOX, Box, Region
from outstride.engine.codegen.context import Context, Kernel
from outstride.engine.codegen.interleave import interleave
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, vector_type
from outstride.engine.codegen.nonfinite import has_nan
from outstride.engine.codegen.packing import runs
from outstride.engine.codegen.registers import fused
from outstride.engine.codegen.short import Index, Values, indices, outputs_of
from outstride.engine.codegen.steps import epilogue
from outstride.engine.codegen.steps.epilogue import Place
from outstride.engine.codegen.steps.operations import rounded


def cells_function(kernel: Kernel) -> Function:
    """`write(block, temp, target, line, region, box, first, count, first_channel)`: the cells of outputs.

    `target` is the output of the box's first image and of channel 0 of the group, `region` cells of a task's
    and the box what it has of a task's; `first_channel` is that of the group.
    """
    unit = kernel.recipe.out_unit
    k = kernel.function(
        "write", ("temp", PTR), ("target", PTR), ("line", PTR), ("region", PTR), *BOX, ("first", I64),
        ("count", I64), epilogue.PARAMETER, lanes=1 if unit == "any" else None,
    )  # fmt: skip
    f, e, a = k.f, k.e, k.a
    temp, target, line, entry, *numbers, first_output, count, of_group = k.parameters
    box, region = Box.of(numbers), Region(entry)
    together = k.lanes if unit == "channel" else 1
    made = indices([len(axis.products) for axis in k.recipe.short])
    bases = [f.load_i64(a["phase_rows_at"], 2 * i) for i in range(len(made))]
    with _looked_at(k) as look, f.loop(0, count, together) as o:
        channel = f.add(first_output, o)
        present = f.minimum(f.sub(count, o), together)
        loaded = epilogue.load(k, of_group, channel, present, together)
        own = f.rem(o, a["tile_outputs"]) if together > 1 else 0
        row = f.sub(o, own)
        sources = [
            f.at(temp, f.add(f.mul(f.add(base, row), a["temp_pitch"]), own), e.accumulator) for base in bases
        ]
        plane = f.at(target, f.mul(channel, a["y_stride_m"]), e.storage)
        cells = _Cells(k, made, sources, box, region, plane, look)
        if together > 1:
            _write_pixels(cells, loaded, present)
        elif k.recipe.short[2].run > 1 and k.lanes > 1:
            _write_runs(cells, line, loaded.broadcast(k))
        else:
            _write_rows(cells, loaded.broadcast(k))
    return f


@dataclass(frozen=True)
class _Look:
    """Looks at what is written."""

    k: Context
    found: Value

    def at(self, value: Value, inside: Value | None = None) -> None:
        """Zero times what is not finite is NaN, which stays in the sum; only the lanes `inside` count."""
        f, k = self.k.f, self.k
        zero = elements.zero(k.e, k.lanes)
        if inside is not None:
            kept = f"select {inside.type} {inside.name}, {value.type} {value.name}, {value.type} {zero.name}"
            value = f.emit(value.type, kept)
        f.set(self.found, fused(k, value, zero, f.get(self.found, k.vector)))


@contextmanager
def _looked_at(k: Context) -> Iterator[_Look]:
    """What is looked at within; then the argument block is told."""
    f = k.f
    found = f.variable(k.vector)
    f.set(found, elements.zero(k.e, k.lanes))
    yield _Look(k, found)
    with f.when(has_nan(k, f.get(found, k.vector))):
        f.store(Value("1", I64), f.at(k.block, INDEX["found"], I64), 8)


@dataclass(frozen=True)
class _Cells:
    """The cells of a box for an output channel, or a vector of them: where products lie, where outputs go."""

    k: Context
    made: list[Index]
    sources: list[Value]
    box: Box
    region: Region
    plane: Value
    look: _Look

    def outputs(self, place: Operand) -> Values:
        """The outputs of the cells at a place of the results."""
        f, k = self.k.f, self.k
        products = {
            index: f.load(k.vector, f.at(source, place, k.e.accumulator), k.e.accumulator_bytes)
            for index, source in zip(self.made, self.sources, strict=True)
        }
        return outputs_of(k, k.recipe.short, products)

    @contextmanager
    def rows(self) -> Iterator[tuple[Operand, Operand, Operand, Operand]]:
        """Every row of cells: its image, plane and row of cells, and where its results begin."""
        f, box = self.k.f, self.box
        image_pitch, depth_pitch, row_pitch = self.region.pitches(f)
        start = self.region.field(f, "place")
        with f.loop(0, box.count[0]) as n, f.loop(0, box.count[1]) as d, f.loop(0, box.count[2]) as h:
            place = f.add(start, f.add(f.mul(n, image_pitch), f.mul(d, depth_pitch)))
            yield n, f.add(box.start[1], d), f.add(box.start[2], h), f.add(place, f.mul(h, row_pitch))

    @contextmanager
    def row(self, n: Operand, d: Operand, h: Operand, phases: Index) -> Iterator[Value]:
        """What is done to the row of some phases of the depth and the height, where it exists."""
        f, k, a = self.k.f, self.k, self.k.a
        positions = [
            runs.output(f, axis, cell, phase)
            for cell, axis, phase in zip((d, h), k.recipe.short, phases, strict=False)
        ]
        exists = [f.compare("slt", at, a[f"out_size_{x}"]) for at, x in zip(positions, "dh", strict=True)]
        with f.when(f.both(*exists)):
            place = f.mul(n, a["y_stride_n"])
            for at, x in zip(positions, "dh", strict=True):
                place = f.add(place, f.mul(at, a[f"y_stride_{x}"]))
            yield f.at(self.plane, place, k.e.storage)

    def value(self, total: Value, loaded: epilogue.Loaded) -> Value:
        """A finished sum with its bias, in its accumulator, but rounded to its storage: what is looked at.

        Steps may hide what is not finite.
        """
        return rounded(self.k, loaded.sum(self.k, total))


def _write_rows(cells: _Cells, loaded: epilogue.Loaded) -> None:
    """Vectors of neighbouring cells, their phases of the width interleaved."""
    k = cells.k
    f, e, a, lanes = k.f, k.e, k.a, k.lanes
    steps = [axis.out_step for axis in k.recipe.short]
    first = f.mul(cells.box.start[3], steps[2])
    limit = f.minimum(a["out_size_w"], f.add(first, f.mul(cells.box.count[3], steps[2])))
    streams = _streams(cells, first, limit)
    mask_type = vector_type(lanes, "i1")
    masks = [f.variable(mask_type) for _ in range(steps[2] if lanes > 1 else 0)]
    with cells.rows() as (n, d, h, start), f.loop(0, cells.box.count[3], lanes) as w:
        made = cells.outputs(f.add(start, w))
        begin = f.add(first, f.mul(w, steps[2]))
        whole = f.compare("sle", f.add(begin, lanes * steps[2]), limit)
        with f.when(f.negate(whole)):
            for j, mask in enumerate(masks):
                rest = f.sub(limit, f.add(begin, j * lanes))
                f.set(mask, elements.lanes_between(f, 0, rest, lanes))
        for phases in indices(steps[:2]):
            with cells.row(n, d, h, phases) as row:
                of_phases = [made[_with(phases, p)] for p in range(steps[2])]
                in_order = interleave(f, of_phases, lanes) if lanes > 1 else of_phases
                values = [cells.value(v, loaded) for v in in_order]
                starts = [f.add(begin, j * lanes) for j in range(steps[2])]
                if lanes == 1:
                    axis = k.recipe.short[2]
                    starts = [f.add(first, runs.output(f, axis, w, j)) for j in range(steps[2])]
                places = [f.at(row, f.mul(s, a["y_stride_w"]), e.storage) for s in starts]
                if k.recipe.out_unit == "any":
                    for value, at, place in zip(values, starts, places, strict=True):
                        with f.when(f.compare("slt", at, limit)):
                            cells.look.at(value)
                            result = loaded.finish(k, value, Place(place))
                            elements.store(f, e, result, place, lanes)
                    continue
                with f.when(f.both(whole, streams)):
                    for value, place in zip(values, places, strict=True):
                        cells.look.at(value)
                        result = loaded.finish(k, value, Place(place))
                        elements.store_nontemporal(f, e, result, place, lanes)
                with f.when(f.both(whole, f.negate(streams))):
                    for value, place in zip(values, places, strict=True):
                        cells.look.at(value)
                        # The same row of the next output is the next but far away: see pack.
                        f.prefetch(f.at(place, a["y_stride_m"], e.storage), write=True)
                        elements.store(f, e, loaded.finish(k, value, Place(place)), place, lanes)
                with f.when(f.negate(whole)):
                    for value, place, mask in zip(values, places, masks, strict=True):
                        inside = f.get(mask, mask_type)
                        cells.look.at(value, inside)
                        result = loaded.finish(k, value, Place(place, inside))
                        elements.store_masked(f, e, result, place, lanes, inside)


def _write_runs(cells: _Cells, line: Value, loaded: epilogue.Loaded) -> None:
    """Vectors of neighbouring outputs, from a line of each phase of the depth and the height in scratch."""
    k = cells.k
    f, e, a, lanes, axis = k.f, k.e, k.a, k.lanes, k.recipe.short[2]
    phases = indices([axis.out_step for axis in k.recipe.short[:2]])
    first = runs.output(f, axis, cells.box.start[3], 0)
    limit = f.minimum(a["out_size_w"], f.add(first, f.mul(cells.box.count[3], axis.out_step)))
    size = f.sub(limit, first)
    whole = f.mul(f.div(size, lanes), lanes)
    inside = elements.lanes_between(f, whole, size, lanes)
    streams = _streams(cells, first, limit)
    pitch = f.mul(f.add(cells.box.count[3], lanes), axis.out_step)
    lines = [f.at(line, f.mul(pitch, i), e.accumulator) for i in range(len(phases))]
    with cells.rows() as (n, d, h, start):
        _fill_lines(cells, dict(zip(phases, lines, strict=True)), start)
        for own, of_phases in zip(lines, phases, strict=True):
            with cells.row(n, d, h, of_phases) as row:
                begin = f.at(row, first, e.storage)

                def value(i: Operand, own: Value = own) -> Value:
                    total = f.load(k.vector, f.at(own, i, e.accumulator), e.accumulator_bytes)
                    return cells.value(total, loaded)

                for flow in (True, False):
                    stop = f.select(streams, whole, 0) if flow else f.select(streams, 0, whole)
                    with f.loop(0, stop, lanes) as i:
                        total, place = value(i), f.at(begin, i, e.storage)
                        cells.look.at(total)
                        if flow:
                            result = loaded.finish(k, total, Place(place))
                            elements.store_nontemporal(f, e, result, place, lanes)
                        else:
                            # The same row of the next output is the next but far away: see pack.
                            f.prefetch(f.at(place, a["y_stride_m"], e.storage), write=True)
                            elements.store(f, e, loaded.finish(k, total, Place(place)), place, lanes)
                with f.when(f.compare("slt", whole, size)):
                    total, place = value(whole), f.at(begin, whole, e.storage)
                    cells.look.at(total, inside)
                    result = loaded.finish(k, total, Place(place, inside))
                    elements.store_masked(f, e, result, place, lanes, inside)


def _fill_lines(cells: _Cells, lines: dict[Index, Value], start: Operand) -> None:
    """The sums of a row of cells as they lie in the output, a line for each phase of the other axes.

    Where a run is longer than a vector the last of its first outputs is written over its second ones.
    """
    k = cells.k
    f, e, lanes, axis = k.f, k.e, k.lanes, k.recipe.short[2]
    kept = {(*phases, p): f.variable(k.vector) for phases in lines for p in range(1, axis.out_step)}

    def keep(line: Value, value: Value, place: Operand) -> None:
        f.store(value, f.at(line, place, e.accumulator), e.accumulator_bytes)

    def of_vector(w: Operand) -> Values:
        made, place = cells.outputs(f.add(start, w)), runs.output(f, axis, w, 0)
        for phases, line in lines.items():
            parts = [made[_with(phases, p)] for p in range(axis.out_step)]
            runs.keep_in_order(f, axis, lanes, parts, partial(keep, f.at(line, place, e.accumulator)))
        return made

    if axis.run <= lanes:
        with runs.vectors(f, axis, cells.box.count[3], lanes) as w:
            of_vector(w)
        return
    with f.loop(0, cells.box.count[3], axis.run) as w:
        with f.loop(0, axis.run, lanes) as r:
            made, at_first = of_vector(f.add(w, r)), f.compare("eq", r, 0)
            for index, room in kept.items():
                f.set(room, f.select(at_first, made[index], f.get(room, k.vector)))
        for index, room in kept.items():
            place = runs.output(f, axis, w, index[2])
            keep(lines[index[:2]], f.get(room, k.vector), place)


def _streams(cells: _Cells, first: Operand, limit: Operand) -> Value:
    """Whether rows are long enough for nontemporal stores, and all vectors as aligned as those must be."""
    k = cells.k
    f, a = k.f, k.a
    aligned = f.compare("eq", f.bytes_to_multiple(cells.plane, k.lanes * k.e.storage_bytes), 0)
    for n in (first, *(a[f"y_stride_{x}"] for x in "nmdh")):
        rest = f.emit(I64, f"and i64 {f.ref(n)}, {k.lanes - 1}")
        aligned = f.both(aligned, f.compare("eq", rest, 0))
    return f.both(aligned, f.compare("sge", f.sub(limit, first), a["nontemporal"]))


def _with(phases: Index, last: int) -> Index:
    return (*phases, last)


def _write_pixels(cells: _Cells, loaded: epilogue.Loaded, present: Operand) -> None:
    """Vectors of neighbouring outputs, cell by cell."""
    k = cells.k
    f, e, a, lanes = k.f, k.e, k.a, k.lanes
    steps = [axis.out_step for axis in k.recipe.short]
    every = f.compare("eq", present, lanes)
    with cells.rows() as (n, d, h, start), f.loop(0, cells.box.count[3]) as w:
        made = cells.outputs(f.mul(f.add(start, w), a["result_pixel"]))
        for phases in indices(steps[:2]):
            with cells.row(n, d, h, phases) as row:
                for phase in range(steps[2]):
                    at = runs.output(f, k.recipe.short[2], f.add(cells.box.start[3], w), phase)
                    with f.when(f.compare("slt", at, a["out_size_w"])):
                        value = cells.value(made[_with(phases, phase)], loaded)
                        cells.look.at(value)
                        pixel = f.at(row, f.mul(at, a["y_stride_w"]), e.storage)
                        with f.when(every):
                            elements.store(f, e, loaded.finish(k, value, Place(pixel)), pixel, lanes)
                        with f.when(f.negate(every)):
                            there = Place.first(k, pixel, present)
                            result = loaded.finish(k, value, there)
                            elements.store_first(f, e, result, pixel, lanes, present)
