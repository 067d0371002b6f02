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

A few taps next to each other are written out, too: the vectors of an input row are loaded once, from where
the first tap begins, and what each tap reads is put together from two of them.

Row r adds its terms in the order of law 4: its input rows come by ascending kernel row.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise

from outstride.engine.codegen import elements
from outstride.engine.codegen.arguments import GROUP_INDEX
from outstride.engine.codegen.box import BOX, Box
from outstride.engine.codegen.context import Context, Kernel
from outstride.engine.codegen.dataflows.in_place_tasks import (
    PREFETCH_BYTES,
    finished,
    store_row,
    stored_nontemporally,
    task_function,
    tile_function,
    tiles_of_row,
    vectors_across,
)
from outstride.engine.codegen.dataflows.in_place_transposed import transposed_functions
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value
from outstride.engine.codegen.registers import Sums, add_products, zero_sums
from outstride.engine.codegen.steps import epilogue, prologue
from outstride.engine.planner.dataflow import Tile
from outstride.engine.planner.dataflows.in_place import IN_PLACE
from outstride.engine.planner.unrolled import UnrolledPhases, UnrolledTaps


def functions(kernel: Kernel) -> list[Function]:
    """What a kernel is made of that reads its input where it lies."""
    unrolled = kernel.recipe.unrolled
    if isinstance(unrolled, UnrolledPhases):
        return transposed_functions(kernel, unrolled)
    assert isinstance(unrolled, UnrolledTaps), "a kernel that reads in place is written for its taps"
    return [
        _survey(kernel, unrolled),
        *(_tile(kernel, unrolled, tile) for tile in IN_PLACE.tiles_of(unrolled)),
        task_function(kernel, unrolled, lambda k: _masks_of(k, unrolled, _Taps.of(k))),
    ]


@dataclass(frozen=True)
class _Taps:
    """The taps along the width, what the first tap adds to a row, and what all add to a position."""

    count: Value
    height: Value
    offsets_at: Value

    @classmethod
    def of(cls, k: Context) -> _Taps:
        """The taps of the only group of phases."""
        f, group = k.f, k.a["phase_groups_at"]
        offsets = f.load(PTR, f.at(group, GROUP_INDEX["tap_offsets_at"], I64), 8)
        count = f.load_i64(group, GROUP_INDEX["taps_w"])
        return cls(count, f.load_i32(offsets, 1), offsets)

    def offset(self, f: Function, tap: Operand) -> Value:
        """What a tap adds to a column."""
        return f.load_i32(self.offsets_at, f.add(f.mul(tap, 3), 2))


def _masks_of(k: Context, unrolled: UnrolledTaps, taps: _Taps) -> Operand:
    """The masks of a vector of outputs, at most: what `UnrolledTaps.masks` says, of so many taps."""
    if unrolled.written_out(unrolled.widest.vectors):
        return unrolled.masks(k.recipe.in_step, unrolled.across)
    return k.f.add(k.f.mul(taps.count, k.recipe.in_step), 1)


def _masks_read(k: Context, unrolled: UnrolledTaps, taps: _Taps, vectors: int) -> Operand:
    """The masks of what a tile of so many vectors reads of a row; those of its outputs are next."""
    reads = unrolled.reads(vectors, k.recipe.in_step)
    return reads if unrolled.written_out(vectors) else k.f.mul(taps.count, reads)


