"""Writing results: from the accumulators in scratch to the output, phases interleaved, biased and rounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from outstride.engine.codegen import elements
from outstride.engine.codegen.box import BOX, Box, Stripe
from outstride.engine.codegen.elements import Element
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, vector_type
from outstride.engine.codegen.tasks import read_arguments
from outstride.engine.codegen.transpose import transpose
from outstride.engine.planner.recipe import Recipe

PhaseRows: TypeAlias = Callable[[Operand], Value]


def write_function(recipe: Recipe, e: Element, lanes: int, index: Mapping[str, int]) -> Function:
    """`write(block, temp, target, line, stripe, box, first, count, bias)`: all phases of `count` outputs.

    `target` is the output of the box's first image and of channel 0 of the group, `line` room for one output
    row, the box what the stripe has of a task's.
    """
    head = [("block", PTR), ("temp", PTR), ("target", PTR), ("line", PTR), ("stripe", PTR)]
    f = Function("write", [*head, *BOX, ("first", I64), ("count", I64), ("bias", PTR)], internal=True)
    block, temp, target, line, entry, *numbers, first_output, count, bias = f.parameters
    a = read_arguments(f, block, index)
    box, stripe = Box.of(numbers), Stripe(entry)
    place = stripe.field(f, "place")
    image_pitch, depth_pitch, row_pitch = stripe.pitches(f)
    together = lanes if recipe.out_unit == "channel" else 1
    span = _span(f, recipe, e, lanes, a, box, target)
    with f.loop(0, count, together) as o:
        channel = f.add(first_output, o)
        present = f.minimum(f.sub(count, o), together)
        addend = bias_of(f, e, bias, channel, present, together)
        plane = f.at(target, f.mul(channel, a["y_stride_m"]), e.storage)
        with (
            f.loop(0, a["out_step_d"]) as pd,
            f.loop(0, a["out_step_h"]) as ph,
            f.loop(0, box.count[0]) as n,
            f.loop(0, box.count[1]) as d,
        ):
            phase = f.mul(f.add(f.mul(pd, a["out_step_h"]), ph), a["out_step_w"])
            sources = _phase_rows(f, recipe, e, a, temp, o, phase)
            od = _position(f, a, "d", f.add(box.start[1], d), pd)
            sheet = f.at(plane, f.add(f.mul(n, a["y_stride_n"]), f.mul(od, a["y_stride_d"])), e.storage)
            first = f.add(place, f.add(f.mul(n, image_pitch), f.mul(d, depth_pitch)))
            with f.when(f.compare("ult", od, a["out_size_d"])), f.loop(0, box.count[2]) as h:
                oh = _position(f, a, "h", f.add(box.start[2], h), ph)
                with f.when(f.compare("ult", oh, a["out_size_h"])):
                    row = f.at(sheet, f.mul(oh, a["y_stride_h"]), e.storage)
                    q = f.add(first, f.mul(h, row_pitch))
                    if together > 1:
                        channels = _Channels(o, present, phase, addend)
                        by_pixel = f.compare("ne", a["result_pixel"], 1)
                        with f.when(by_pixel):
                            _vectors(f, e, lanes, a, temp, channels, q, row, box)
                        with f.when(f.negate(by_pixel)):
                            _pixels(f, e, lanes, a, temp, channels, q, row, box)
                    elif _interleaves(recipe):
                        _interleaved_row(f, e, lanes, a, sources, q, row, line, span, addend)
                    else:
                        _row(f, recipe, e, lanes, a, sources, q, row, line, span, addend)
    return f


def _interleaves(recipe: Recipe) -> bool:
    """Whether rows of several phases are interleaved in registers, on their way to a contiguous row."""
    return recipe.out_unit == "width" and recipe.out_step > 1


class _Span(NamedTuple):
    """The rows of a box in the output: where cell 0 would begin, and the elements [low, high) that exist.

    Of the vectors of cells only the first and the last reach beyond: the masks `first` and `last` are what
    exists of their elements, by phases times lanes. `long` rows are stored past the caches.
    """

    cells: Operand
    start: Operand
    low: Operand
    high: Operand
    first: list[Value]
    last: list[Value]
    long: Value


def _span(
    f: Function, recipe: Recipe, e: Element, lanes: int, a: dict[str, Value], box: Box, target: Value
) -> _Span:  # fmt: skip
    step = recipe.out_step or a["out_step_w"]
    cells = box.count[3]
    start = f.add(f.mul(box.start[3], step), a["out_shift_w"])
    low = f.maximum(0, f.sub(0, start))
    high = f.minimum(f.mul(cells, step), f.sub(a["out_size_w"], start))
    first: list[Value] = []
    last: list[Value] = []
    if _interleaves(recipe):
        begin = f.mul(f.mul(f.sub(f.ceil_div(cells, lanes), 1), lanes), step)
        size = f.sub(high, low)
        for masks, place in ((first, 0), (last, begin)):
            for j in range(recipe.out_step):
                at = f.sub(f.add(place, j * lanes), low)
                masks.append(elements.lanes_within(f, at, size, lanes))
    # Elements at odd addresses never fill an aligned vector.
    exact = f.compare("eq", f.bytes_to_multiple(target, e.storage_bytes), 0)
    long = f.both(exact, f.compare("sge", f.sub(high, low), a["past_caches"]))
    return _Span(cells, start, low, high, first, last, long)


def _phase_rows(
    f: Function, recipe: Recipe, e: Element, a: dict[str, Value], temp: Value, o: Operand, phase: Operand,
) -> PhaseRows:  # fmt: skip
    """Where the results of each width phase of an output begin: known phases once, others when asked."""

    def start(pw: Operand) -> Value:
        base, scale = _phase_entry(f, a, f.add(phase, pw))
        return f.at(temp, f.mul(f.add(base, f.mul(o, scale)), a["temp_pitch"]), e.accumulator)

    known = [start(i) for i in range(recipe.out_step if recipe.out_unit != "channel" else 0)]
    return lambda pw: known[pw] if isinstance(pw, int) else start(pw)


def _phase_entry(f: Function, a: dict[str, Value], phase: Operand) -> list[Value]:
    """The row of results of a phase's output 0, and the rows to its next output."""
    return [f.load_i64(a["phase_rows_at"], f.add(f.mul(phase, 2), i)) for i in range(2)]


