"""The dataflow "pixels" in code: vectors are neighbouring inputs of the strip, and weights are broadcast."""

from __future__ import annotations

from outstride.engine.codegen.box import Region
from outstride.engine.codegen.context import Context, Vectors
from outstride.engine.codegen.ir import Operand, Value
from outstride.engine.codegen.loops import NO_LATER, Later, TileLoop
from outstride.engine.codegen.outer_products import OuterProduct, Parameters, ResultRows, TileResults
from outstride.engine.codegen.registers import Sums, add_products, vectors_at
from outstride.engine.codegen.results import write_finished, write_part
from outstride.engine.codegen.steps import epilogue
from outstride.engine.planner.dataflow import LOOPS, Tile
from outstride.engine.planner.dataflows.pixels import MOST_OUTPUTS


class _RowResults(ResultRows):
    """A vector of pixels lies along a row of results; a row belongs to an output channel."""

    def start(self, row: int) -> Value:
        pitch = self.k.f.mul(row, self.p.results_pitch)
        return self.k.f.at(self.p.results, pitch, self.k.e.accumulator)


class Pixels(OuterProduct):
    """Vectors of inputs, each weight of a term broadcast to them."""

    def results(self, k: Vectors, tile: Tile, p: Parameters) -> TileResults:
        return _RowResults(k, tile, p)

    def inputs(self, k: Vectors, tile: Tile, p: Parameters) -> list[Value]:
        del k, tile
        return [p.x]

    def width(self, tile: Tile, lanes: int) -> int:
        del lanes
        return tile.rows

    def term(
        self, k: Vectors, tile: Tile, sums: Sums, weights: Value, inputs: list[Value], offset: Value
    ) -> None:  # fmt: skip
        f, e = k.f, k.e
        vectors = vectors_at(k, tile.vectors, f.at(inputs[0], offset, e.accumulator))
        for i, row in enumerate(sums):
            add_products(k, row, f.at(weights, i, e.accumulator), vectors)

    def finish(self, k: Vectors, tile: Tile, p: Parameters, sums: Sums) -> None:
        """Tiles that store their results where they belong apply the epilogue themselves."""
        del tile
        epilogue.apply_to_rows(k, p.bias, sums)


def results_in_scratch(k: Context) -> Value:
    """Whether results wait in scratch to be written: tiles have not stored them."""
    own = (k.f.compare("ne", k.a["loop"], LOOPS.index(loop)) for loop in ("direct", "stored"))
    return k.f.both(*own)


def _call(
    loop: TileLoop, x: Value, out: Value, pitch: Operand, runs: tuple[Value, Value], operands: Value,
    later: tuple[Operand, ...],
) -> None:  # fmt: skip
    """A tile: its first input, where its results go and how far apart, taps, epilogue, weights asked for."""
    loop.prefetch()
    loop.call(
        x, epilogue.NOTHING, loop.w, out, pitch, *loop.blocks, loop.g["taps"], *runs, *loop.rest, operands,
        *later,
    )  # fmt: skip


def over_rows(loop: TileLoop) -> None:
    """Every vector of the box, over row ends.

    Rows of cells lie one behind the other in the strip; the few lanes between two rows are computed and
    not written.
    """
    k, box = loop.k, loop.box
    f, a = k.f, k.a
    plane = f.add(f.mul(f.sub(box.count[2], 1), a["strip_w"]), box.count[3])
    nested = f.compare("ne", a["spans"], 0)
    deep = f.mul(f.sub(box.count[1], 1), a["depth_pitch"])
    whole = f.add(f.add(plane, deep), f.mul(f.sub(box.count[0], 1), a["image_pitch"]))
    spans = loop.times("pixels", f.select(nested, box.count[1], 1))
    length = f.select(nested, plane, whole)
    region, runs = Region.at(f, a, 0), loop.all_taps()
    later = Later.of(loop, f.mul(spans, f.ceil_div(length, a["tile_pixels"])))
    with f.loop(0, spans) as span, f.loop(0, length, a["tile_pixels"]) as q:
        place = f.add(f.mul(span, a["depth_pitch"]), q)
        x, out = (f.at(base, place, k.e.accumulator) for base in (loop.strip, loop.row))
        own = loop.own_taps(region, box, q, a["tile_pixels"], runs)
        _call(loop, x, out, a["temp_pitch"], own, epilogue.NOTHING, later.arguments())
        later.go_on()