def _survey(kernel: Kernel, unrolled: UnrolledTaps) -> Function:
    """`survey(block, scratch, box)`: which lanes of a row exist, as bits in the order in which they are read.

    Tiles of a row one behind the other; in each the taps, or all of them at once where they are written out,
    for each of these the vectors that it reads; at last the outputs.
    """
    k = kernel.function("survey", ("scratch", PTR), *BOX, rare=True)
    f, a, lanes = k.f, k.a, k.lanes
    scratch, *numbers = k.parameters
    box, step = Box.of(numbers), k.recipe.in_step
    taps, across = _Taps.of(k), vectors_across(k, box)
    with tiles_of_row(k, across) as (q, size):
        masks = f.at(scratch, f.mul(_masks_of(k, unrolled, taps), q), f"i{lanes}")
        begin = f.mul(f.add(box.start[3], f.mul(q, lanes)), step)
        for vectors in sorted({shape.vectors for shape in unrolled.shapes}):
            with f.when(f.compare("eq", size, vectors)):
                length = unrolled.reads(vectors, step)
                runs, first = (1, unrolled.first) if unrolled.written_out(vectors) else (taps.count, 0)
                with f.loop(0, runs) as run, f.loop(0, length) as i:
                    start = f.add(begin, taps.offset(f, f.add(run, first)))
                    inside = elements.lanes_within(f, f.add(start, f.mul(i, lanes)), a["in_size_w"], lanes)
                    elements.keep_mask(f, inside, masks, f.add(f.mul(run, length), i), lanes)
                made = f.at(masks, f.mul(runs, length), f"i{lanes}")
                with f.loop(0, vectors) as j:
                    column = f.mul(f.add(q, j), lanes)
                    inside = elements.lanes_within(f, column, box.count[3], lanes)
                    elements.keep_mask(f, inside, made, j, lanes)
    return f


def _tile(kernel: Kernel, unrolled: UnrolledTaps, tile: Tile) -> Function:
    """`<tile>(...)`: rows of a plane, `tile.rows` at a time, as many vectors of each as the tile has.

    `plane` is the input's depth at tap offset 0.
    """
    k = tile_function(kernel, tile)
    f, e, a, lanes = k.f, k.e, k.a, k.lanes
    x, w, y, channel, masks, plane, first_row, rows = k.parameters
    taps = _Taps.of(k)
    loaded = epilogue.load(k, channel, 0, 1, 1).broadcast(k)
    taps_d = f.load_i64(a["phase_groups_at"], GROUP_INDEX["taps_d"])
    present = f.at(masks, _masks_read(k, unrolled, taps, tile.vectors), f"i{lanes}")
    last = f.at(present, tile.vectors - 1, f"i{lanes}")
    # Narrow tiles are those of narrow rows.
    nontemporal = stored_nontemporally(k, last) if tile.rows == unrolled.widest.rows else None
    # Of taps that are written out the few masks stay in registers.
    at_once = unrolled.written_out(tile.vectors)
    kept = range(unrolled.reads(tile.vectors, k.recipe.in_step)) if at_once else ()
    inside = [elements.kept_mask(f, masks, number, lanes) for number in kept]
    with f.loop(0, rows, tile.rows) as h:
        sums = zero_sums(k, tile.rows, tile.vectors)
        top = f.add(f.mul(f.add(first_row, h), unrolled.in_step), taps.height)
        with f.loop(0, taps_d) as kd:
            of_plane = f.mul(f.mul(kd, taps.count), unrolled.taps)
            deep = f.add(plane, f.load_i32(taps.offsets_at, f.mul(of_plane, 3)))
            sheet = f.at(x, f.mul(deep, a["x_stride_d"]), e.storage)
            panel = f.at(w, of_plane, e.accumulator)
            exists = f.compare("ult", deep, a["in_size_d"])
            for at, reached in unrolled.rows(tile.rows):
                u = f.add(top, at)
                with f.when(f.both(exists, f.compare("ult", u, a["in_size_h"]))):
                    line = f.at(sheet, f.mul(u, a["x_stride_h"]), e.storage)
                    first = unrolled.first if at_once else 0
                    begin = f.at(line, taps.offset(f, first), e.storage)
                    _prefetch(k, begin, tile.vectors * k.recipe.in_step)
                    weights = {r: f.at(panel, f.mul(taps.count, k), e.accumulator) for r, k in reached}
                    if at_once:
                        read = _read(k, begin, inside)
                        for tap in range(unrolled.across):
                            values = _of_tap(k, unrolled, read, tile.vectors, tap)
                            _add(k, weights, tap, values, sums)
                    else:
                        _line(k, unrolled, taps, line, masks, weights, sums)
        for r, row in enumerate(sums):
            with f.when(f.compare("slt", r, f.sub(rows, h))):
                target = f.at(y, f.mul(f.add(f.add(first_row, h), r), a["y_stride_h"]), e.storage)
                totals = [f.get(s, k.vector) for s in row]
                store_row(k, finished(k, loaded, totals, target, present), target, present, nontemporal)
    return f