def _position(f: Function, a: dict[str, Value], axis: str, cell: Operand, phase: Operand) -> Operand:
    return f.add(f.add(f.mul(cell, a[f"out_step_{axis}"]), phase), a[f"out_shift_{axis}"])


def bias_of(f: Function, e: Element, bias: Value, channel: Operand, count: Operand, lanes: int) -> Value:
    """The bias of `count` channels, or +0, which makes +0 of a sum of -0 too: no skipped zero term shows."""
    zero = elements.zero(e, lanes)
    room = f.variable(zero.type, zero)
    f.set(room, zero)
    with f.when(f.emit("i1", f"icmp ne ptr {bias.name}, null")):
        place = f.at(bias, channel, e.storage)
        f.set(
            room,
            elements.load_first(f, e, place, lanes, count) if lanes > 1 else elements.load(f, e, place, 1),
        )
    return f.get(room, zero.type)


class _Channels(NamedTuple):
    """A vector's lanes of output channels: the first, how many there are, their phase, their bias."""

    first: Operand
    present: Operand
    phase: Operand
    bias: Value


def _vectors(
    f: Function, e: Element, lanes: int, a: dict[str, Value], temp: Value, channels: _Channels, q: Operand,
    row: Value, box: Box,
) -> None:  # fmt: skip
    """One output row where channels are contiguous in the results too: vectors as they are."""
    vector = vector_type(lanes, e.accumulator)
    every = f.compare("eq", channels.present, lanes)
    own = f.rem(channels.first, a["tile_outputs"])
    with f.loop(0, a["out_step_w"]) as pw:
        base, _ = _phase_entry(f, a, f.add(channels.phase, pw))
        tile = f.add(base, f.sub(channels.first, own))
        source = f.at(temp, f.add(f.mul(tile, a["temp_pitch"]), own), e.accumulator)
        start = _position(f, a, "w", box.start[3], pw)
        step = a["out_step_w"]
        low = f.ceil_div(f.maximum(0, f.sub(0, start)), step)
        high = f.minimum(box.count[3], f.ceil_div(f.maximum(0, f.sub(a["out_size_w"], start)), step))
        pitch = f.mul(step, a["y_stride_w"])
        first = f.at(row, f.mul(start, a["y_stride_w"]), e.storage)
        for whole in (True, False):
            end = f.select(every, high, low) if whole else f.select(every, low, high)
            with f.loop(low, end) as i:
                place = f.at(source, f.mul(f.add(q, i), a["result_pixel"]), e.accumulator)
                value = elements.plus(f, f.load(vector, place, e.accumulator_bytes), channels.bias)
                pixel = f.at(first, f.mul(i, pitch), e.storage)
                if whole:
                    elements.store(f, e, value, pixel, lanes)
                else:
                    elements.store_first(f, e, value, pixel, lanes, channels.present)


