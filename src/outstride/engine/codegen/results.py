"""Writing results: from the sums in scratch to the output: phases interleaved, epilogue applied, rounded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

from outstride.engine.codegen import elements
from outstride.engine.codegen.box import BOX, Box, Region
from outstride.engine.codegen.context import Context, Kernel, Vectors
from outstride.engine.codegen.interleave import interleave
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value
from outstride.engine.codegen.nontemporal import store_line, store_rest, store_whole_vectors
from outstride.engine.codegen.packing.transpose import transpose
from outstride.engine.codegen.steps import epilogue
from outstride.engine.codegen.steps.epilogue import Place
from outstride.engine.planner.recipe import Recipe

PhaseRows: TypeAlias = Callable[[Operand], Value]


def write_function(kernel: Kernel) -> Function:
    """`write(block, temp, target, line, region, box, first, count, first_channel)`: all phases of outputs.

    `target` is the output of the box's first image and of channel 0 of the group, `line` room for one output
    row, `region` cells of a task's and the box what it has of them; `first_channel` is that of the group.
    """
    k = kernel.function(
        "write", ("temp", PTR), ("target", PTR), ("line", PTR), ("region", PTR), *BOX, ("first", I64),
        ("count", I64), epilogue.PARAMETER,
    )  # fmt: skip
    f, e, a, recipe = k.f, k.e, k.a, k.recipe
    temp, target, line, entry, *numbers, first_output, count, of_group = k.parameters
    box, region = Box.of(numbers), Region(entry)
    place = region.field(f, "place")
    image_pitch, depth_pitch, row_pitch = region.pitches(f)
    together = k.lanes if recipe.out_unit == "channel" else 1
    span = _Span.of(k, box, target)
    with f.loop(0, count, together) as o:
        channel = f.add(first_output, o)
        present = f.minimum(f.sub(count, o), together)
        loaded = epilogue.load(k, of_group, channel, present, together)
        plane = f.at(target, f.mul(channel, a["y_stride_m"]), e.storage)
        with (
            f.loop(0, a["out_step_d"]) as pd,
            f.loop(0, a["out_step_h"]) as ph,
            f.loop(0, box.count[0]) as n,
            f.loop(0, box.count[1]) as d,
        ):
            phase = f.mul(f.add(f.mul(pd, a["out_step_h"]), ph), a["out_step_w"])
            sources = _phase_rows(k, temp, o, phase)
            od = position(k, "d", f.add(box.start[1], d), pd)
            sheet = f.at(plane, f.add(f.mul(n, a["y_stride_n"]), f.mul(od, a["y_stride_d"])), e.storage)
            first = f.add(place, f.add(f.mul(n, image_pitch), f.mul(d, depth_pitch)))
            with f.when(f.compare("ult", od, a["out_size_d"])), f.loop(0, box.count[2]) as h:
                oh = position(k, "h", f.add(box.start[2], h), ph)
                with f.when(f.compare("ult", oh, a["out_size_h"])):
                    row = f.at(sheet, f.mul(oh, a["y_stride_h"]), e.storage)
                    q = f.add(first, f.mul(h, row_pitch))
                    if together > 1:
                        _channels_of_row(k, _Channels(o, present, phase, loaded), temp, q, row, box)
                    elif _interleaves(recipe):
                        _interleaved_row(k, sources, q, row, line, span, loaded)
                    else:
                        _row(k, sources, q, row, line, span, loaded)
    return f


def _interleaves(recipe: Recipe) -> bool:
    """Whether rows of several phases are interleaved in registers, on their way to a contiguous row."""
    return recipe.out_unit == "width" and recipe.out_step > 1


@dataclass(frozen=True)
class _Span:
    """The rows of a box in the output: where cell 0 would begin, and the elements [low, high) that exist.

    Of the vectors of cells only the first and the last reach beyond: the masks `first` and `last` are what
    exists of their elements, by phases times lanes. `long` rows are stored by nontemporal stores.
    """

    cells: Operand
    start: Operand
    low: Operand
    high: Operand
    first: list[Value]
    last: list[Value]
    long: Value

    @classmethod
    def of(cls, k: Context, box: Box, target: Value) -> _Span:
        """Of a box; `target` is as aligned as its rows are."""
        f, e, a, recipe = k.f, k.e, k.a, k.recipe
        step = recipe.out_step or a["out_step_w"]
        cells = box.count[3]
        start = f.add(f.mul(box.start[3], step), a["out_shift_w"])
        low = f.maximum(0, f.sub(0, start))
        high = f.minimum(f.mul(cells, step), f.sub(a["out_size_w"], start))
        first: list[Value] = []
        last: list[Value] = []
        if _interleaves(recipe):
            begin = f.mul(f.mul(f.sub(f.ceil_div(cells, k.lanes), 1), k.lanes), step)
            size = f.sub(high, low)
            for masks, place in ((first, 0), (last, begin)):
                for j in range(recipe.out_step):
                    at = f.sub(f.add(place, j * k.lanes), low)
                    masks.append(elements.lanes_within(f, at, size, k.lanes))
        # Elements at odd addresses never fill an aligned vector.
        exact = f.compare("eq", f.bytes_to_multiple(target, e.storage_bytes), 0)
        long = f.both(exact, f.compare("sge", f.sub(high, low), a["nontemporal"]))
        return cls(cells, start, low, high, first, last, long)


def _phase_rows(k: Context, temp: Value, o: Operand, phase: Operand) -> PhaseRows:
    """Where the results of each width phase of an output begin: known phases once, others where needed."""
    f, recipe = k.f, k.recipe

    def start(pw: Operand) -> Value:
        base, scale = phase_entry(k, f.add(phase, pw))
        return f.at(temp, f.mul(f.add(base, f.mul(o, scale)), k.a["temp_pitch"]), k.e.accumulator)

    known = [start(i) for i in range(recipe.out_step if recipe.out_unit != "channel" else 0)]
    return lambda pw: known[pw] if isinstance(pw, int) else start(pw)


def phase_entry(k: Context, phase: Operand) -> list[Value]:
    """The row of results of a phase's output 0, and the rows to its next output."""
    f = k.f
    return [f.load_i64(k.a["phase_rows_at"], f.add(f.mul(phase, 2), i)) for i in range(2)]