def _prefetch(k: Context, begin: Value, vectors: int) -> None:
    """Prefetch what lies a while behind the vectors of a row."""
    f = k.f
    for number in range(vectors):
        f.prefetch(f.at(f.at(begin, number * k.lanes, k.e.storage), PREFETCH_BYTES, "i8"))


def _line(
    k: Context, unrolled: UnrolledTaps, taps: _Taps, line: Value, masks: Value, weights: dict[int, Value],
    sums: Sums,
) -> None:  # fmt: skip
    """One input row: every tap along the width, into the rows whose weights these are.

    Taps that step through the same elements take their share of vectors that are loaded once.
    """
    f, lanes = k.f, k.lanes
    step, vectors = k.recipe.in_step, len(sums[0])
    with f.loop(0, taps.count, unrolled.shared) as first:
        place = f.at(line, taps.offset(f, first), k.e.storage)
        own = f.at(masks, f.mul(first, vectors * step), f"i{lanes}")
        # A tile's inner vectors exist as a whole: the planner sees to it.
        inner = range(1, vectors - 1) if unrolled.unmasked(step) else ()
        inside = [
            None if number in inner else elements.kept_mask(f, own, number, lanes)
            for number in range(vectors * step)
        ]
        read = _read(k, place, inside)
        for s in range(unrolled.shared):
            with f.when(f.compare("slt", f.add(first, s), taps.count)) if s else nullcontext():
                dealt = [elements.deal(f, read[j * step : (j + 1) * step], lanes, s) for j in range(vectors)]
                _add(k, weights, f.add(first, s), dealt, sums)


def _read(k: Context, place: Value, inside: Sequence[Value | None]) -> list[Value]:
    """Vectors one behind the other, of each the lanes that are inside, or all."""
    read = elements.load_behind(k.f, k.e, place, k.lanes, inside)
    return [prologue.taken(k, value, k.lanes) for value in read]


def _of_tap(k: Context, unrolled: UnrolledTaps, read: list[Value], vectors: int, tap: int) -> list[Value]:
    """What a tap that is written out reads: its share of vectors one behind the other, from its place on."""
    f, lanes, step = k.f, k.lanes, unrolled.shared
    further, residue = divmod(abs(tap - unrolled.first), step)
    dealt = [elements.deal(f, read[j * step : (j + 1) * step], lanes, residue) for j in range(vectors)]
    if not further:
        return dealt
    inner, outer = list(range(further)), [residue + step * i for i in range(further)]
    moved = [_moved(f, lanes, value, behind, inner) for value, behind in pairwise(dealt)]
    # Of the vector behind the last a few elements are needed, and it is not dealt out.
    return [*moved, _moved(f, lanes, dealt[-1], read[-1], outer)]


def _moved(f: Function, lanes: int, value: Value, behind: Value, last: list[int]) -> Value:
    """A vector without so many first lanes, and these lanes of the one behind it at its end."""
    where = [(0, lane) for lane in range(len(last), lanes)] + [(1, lane) for lane in last]
    return elements.pick(f, elements.pick(f, None, value, 0, where), behind, 1, where)


def _add(
    k: Context, weights: dict[int, Value], tap: Operand, values: list[Value], sums: Sums
) -> None:  # fmt: skip
    """A tap's products, into the rows whose weights these are."""
    for r, weight in weights.items():
        add_products(k, sums[r], k.f.at(weight, tap, k.e.accumulator), values)