def _pixels(
    f: Function, e: Element, lanes: int, a: dict[str, Value], temp: Value, channels: _Channels, q: Operand,
    row: Value, box: Box,
) -> None:  # fmt: skip
    """One output row where channels are contiguous: squares of channels by cells, transposed in registers."""
    vector = vector_type(lanes, e.accumulator)
    every = f.compare("eq", channels.present, lanes)
    with f.loop(0, a["out_step_w"]) as pw:
        base, scale = _phase_entry(f, a, f.add(channels.phase, pw))
        sources = []
        for j in range(lanes):
            o = f.add(channels.first, f.minimum(j, f.sub(channels.present, 1)))
            number = f.add(base, f.mul(o, scale))
            sources.append(f.at(temp, f.add(f.mul(number, a["temp_pitch"]), q), e.accumulator))
        with f.loop(0, box.count[3], lanes) as i:
            held = [f.load(vector, f.at(s, i, e.accumulator), e.accumulator_bytes) for s in sources]
            values = [elements.plus(f, v, channels.bias) for v in transpose(f, held, lanes)]
            ow = _position(f, a, "w", f.add(box.start[3], i), pw)
            last = f.add(ow, f.mul(lanes - 1, a["out_step_w"]))
            pitch = f.mul(a["out_step_w"], a["y_stride_w"])
            pixel = f.at(row, f.mul(ow, a["y_stride_w"]), e.storage)
            within = f.both(f.compare("sge", ow, 0), f.compare("slt", last, a["out_size_w"]))
            within = f.both(within, f.compare("sle", f.add(i, lanes), box.count[3]))
            whole = f.both(every, within)
            with f.when(whole):
                for k, value in enumerate(values):
                    elements.store(f, e, value, f.at(pixel, f.mul(k, pitch), e.storage), lanes)
            with f.when(f.negate(whole)):
                cells = f.sub(box.count[3], i)
                for k, value in enumerate(values):
                    exists = f.compare("ult", f.add(ow, f.mul(k, a["out_step_w"])), a["out_size_w"])
                    with f.when(f.both(exists, f.compare("slt", k, cells))):
                        place = f.at(pixel, f.mul(k, pitch), e.storage)
                        elements.store_first(f, e, value, place, lanes, channels.present)