def position(k: Context, axis: str, cell: Operand, phase: Operand) -> Operand:
    """The output position of a phase of a cell."""
    f, a = k.f, k.a
    return f.add(f.add(f.mul(cell, a[f"out_step_{axis}"]), phase), a[f"out_shift_{axis}"])


def existing_cells(k: Context, box: Box, phase: Operand) -> tuple[Operand, Operand]:
    """The cells [first, last) of a row of a box whose output of a phase exists."""
    f, a = k.f, k.a
    start, step = position(k, "w", box.start[3], phase), k.recipe.out_step or a["out_step_w"]
    low = f.ceil_div(f.maximum(0, f.sub(0, start)), step)
    high = f.minimum(box.count[3], f.ceil_div(f.maximum(0, f.sub(a["out_size_w"], start)), step))
    return low, high


class _Channels(NamedTuple):
    """A vector's lanes of output channels: the first, how many there are, their phase, their epilogue."""

    first: Operand
    present: Operand
    phase: Operand
    epilogue: epilogue.Loaded


def _channels_of_row(k: Context, channels: _Channels, temp: Value, q: Operand, row: Value, box: Box) -> None:
    """One output row where channels are contiguous: as they lie in the results, side by side or in rows."""
    f = k.f
    by_pixel = f.compare("ne", k.a["result_pixel"], 1)
    with f.when(by_pixel):
        _vectors(k, temp, channels, q, row, box)
    with f.when(f.negate(by_pixel)):
        _squares(k, temp, channels, q, row, box)


def _vectors(k: Context, temp: Value, channels: _Channels, q: Operand, row: Value, box: Box) -> None:
    """One output row where channels are contiguous in the results too: vectors as they are."""
    f, e, a, lanes = k.f, k.e, k.a, k.lanes
    every = f.compare("eq", channels.present, lanes)
    own = f.rem(channels.first, a["tile_outputs"])
    with f.loop(0, a["out_step_w"]) as pw:
        base, _ = phase_entry(k, f.add(channels.phase, pw))
        tile = f.add(base, f.sub(channels.first, own))
        source = f.at(temp, f.add(f.mul(tile, a["temp_pitch"]), own), e.accumulator)
        low, high = existing_cells(k, box, pw)
        pitch = f.mul(a["out_step_w"], a["y_stride_w"])
        first = f.at(row, f.mul(position(k, "w", box.start[3], pw), a["y_stride_w"]), e.storage)
        for whole in (True, False):
            end = f.select(every, high, low) if whole else f.select(every, low, high)
            with f.loop(low, end) as i:
                place = f.at(source, f.mul(f.add(q, i), a["result_pixel"]), e.accumulator)
                total = f.load(k.vector, place, e.accumulator_bytes)
                pixel = f.at(first, f.mul(i, pitch), e.storage)
                if whole:
                    value = channels.epilogue.apply(k, total, Place(pixel))
                    elements.store(f, e, value, pixel, lanes)
                else:
                    value = channels.epilogue.apply(k, total, Place.first(k, pixel, channels.present))
                    elements.store_first(f, e, value, pixel, lanes, channels.present)


