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

Row r adds its terms in the order of law 4: its input rows come by ascending kernel row.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

from outstride.codegen import elements
from outstride.codegen.arguments import GROUP_INDEX, INDEX
from outstride.codegen.bands import (
    AHEAD_BYTES,
    TILE,
    store_row,
    stored_past_caches,
    task_function,
    tiles_of_row,
    vectors_across,
)
from outstride.codegen.box import BOX, Box
from outstride.codegen.elements import Element
from outstride.codegen.ir import I64, PTR, Function, Operand, Value, vector_type
from outstride.codegen.microkernel import fused, zero_accumulators
from outstride.codegen.results import bias_of
from outstride.codegen.tasks import read_arguments
from outstride.planner.recipe import Recipe
from outstride.planner.tiles import Tile
from outstride.planner.windows import Window


def in_place_functions(recipe: Recipe, window: Window, e: Element, lanes: int) -> list[Function]:
    """`survey`, the tiles and `task` of a layer that makes one output of an input element, or fewer."""
    return [
        _survey(recipe, window, lanes),
        *(_tile(recipe, window, e, lanes, tile) for tile in window.tiles),
        task_function(recipe, window, e, lanes, lambda f, a: _masks_of(f, recipe, _Taps.of(f, a), 1)),
    ]


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


def _survey(recipe: Recipe, window: Window, lanes: int) -> Function:
    """`survey(block, scratch, box)`: which lanes of a row exist, as bits in the order in which they are read.

    Tiles of a row one behind the other; in each the taps and at last the outputs, for each of these the
    vectors, for each vector its parts. Behind them as many masks without lanes, for rows that do not exist.
    """
    f = Function("survey", [("block", PTR), ("scratch", PTR), *BOX], internal=True, rare=True)
    block, scratch, *numbers = f.parameters
    a = read_arguments(f, block, INDEX)
    box, step = Box.of(numbers), recipe.in_step
    taps, across = _Taps.of(f, a), vectors_across(f, box, lanes)
    with tiles_of_row(f, window, across) as (q, size):
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


def _tile(recipe: Recipe, window: Window, e: Element, lanes: int, tile: Tile) -> Function:
    """`<tile>(...)`: rows of a plane, `tile.rows` at a time, as many vectors of each as the tile has.

    `plane` is the input's depth at tap offset 0, `bias` may be null, `blank` are masks without lanes.
    """
    f = Function(tile.name, TILE, internal=True)
    block, x, w, y, bias, masks, blank, plane, first_row, rows = f.parameters
    a = read_arguments(f, block, INDEX)
    taps, vector = _Taps.of(f, a), vector_type(lanes, e.accumulator)
    added = elements.broadcast(f, bias_of(f, e, bias, 0, 1, 1), lanes)
    taps_d = f.load_i64(a["phase_groups_at"], GROUP_INDEX["taps_d"])
    left_out = f.compare("ne", a["skips"], 0)
    present = f.at(masks, f.mul(taps.count, tile.vectors * recipe.in_step), f"i{lanes}")
    last = f.at(present, tile.vectors - 1, f"i{lanes}")
    # Narrow tiles are those of narrow rows.
    past = stored_past_caches(f, a, lanes, last) if tile.rows == window.widest.rows else None
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
                store_row(f, e, lanes, values, target, present, past)
    return f


def _line(
    f: Function, recipe: Recipe, window: Window, e: Element, lanes: int, taps: _Taps, line: Value,
    panel: Value, masks: Value, sums: list[list[Value]], reached: list[tuple[int, int]],
) -> None:  # fmt: skip
    """One input row: every tap along the width, into the rows (r, kh) that reach it.

    Taps that step through the same elements take their share of vectors that are loaded once.
    """
    step, vectors = recipe.in_step, len(sums[0])
    vector = vector_type(lanes, e.accumulator)
    begin = f.at(line, taps.offset(f, 0), e.storage)
    for number in range(vectors * step):
        f.prefetch(f.at(f.at(begin, number * lanes, e.storage), AHEAD_BYTES, "i8"))
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