def direct(loop: TileLoop) -> None:
    """Every vector, on its way straight to where it belongs in the output: row by row.

    Planes that lie in the output as in the strip, without gaps, are rows themselves. A tile stores its
    results itself, with their bias. Tiles that reach beyond a row or the last output go to the room, and what
    exists of them on from there; so do all where steps follow, which are done on the way.
    """
    k, box, outputs = loop.k, loop.box, loop.outputs
    f, a, e = k.f, k.a, k.e
    operands = f.variable(f"[{MOST_OUTPUTS * epilogue.staged_count(k)} x {e.accumulator}]")
    epilogue.stage(
        k, outputs.first_channel, outputs.first, loop.times("direct", outputs.count), operands
    )  # fmt: skip
    start = f.mul(outputs.first, a["y_stride_m"])
    for axis, first in zip("dhw", box.start[1:], strict=True):
        start = f.add(start, f.mul(first, a[f"y_stride_{axis}"]))
    flat = f.both(*(f.compare("eq", a["strip_w"], row) for row in (box.count[3], a["y_stride_h"])))
    rows = f.select(flat, 1, box.count[2])
    length = f.select(flat, f.mul(box.count[2], box.count[3]), box.count[3])
    region, runs = Region.at(f, a, 0), loop.all_taps()
    with (
        f.loop(0, loop.times("direct", box.count[0])) as n,
        f.loop(0, box.count[1]) as d,
        f.loop(0, rows) as h,
        f.loop(0, length, a["tile_pixels"]) as q,
    ):
        place: Operand = q
        there = f.add(start, q)
        for i, pitch, axis in ((n, "image_pitch", "n"), (d, "depth_pitch", "d"), (h, "strip_w", "h")):
            place = f.add(place, f.mul(i, a[pitch]))
            there = f.add(there, f.mul(i, a[f"y_stride_{axis}"]))
        out = f.at(outputs.target, there, e.storage)
        own = loop.own_taps(region, box, place, a["tile_pixels"], runs)
        x = f.at(loop.strip, place, e.accumulator)
        exist = f.minimum(a["tile_pixels"], f.sub(length, q))
        make = _finished_tile if k.recipe.epilogue.steps else _stored_tile
        make(loop, x, out, own, operands, exist)


def _stored_tile(
    loop: TileLoop, x: Value, out: Value, runs: tuple[Value, Value], operands: Value, exist: Operand
) -> None:  # fmt: skip
    """A tile that stores its results itself, if all of them exist."""
    k, outputs = loop.k, loop.outputs
    f, a, e = k.f, k.a, k.e
    every = f.compare("eq", outputs.count, a["tile_outputs"])
    whole = f.both(every, f.compare("eq", exist, a["tile_pixels"]))
    to, pitch = f.select(whole, out, loop.room), f.select(whole, a["y_stride_m"], a["temp_pitch"])
    _call(loop, x, to, pitch, runs, operands, NO_LATER)
    with f.when(f.negate(whole)), f.loop(0, outputs.count) as i:
        source = f.at(loop.room, f.mul(i, a["temp_pitch"]), e.accumulator)
        target = f.at(out, f.mul(i, a["y_stride_m"]), e.storage)
        write_part(k, source, target, exist)


def _finished_tile(
    loop: TileLoop, x: Value, out: Value, runs: tuple[Value, Value], operands: Value, exist: Operand
) -> None:  # fmt: skip
    """A tile that goes to the room, and from there through the steps to the output."""
    k, outputs = loop.k, loop.outputs
    f, a, e = k.f, k.a, k.e
    if k.recipe.epilogue.reads_tensors:  # it comes while the tile is summed
        with f.loop(0, outputs.count) as i, f.loop(0, exist, k.lanes) as j:
            there = f.at(out, f.add(f.mul(i, a["y_stride_m"]), j), e.storage)
            epilogue.prefetch_operands(k, there)
    _call(loop, x, loop.room, a["temp_pitch"], runs, epilogue.NOTHING, NO_LATER)
    with f.loop(0, outputs.count) as i:
        source = f.at(loop.room, f.mul(i, a["temp_pitch"]), e.accumulator)
        target = f.at(out, f.mul(i, a["y_stride_m"]), e.storage)
        write_finished(k, source, target, exist, epilogue.staged(k, operands, i).broadcast(k))