def _squares(k: Context, temp: Value, channels: _Channels, q: Operand, row: Value, box: Box) -> None:
    """One output row where channels are contiguous: squares of channels by cells, transposed in registers."""
    f, e, a, lanes = k.f, k.e, k.a, k.lanes
    every = f.compare("eq", channels.present, lanes)
    with f.loop(0, a["out_step_w"]) as pw:
        base, scale = phase_entry(k, f.add(channels.phase, pw))
        sources = []
        for j in range(lanes):
            o = f.add(channels.first, f.minimum(j, f.sub(channels.present, 1)))
            number = f.add(base, f.mul(o, scale))
            sources.append(f.at(temp, f.add(f.mul(number, a["temp_pitch"]), q), e.accumulator))
        with f.loop(0, box.count[3], lanes) as i:
            held = [f.load(k.vector, f.at(s, i, e.accumulator), e.accumulator_bytes) for s in sources]
            sums = [channels.epilogue.sum(k, v) for v in transpose(f, held, lanes)]
            ow = position(k, "w", f.add(box.start[3], i), pw)
            last = f.add(ow, f.mul(lanes - 1, a["out_step_w"]))
            pitch = f.mul(a["out_step_w"], a["y_stride_w"])
            pixel = f.at(row, f.mul(ow, a["y_stride_w"]), e.storage)
            within = f.both(f.compare("sge", ow, 0), f.compare("slt", last, a["out_size_w"]))
            within = f.both(within, f.compare("sle", f.add(i, lanes), box.count[3]))
            whole = f.both(every, within)
            with f.when(whole):
                for c, total in enumerate(sums):
                    place = f.at(pixel, f.mul(c, pitch), e.storage)
                    value = channels.epilogue.finish(k, total, Place(place))
                    elements.store(f, e, value, place, lanes)
            with f.when(f.negate(whole)):
                cells = f.sub(box.count[3], i)
                for c, total in enumerate(sums):
                    exists = f.compare("ult", f.add(ow, f.mul(c, a["out_step_w"])), a["out_size_w"])
                    with f.when(f.both(exists, f.compare("slt", c, cells))):
                        place = f.at(pixel, f.mul(c, pitch), e.storage)
                        there = Place.first(k, place, channels.present)
                        value = channels.epilogue.finish(k, total, there)
                        elements.store_first(f, e, value, place, lanes, channels.present)


def _row(
    k: Context, sources: PhaseRows, q: Operand, row: Value, line: Value, span: _Span, loaded: epilogue.Loaded
) -> None:  # fmt: skip
    """One output row: gather its phases into `line`, if there are several; write the part that exists."""
    f, e = k.f, k.e
    if k.recipe.out_step == 1:
        source = f.at(sources(0), q, e.accumulator)
    else:
        step = k.recipe.out_step or k.a["out_step_w"]
        with f.loop(0, step) as pw:
            phase = f.at(sources(pw), q, e.accumulator)
            with f.loop(0, span.cells) as i:
                item = f.load(e.accumulator, f.at(phase, i, e.accumulator), e.accumulator_bytes)
                f.store(item, f.at(line, f.add(f.mul(i, step), pw), e.accumulator), e.accumulator_bytes)
        source = f.at(line, span.low, e.accumulator)
    target = f.at(row, f.mul(f.add(span.start, span.low), k.a["y_stride_w"]), e.storage)
    _write(k, source, target, span, loaded)