def _row(
    f: Function, recipe: Recipe, e: Element, lanes: int, a: dict[str, Value], sources: PhaseRows, q: Operand,
    row: Value, line: Value, span: _Span, bias: Value,
) -> None:  # fmt: skip
    """One output row: gather its phases into `line`, if there are several; write the part that exists."""
    if recipe.out_step == 1:
        source = f.at(sources(0), q, e.accumulator)
    else:
        step = recipe.out_step or a["out_step_w"]
        with f.loop(0, step) as pw:
            phase = f.at(sources(pw), q, e.accumulator)
            with f.loop(0, span.cells) as i:
                item = f.load(e.accumulator, f.at(phase, i, e.accumulator), e.accumulator_bytes)
                f.store(item, f.at(line, f.add(f.mul(i, step), pw), e.accumulator), e.accumulator_bytes)
        source = f.at(line, span.low, e.accumulator)
    target = f.at(row, f.mul(f.add(span.start, span.low), a["y_stride_w"]), e.storage)
    _write(f, recipe, e, lanes, a, source, target, span, bias)


def _interleaved_row(
    f: Function, e: Element, lanes: int, a: dict[str, Value], sources: PhaseRows, q: Operand, row: Value,
    line: Value, span: _Span, bias: Value,
) -> None:  # fmt: skip
    """One output row: a vector of every phase at a time, interleaved and stored where it belongs.

    A long row is made in `line` and stored past the caches from there.
    """
    step = len(span.first)
    vector = vector_type(lanes, e.accumulator)
    spread = elements.broadcast(f, bias, lanes)
    target = f.at(row, span.start, e.storage)
    room = f.select(span.long, line, target)
    phases = [f.at(sources(pw), q, e.accumulator) for pw in range(step)]
    with f.loop(0, span.cells, lanes) as i:
        parts = [f.load(vector, f.at(phase, i, e.accumulator), e.accumulator_bytes) for phase in phases]
        begin = f.mul(i, step)
        values = [elements.plus(f, value, spread) for value in interleave(f, parts, lanes)]
        places = [f.at(room, f.add(begin, j * lanes), e.storage) for j in range(step)]
        end = f.add(begin, lanes * step)
        # The room for a row has space behind, the output has not.
        whole = f.both(f.compare("sge", begin, span.low), f.compare("sle", end, span.high))
        whole = f.emit("i1", f"or i1 {whole.name}, {span.long.name}")
        with f.when(whole):
            for value, place in zip(values, places, strict=True):
                # The same row of the next output is the next but far away: see pack.
                f.prefetch(f.at(place, a["y_stride_m"], e.storage), write=True)
                elements.store(f, e, value, place, lanes)
        with f.when(f.negate(whole)):
            at_first = f.compare("eq", i, 0)
            for j, (value, place) in enumerate(zip(values, places, strict=True)):
                inside = f.select(at_first, span.first[j], span.last[j])
                elements.store_masked(f, e, value, place, lanes, inside)
    with f.when(span.long):
        made, there = (f.at(base, span.low, e.storage) for base in (line, target))
        write_line_past_caches(f, e, lanes, made, there, f.sub(span.high, span.low))


def interleave(f: Function, parts: list[Value], lanes: int) -> list[Value]:
    """The vectors of a row of len(parts) phases: lane l of vector j is element q of phase r, where
    j * lanes + l = q * len(parts) + r.

    Of an even number the even phases and the odd ones are interleaved first: log2(n) shuffles a vector.
    """
    step = len(parts)
    if step == 1:
        return parts
    if step % 2 == 0:
        pairs = zip(*(interleave(f, parts[i::2], lanes) for i in range(2)), strict=True)
        return [_merge(f, list(pair), lanes, j) for pair in pairs for j in range(2)]
    return [_merge(f, parts, lanes, j) for j in range(step)]


def _merge(f: Function, parts: list[Value], lanes: int, j: int) -> Value:
    """Vector j of the interleaved row."""
    where = [divmod(j * lanes + lane, len(parts))[::-1] for lane in range(lanes)]
    merged: Value | None = None
    for p in sorted({phase for phase, _ in where}):
        merged = elements.pick(f, merged, parts[p], p, where)
    assert merged is not None
    return merged


