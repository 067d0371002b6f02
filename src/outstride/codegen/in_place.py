"""Layers of one channel a group, read where they lie and written where they belong: no strip, no results.

With one channel there is little to sum and nothing to share between outputs but input rows, so a copy of the
input would cost as much as the sums. A register tile is some output rows by some vectors of each, and reads
every input row that it needs once for each tap along the width:

    for kd in taps along the depth:
        for u in input rows of the tile:           # written out: which rows of the tile reach u is known
            for kw in taps along the width:
                vectors = x[kd, u, kw...]          # lanes beyond the input are +0 and not read
                for r, kh in rows that reach u:
                    acc[r] = fma(w[kd, kh, kw], vectors, acc[r])

Row r adds its terms in the order of law 4: its input rows come by ascending kernel row. Which lanes exist
depends on the column alone, so a task finds it out once, as a bit for each lane.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from outstride.codegen import elements
from outstride.codegen.arguments import GROUP_INDEX, INDEX
from outstride.codegen.box import BOX, Box, decode_box
from outstride.codegen.elements import ELEMENTS, Element
from outstride.codegen.ir import I64, PTR, Function, Operand, Value, module, vector_type
from outstride.codegen.microkernel import fused, zero_accumulators
from outstride.codegen.results import bias_of
from outstride.codegen.tasks import read_arguments, take_tasks
from outstride.planner.machine import INSTRUCTION_SETS
from outstride.planner.recipe import Recipe, Tile, Window


def in_place_source(recipe: Recipe, window: Window) -> str:
    """The LLVM IR of the kernel of a recipe that has a window."""
    e = ELEMENTS[recipe.dtype]
    lanes = INSTRUCTION_SETS[recipe.instruction_set].lanes(e.accumulator_bytes)
    functions = [
        _survey(recipe, window, lanes),
        *(_tile(recipe, window, e, lanes, tile) for tile in window.tiles),
        _task(recipe, window, e, lanes), take_tasks(INDEX),
    ]  # fmt: skip
    return module(functions, f"outstride gather_{recipe.name}")


@dataclass(frozen=True)
class _Taps:
    """The taps along the width, what the first tap adds to a row, and what all add to a position."""

    count: Value
    height: Value
    offsets_at: Value

    @classmethod
    def of(cls, f: Function, a: dict[str, Value]) -> _Taps:
        """The taps of the only group of phases."""
        group = a["phase_groups_at"]
        offsets = f.load(PTR, f.at(group, GROUP_INDEX["tap_offsets_at"], I64), 8)
        count = f.load_i64(group, GROUP_INDEX["taps_w"])
        return cls(count, f.load_i32(offsets, 1), offsets)

    def offset(self, f: Function, tap: Operand) -> Value:
        """What a tap adds to a column."""
        return f.load_i32(self.offsets_at, f.add(f.mul(tap, 3), 2))


def _masks_of(f: Function, recipe: Recipe, taps: _Taps, vectors: Operand) -> Operand:
    """The masks of so many vectors: of each tap and part that a stride deals out, and of the outputs."""
    return f.mul(f.add(f.mul(taps.count, recipe.in_step), 1), vectors)


def _across(f: Function, box: Box, lanes: int) -> Operand:
    """Vectors of a row of a box."""
    return f.ceil_div(box.count[3], lanes)


@contextmanager
def _tiles_of_row(f: Function, window: Window, across: Operand) -> Iterator[tuple[Value, Operand]]:
    """For each tile of a row of so many vectors: the first of its own, and their number, about the same."""
    first = f.variable(I64)
    f.set(first, f.i64(0))
    with f.forever() as done:
        q = f.get(first, I64)
        f.leave_when(f.compare("sge", q, across), done)
        left = f.sub(across, q)
        size = f.ceil_div(left, f.ceil_div(left, window.widest.vectors))
        yield q, size
        f.set(first, f.i64(f.add(q, size)))


def _survey(recipe: Recipe, window: Window, lanes: int) -> Function:
    """`survey(block, scratch, box)`: which lanes of a row exist, as bits in the order in which they are read.

    Tiles of a row one behind the other; in each the taps and at last the outputs, for each of these the
    vectors, for each vector its parts. Behind them as many masks without lanes, for rows that do not exist.
    """
    f = Function("survey", [("block", PTR), ("scratch", PTR), *BOX], internal=True, rare=True)
    block, scratch, *numbers = f.parameters
    a = read_arguments(f, block, INDEX)
    box, step = Box.of(numbers), recipe.in_step
    taps, across = _Taps.of(f, a), _across(f, box, lanes)
    with _tiles_of_row(f, window, across) as (q, size):
        masks = f.at(scratch, _masks_of(f, recipe, taps, q), f"i{lanes}")
        with f.loop(0, size) as j:
            column = f.mul(f.add(q, j), lanes)
            with f.loop(0, taps.count) as tap:
                start = f.mul(f.add(box.start[3], column), step)
                start = f.add(start, taps.offset(f, tap))
                for part in range(step):
                    inside = elements.lanes_within(f, f.add(start, part * lanes), a["in_size_w"], lanes)
                    number = f.add(f.mul(f.add(f.mul(tap, size), j), step), part)
                    elements.keep_mask(f, inside, masks, number, lanes)
            inside = elements.lanes_within(f, column, box.count[3], lanes)
            number = f.add(f.mul(f.mul(taps.count, size), step), j)
            elements.keep_mask(f, inside, masks, number, lanes)
    none = f.at(scratch, a["blank_bytes_offset"], "i8")
    with f.loop(0, f.mul(f.mul(taps.count, step), window.widest.vectors)) as i:
        elements.keep_mask(f, Value("zeroinitializer", vector_type(lanes, "i1")), none, i, lanes)
    return f


#: What tiles are told: tensors at their plane and at the tile's first column, masks, and the rows.
_TILE = (
    ("block", PTR), ("x", PTR), ("w", PTR), ("y", PTR), ("bias", PTR), ("masks", PTR), ("blank", PTR),
    ("plane", I64), ("first_row", I64), ("rows", I64),
)  # fmt: skip


def _tile(recipe: Recipe, window: Window, e: Element, lanes: int, tile: Tile) -> Function:
    """`<tile>(...)`: rows of a plane, `tile.rows` at a time, as many vectors of each as the tile has.

    `plane` is the input's depth at tap offset 0, `bias` may be null, `blank` are masks without lanes.
    """
    f = Function(tile.name, _TILE, internal=True)
    block, x, w, y, bias, masks, blank, plane, first_row, rows = f.parameters
    a = read_arguments(f, block, INDEX)
    taps, vector = _Taps.of(f, a), vector_type(lanes, e.accumulator)
    added = elements.broadcast(f, bias_of(f, e, bias, 0, 1, 1), lanes)
    taps_d = f.load_i64(a["phase_groups_at"], GROUP_INDEX["taps_d"])
    left_out = f.compare("ne", a["skips"], 0)
    present = f.at(masks, f.mul(taps.count, tile.vectors * recipe.in_step), f"i{lanes}")
    last = f.at(present, tile.vectors - 1, f"i{lanes}")
    # Narrow tiles are those of narrow rows.
    past = _past_caches(f, a, lanes, last) if tile.rows == window.widest.rows else None
    with f.loop(0, rows, tile.rows) as h:
        sums = zero_accumulators(f, e, tile.rows, tile.vectors, lanes)
        top = f.add(f.mul(f.add(first_row, h), window.in_step), taps.height)
        with f.loop(0, taps_d) as kd:
            of_plane = f.mul(f.mul(kd, taps.count), window.taps)
            deep = f.add(plane, f.load_i32(taps.offsets_at, f.mul(of_plane, 3)))
            sheet = f.at(x, f.mul(deep, a["x_stride_d"]), e.storage)
            panel = f.at(w, of_plane, e.accumulator)
            exists = f.compare("ult", deep, a["in_size_d"])
            for at, reached in window.rows(tile.rows):
                u = f.add(top, at)
                here = f.both(exists, f.compare("ult", u, a["in_size_h"]))
                missed = f.both(left_out, f.negate(here))
                with f.when(f.negate(missed)):
                    line = f.at(sheet, f.mul(u, a["x_stride_h"]), e.storage)
                    own = f.select(here, masks, blank)
                    _line(f, recipe, window, e, lanes, taps, line, panel, own, sums, reached)
        for r, row in enumerate(sums):
            with f.when(f.compare("slt", r, f.sub(rows, h))):
                target = f.at(y, f.mul(f.add(f.add(first_row, h), r), a["y_stride_h"]), e.storage)
                values = [elements.plus(f, f.get(s, vector), added) for s in row]
                _store(f, e, lanes, values, target, present, past)
    return f


def _past_caches(f: Function, a: dict[str, Value], lanes: int, last: Value) -> Value:
    """Whether a tile's rows are stored past the caches: if they are parts of long ones, and whole."""
    long = f.compare("sge", a["cells_w"], a["past_caches"])
    bits = f.load(f"i{lanes}", last, lanes // 8)
    return f.both(long, f.emit("i1", f"icmp eq i{lanes} {bits.name}, -1"))


def _line(
    f: Function, recipe: Recipe, window: Window, e: Element, lanes: int, taps: _Taps, line: Value,
    panel: Value, masks: Value, sums: list[list[Value]], reached: list[tuple[int, int]],
) -> None:  # fmt: skip
    """One input row: every tap along the width, into the rows (r, kh) that reach it.

    Taps that step through the same elements take their share of vectors that are loaded once.
    """
    step, vectors = recipe.in_step, len(sums[0])
    vector = vector_type(lanes, e.accumulator)
    weights = {r: f.at(panel, f.mul(taps.count, k), e.accumulator) for r, k in reached}
    with f.loop(0, taps.count, window.shared) as first:
        place = f.at(line, taps.offset(f, first), e.storage)
        own = f.at(masks, f.mul(first, vectors * step), f"i{lanes}")
        read = []
        for number in range(vectors * step):
            inside = elements.kept_mask(f, own, number, lanes)
            at = f.at(place, number * lanes, e.storage)
            read.append(elements.load_masked(f, e, at, lanes, inside))
        for s in range(window.shared):
            tap = f.add(first, s)
            with f.when(f.compare("slt", tap, taps.count)) if s else nullcontext():
                dealt = [elements.deal(f, read[j * step : (j + 1) * step], lanes, s) for j in range(vectors)]
                for r, weight in weights.items():
                    scalar = f.load(e.accumulator, f.at(weight, tap, e.accumulator), e.accumulator_bytes)
                    spread = elements.broadcast(f, scalar, lanes)
                    for total, v in zip(sums[r], dealt, strict=True):
                        f.set(total, fused(f, e, lanes, spread, v, f.get(total, vector)))


def _store(
    f: Function, e: Element, lanes: int, values: list[Value], row: Value, present: Value, past: Value | None
) -> None:  # fmt: skip
    """Round and store the outputs of a row that exist, `past` the caches where whole vectors are aligned."""
    places = [f.at(row, j * lanes, e.storage) for j in range(len(values))]
    ordinary = None
    if past is not None:
        aligned = f.compare("eq", f.bytes_to_multiple(row, lanes * e.storage_bytes), 0)
        past = f.both(past, aligned)
        with f.when(past):
            for value, place in zip(values, places, strict=True):
                elements.store_past_caches(f, e, value, place, lanes)
        ordinary = f.negate(past)
    with nullcontext() if ordinary is None else f.when(ordinary):
        for j, (value, place) in enumerate(zip(values, places, strict=True)):
            inside = elements.kept_mask(f, present, j, lanes)
            elements.store_masked(f, e, value, place, lanes, inside)


def _task(recipe: Recipe, window: Window, e: Element, lanes: int) -> Function:
    """A box of some groups: survey it, then sum every image and output, a tile's width at a time."""
    f = Function("task", [("block", PTR), ("scratch", PTR), ("number", I64)], internal=True)
    block, scratch, number = f.parameters
    a = read_arguments(f, block, INDEX)
    box, number_of_groups = decode_box(f, a, number)
    f.run("survey", block, scratch, *box.numbers)
    taps, across = _Taps.of(f, a), _across(f, box, lanes)
    absent = f.emit("i1", f"icmp eq ptr {a['bias_at'].name}, null")
    first_group = f.mul(number_of_groups, a["groups_per_task"])
    last_group = f.minimum(f.add(first_group, a["groups_per_task"]), a["groups"])
    blank = f.at(scratch, a["blank_bytes_offset"], "i8")
    plane = f.mul(box.start[1], a["in_step_d"])
    # Wide rows are made from end to end before the next ones: memory is read as it lies.
    wide = f.compare("sgt", across, window.widest.vectors + 1)
    together = f.select(wide, window.widest.rows, box.count[2])
    with (
        f.loop(0, box.count[0]) as image,
        f.loop(first_group, last_group) as group,
        f.loop(0, a["outputs"]) as output,
        f.loop(0, box.count[2], together) as top,
    ):
        n = f.add(box.start[0], image)
        source = f.add(f.mul(n, a["x_stride_n"]), f.mul(group, a["x_stride_g"]))
        target = f.add(f.mul(n, a["y_stride_n"]), f.mul(group, a["y_stride_g"]))
        sheet = f.add(f.mul(output, a["y_stride_m"]), f.mul(box.start[1], a["y_stride_d"]))
        panel = f.add(f.mul(group, a["w_stride_g"]), f.mul(output, a["w_stride_chunk"]))
        own_bias = f.at(a["bias_at"], f.add(f.mul(group, a["outputs"]), output), e.storage)
        bias = f.select(absent, Value("null", PTR), own_bias)
        with _tiles_of_row(f, window, across) as (q, size):
            column = f.add(box.start[3], f.mul(q, lanes))
            x = f.at(a["x_at"], f.add(source, f.mul(column, recipe.in_step)), e.storage)
            y = f.at(a["y_at"], f.add(f.add(target, sheet), column), e.storage)
            w = f.at(a["w_at"], panel, e.accumulator)
            masks = f.at(scratch, _masks_of(f, recipe, taps, q), f"i{lanes}")
            for tile in window.tiles:
                with f.when(f.compare("eq", size, tile.vectors)):
                    f.run(
                        tile.name, block, x, w, y, bias, masks, blank, plane,
                        f.add(box.start[2], top), f.minimum(together, f.sub(box.count[2], top)),
                    )  # fmt: skip
    return f