def _interleaved_row(
    k: Context, sources: PhaseRows, q: Operand, row: Value, line: Value, span: _Span, loaded: epilogue.Loaded
) -> None:  # fmt: skip
    """One output row: a vector of every phase at a time, interleaved and stored where it belongs.

    A long row is made in `line` and goes from there by nontemporal stores.
    """
    f, e, lanes = k.f, k.e, k.lanes
    step = len(span.first)
    in_lanes = loaded.broadcast(k)
    target = f.at(row, span.start, e.storage)
    room = f.select(span.long, line, target)
    phases = [f.at(sources(pw), q, e.accumulator) for pw in range(step)]
    with f.loop(0, span.cells, lanes) as i:
        parts = [f.load(k.vector, f.at(phase, i, e.accumulator), e.accumulator_bytes) for phase in phases]
        begin = f.mul(i, step)
        sums = [in_lanes.sum(k, value) for value in interleave(f, parts, lanes)]
        at = [f.add(begin, j * lanes) for j in range(step)]
        places, ends = ([f.at(base, first, e.storage) for first in at] for base in (room, target))
        end = f.add(begin, lanes * step)
        whole = f.both(f.compare("sge", begin, span.low), f.compare("sle", end, span.high))
        if not k.recipe.epilogue.reads_tensors:
            # The room for a row has space behind, the output and what lies as it does have not.
            whole = f.emit("i1", f"or i1 {whole.name}, {span.long.name}")
        with f.when(whole):
            for total, place, own in zip(sums, places, ends, strict=True):
                value = in_lanes.finish(k, total, Place(own))
                # The same row of the next output is the next but far away: see pack.
                f.prefetch(f.at(place, k.a["y_stride_m"], e.storage), write=True)
                elements.store(f, e, value, place, lanes)
        with f.when(f.negate(whole)):
            at_first = f.compare("eq", i, 0)
            for j, (total, place, own) in enumerate(zip(sums, places, ends, strict=True)):
                inside = f.select(at_first, span.first[j], span.last[j])
                value = in_lanes.finish(k, total, Place(own, inside))
                elements.store_masked(f, e, value, place, lanes, inside)
    with f.when(span.long):
        made, there = (f.at(base, span.low, e.storage) for base in (line, target))
        store_line(k, made, there, f.sub(span.high, span.low))


def _write(k: Context, source: Value, target: Value, span: _Span, loaded: epilogue.Loaded) -> None:
    """target[i] = round(epilogue(source[i])) for every i of the row that exists."""
    f, e, lanes = k.f, k.e, k.lanes
    count = f.sub(span.high, span.low)
    if k.recipe.out_unit != "width":
        with f.loop(0, count) as i:
            item = f.load(e.accumulator, f.at(source, i, e.accumulator), e.accumulator_bytes)
            place = f.at(target, f.mul(i, k.a["y_stride_w"]), e.storage)
            value = loaded.apply(replace(k, lanes=1), item, Place(place))
            elements.store(f, e, value, place, 1)
        return
    in_lanes = loaded.broadcast(k)

    def value_at(i: Operand, left: Operand | None = None) -> Value:
        total = f.load(k.vector, f.at(source, i, e.accumulator), e.accumulator_bytes)
        place = f.at(target, i, e.storage)
        return in_lanes.apply(k, total, Place(place) if left is None else Place.first(k, place, left))

    done = f.variable(I64, Value("0", I64))
    f.set(done, Value("0", I64))
    with f.when(span.long):
        f.set(done, f.i64(store_whole_vectors(k, value_at, target, count)))
    begin = f.get(done, I64)
    whole = f.add(begin, f.mul(f.div(f.maximum(0, f.sub(count, begin)), lanes), lanes))
    with f.loop(begin, whole, lanes) as i:
        # The same row of the next output is the next but far away: see pack.
        f.prefetch(f.at(target, f.add(k.a["y_stride_m"], i), e.storage), write=True)
        elements.store(f, e, value_at(i), f.at(target, i, e.storage), lanes)
    store_rest(k, value_at, target, whole, count)


def write_part(k: Vectors, source: Value, target: Value, count: Operand) -> None:
    """target[i] = source[i] for i in [0, count), and nothing behind."""
    f, e = k.f, k.e
    with f.loop(0, count, k.lanes) as i:
        value = f.load(k.vector, f.at(source, i, e.accumulator), e.accumulator_bytes)
        elements.store_first(f, e, value, f.at(target, i, e.storage), k.lanes, f.sub(count, i))


def write_finished(
    k: Context, source: Value, target: Value, count: Operand, loaded: epilogue.Loaded
) -> None:  # fmt: skip
    """target[i] = round(epilogue(source[i])) for i in [0, count), and nothing behind."""
    f, e, lanes = k.f, k.e, k.lanes

    def value_at(i: Operand, left: Operand | None = None) -> Value:
        total = f.load(k.vector, f.at(source, i, e.accumulator), e.accumulator_bytes)
        place = f.at(target, i, e.storage)
        return loaded.apply(k, total, Place(place) if left is None else Place.first(k, place, left))

    whole = f.mul(f.div(count, lanes), lanes)
    with f.loop(0, whole, lanes) as i:
        elements.store(f, e, value_at(i), f.at(target, i, e.storage), lanes)
    store_rest(k, value_at, target, whole, count)