def _write(
    f: Function, recipe: Recipe, e: Element, lanes: int, a: dict[str, Value], source: Value, target: Value,
    span: _Span, bias: Value,
) -> None:  # fmt: skip
    """target[i] = round(source[i] + bias) for every i of the row that exists."""
    count = f.sub(span.high, span.low)
    if recipe.out_unit != "width":
        with f.loop(0, count) as i:
            item = f.load(e.accumulator, f.at(source, i, e.accumulator), e.accumulator_bytes)
            value = elements.plus(f, item, bias)
            elements.store(f, e, value, f.at(target, f.mul(i, a["y_stride_w"]), e.storage), 1)
        return
    spread = elements.broadcast(f, bias, lanes)

    def value_at(i: Operand) -> Value:
        return _sum(f, e, lanes, source, i, spread)

    done = f.variable(I64, Value("0", I64))
    f.set(done, Value("0", I64))
    with f.when(span.long):
        f.set(done, f.i64(_write_past_caches(f, e, lanes, value_at, target, count)))
    begin = f.get(done, I64)
    whole = f.add(begin, f.mul(f.div(f.maximum(0, f.sub(count, begin)), lanes), lanes))
    with f.loop(begin, whole, lanes) as i:
        # The same row of the next output is the next but far away: see pack.
        f.prefetch(f.at(target, f.add(a["y_stride_m"], i), e.storage), write=True)
        elements.store(f, e, value_at(i), f.at(target, i, e.storage), lanes)
    _write_rest(f, e, lanes, value_at, target, whole, count)


def write_part(
    f: Function, e: Element, lanes: int, source: Value, target: Value, count: Operand
) -> None:  # fmt: skip
    """target[i] = source[i] for i in [0, count), and nothing behind."""
    vector = vector_type(lanes, e.accumulator)
    with f.loop(0, count, lanes) as i:
        value = f.load(vector, f.at(source, i, e.accumulator), e.accumulator_bytes)
        elements.store_first(f, e, value, f.at(target, i, e.storage), lanes, f.sub(count, i))


ValueAt: TypeAlias = Callable[[Operand], Value]


def _write_rest(
    f: Function, e: Element, lanes: int, value_at: ValueAt, target: Value, begin: Operand, count: Operand
) -> None:  # fmt: skip
    """The last elements of a row, fewer than a vector."""
    with f.when(f.compare("slt", begin, count)):
        place = f.at(target, begin, e.storage)
        elements.store_first(f, e, value_at(begin), place, lanes, f.sub(count, begin))


def write_line_past_caches(
    f: Function, e: Element, lanes: int, line: Value, target: Value, count: Operand
) -> None:  # fmt: skip
    """A long row that was made beside the output goes there."""

    def value_at(i: Operand) -> Value:
        return elements.load(f, e, f.at(line, i, e.storage), lanes)

    end = _write_past_caches(f, e, lanes, value_at, target, count)
    _write_rest(f, e, lanes, value_at, target, end, count)


def _write_past_caches(
    f: Function, e: Element, lanes: int, value_at: ValueAt, target: Value, count: Operand
) -> Operand:  # fmt: skip
    """A long row of an output that is larger than the caches, but its last few elements: where they begin.

    An ordinary store would first read from memory what it overwrites. Such stores take aligned vectors only.
    """
    head = f.div(f.bytes_to_multiple(target, lanes * e.storage_bytes), e.storage_bytes)
    with f.when(f.compare("sgt", head, 0)):  # a mask without lanes is the slowest of all
        elements.store_first(f, e, value_at(0), target, lanes, head)
    end = f.add(head, f.mul(f.div(f.sub(count, head), lanes), lanes))
    with f.loop(head, end, lanes) as i:
        elements.store_past_caches(f, e, value_at(i), f.at(target, i, e.storage), lanes)
    return end


def _sum(f: Function, e: Element, lanes: int, source: Value, i: Operand, bias: Value) -> Value:
    """source[i:i + lanes] + bias."""
    vector = vector_type(lanes, e.accumulator)
    return elements.plus(f, f.load(vector, f.at(source, i, e.accumulator), e.accumulator_bytes), bias)
