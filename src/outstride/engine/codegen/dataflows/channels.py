"""The dataflow "channels" in code: vectors are weights of neighbouring outputs, and pixels are broadcast.

Results are transposed on their way to memory, a square of pixels by lanes at a time, so that a row of results
belongs to an output; or they stay as they are, pixel by pixel. The squares are functions, called by every
tile, so that their shuffles are compiled once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from outstride.engine.codegen import elements
from outstride.engine.codegen.box import Region
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import Element
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, vector_type
from outstride.engine.codegen.loops import Later, TileLoop
from outstride.engine.codegen.outer_products import OuterProduct, Parameters, ResultRows, TileResults
from outstride.engine.codegen.packing.transpose import transpose
from outstride.engine.codegen.registers import Sums, add_products, vectors_at
from outstride.engine.codegen.results import write_part
from outstride.engine.codegen.steps import epilogue
from outstride.engine.codegen.steps.epilogue import Place
from outstride.engine.planner.dataflow import Tile
from outstride.engine.planner.dataflows.channels import MOST_VECTORS
from outstride.engine.planner.machine import LINE_BYTES

#: So many terms of a tile take less time than its results' lines, where these come from beyond the
#: second-level cache.
FEW_TERMS = 32


class Channels(OuterProduct):
    """Vectors of weights, each pixel of a term broadcast to them.

    A weight serves the few pixels of a tile, so weights are read faster than they come unasked.
    """

    def results(self, k: Vectors, tile: Tile, p: Parameters) -> TileResults:
        return _TransposedResults.of(k, tile, p) if tile.transposed else PixelResults(k, tile, p)

    def inputs(self, k: Vectors, tile: Tile, p: Parameters) -> list[Value]:
        return [k.f.at(p.x, k.f.load_i32(p.pixels, i), k.e.accumulator) for i in range(tile.rows)]

    def width(self, tile: Tile, lanes: int) -> int:
        return tile.vectors * lanes

    def finish(self, k: Vectors, tile: Tile, p: Parameters, sums: Sums) -> None:
        """Tiles that store their results where they belong apply the epilogue themselves."""
        if tile.dataflow.outputs_together(tile):
            epilogue.apply_to_lanes(k, p.bias, sums)

    def term(
        self, k: Vectors, tile: Tile, sums: Sums, weights: Value, inputs: list[Value], offset: Value
    ) -> None:  # fmt: skip
        vectors = vectors_at(k, tile.vectors, weights)
        pixels = [k.f.at(base, offset, k.e.accumulator) for base in inputs]
        for row, pixel in zip(sums, pixels, strict=True):
            add_products(k, row, pixel, vectors)


class PixelResults(ResultRows):
    """The results of a pixel lie side by side, pixel by pixel."""

    def start(self, row: int) -> Value:
        pitch = self.k.f.mul(row, self.p.results_pitch)
        return self.k.f.at(self.p.results, pitch, self.k.e.accumulator)


@dataclass(frozen=True)
class _TransposedResults(TileResults):
    """Each lane belongs to a row of results of its own: transposed, a square of pixels at a time.

    A square reaches over the tile's last pixel to the next tile's first ones. What lay there is kept in the
    room and put back, for the next tile goes on from it.
    """

    k: Vectors
    tile: Tile
    p: Parameters
    side: int
    room: Value

    @classmethod
    def of(cls, k: Vectors, tile: Tile, p: Parameters) -> _TransposedResults:
        """With room for the squares of all the tile's vectors."""
        side = _side_of(tile, k.lanes)
        room = k.f.variable(f"[{tile.vectors * side * k.lanes} x {k.e.accumulator}]")
        return cls(k, tile, p, side, room)

    def _squares(self, sums: Sums) -> Iterator[tuple[list[Value], Value, list[Value], Value]]:
        """Of each square: its sums, its place in the results, its vectors' places and its own in the room."""
        f, lanes, accumulator, side = self.k.f, self.k.lanes, self.k.e.accumulator, self.side
        for j, first in product(range(self.tile.vectors), range(0, self.tile.rows, side)):
            place = f.add(f.mul(self.p.results_pitch, j * lanes), first)
            start = f.at(self.p.results, place, accumulator)
            square = f.at(self.room, j * side * lanes, accumulator)
            places = [f.at(square, i * lanes, accumulator) for i in range(side)]
            yield [row[j] for row in sums[first : first + side]], start, places, square

    def read(self, sums: Sums) -> None:
        f, e = self.k.f, self.k.e
        for held, start, places, square in self._squares(sums):
            f.run(f"read_square_{self.side}", start, self.p.results_pitch, square)
            for total, place in zip(held, places, strict=False):
                f.set(total, f.load(self.k.vector, place, e.accumulator_bytes))

    def write(self, sums: Sums) -> None:
        f, vector, e = self.k.f, self.k.vector, self.k.e
        for held, start, places, _ in self._squares(sums):
            kept = [f.load(vector, place, e.accumulator_bytes) for place in places[len(held) :]]
            made = (f.get(total, vector) for total in held)
            f.run(f"write_square_{self.side}", start, self.p.results_pitch, *made, *kept)


def _side_of(tile: Tile, lanes: int) -> int:
    """Pixels of a tile's squares: the least power of two that holds its pixels, at most a vector's lanes."""
    return min(lanes, 1 << (tile.rows - 1).bit_length())


def square_functions(tiles: Sequence[Tile], e: Element, lanes: int) -> list[Function]:
    """The functions that these tiles call."""
    transposed = (t for t in tiles if t.dataflow.lists_pixels and not t.dataflow.outputs_together(t))
    sides = sorted({_side_of(tile, lanes) for tile in transposed})
    return [f for side in sides for f in (_write_square(side, e, lanes), _read_square(side, e, lanes))]


def _write_square(side: int, e: Element, lanes: int) -> Function:
    """`write_square(results, pitch, pixels)`: lane l of pixel p goes to results[l * pitch + p]."""
    vector, part = (vector_type(n, e.accumulator) for n in (lanes, side))
    pixels = [(f"pixel{i}", vector) for i in range(side)]
    f = Function(f"write_square_{side}", [("results", PTR), ("pitch", I64), *pixels], internal=True)
    results, pitch, *held = f.parameters
    for r, row in enumerate(transpose(f, held, lanes)):
        # Row r of the transposed squares: the results of lanes r, r + side, ...
        for first in range(0, lanes, side):
            kept = elements.mask([first + i for i in range(side)])
            value = f.emit(part, f"shufflevector {vector} {row.name}, {vector} poison, {kept}")
            place = f.at(results, f.mul(pitch, r + first), e.accumulator)
            f.store(value, place, e.accumulator_bytes)
    return f


def _read_square(side: int, e: Element, lanes: int) -> Function:
    """`read_square(results, pitch, target)`: the way back, pixel p to vector p of `target`."""
    head = [("results", PTR), ("pitch", I64), ("target", PTR)]
    f = Function(f"read_square_{side}", head, internal=True)
    results, pitch, target = f.parameters
    vector, part = (vector_type(n, e.accumulator) for n in (lanes, side))
    rows = []
    for r in range(side):
        places = [f.at(results, f.mul(pitch, r + first), e.accumulator) for first in range(0, lanes, side)]
        parts = [f.load(part, place, e.accumulator_bytes) for place in places]
        for place in places:  # each row's next results, far from those of the other rows
            f.prefetch(f.at(place, LINE_BYTES, "i8"))
        names = f"{part} {parts[0].name}, {part} {parts[-1].name}"
        joined = elements.mask(list(range(lanes)))
        rows.append(f.emit(vector, f"shufflevector {names}, {joined}") if len(parts) > 1 else parts[0])
    for p, value in enumerate(transpose(f, rows, lanes)):
        f.store(value, f.at(target, p * lanes, e.accumulator), e.accumulator_bytes)
    return f


def over_pixels(loop: TileLoop) -> None:
    """Pixels by list, a tile of them at a time, up to the last one that this box has of each region."""
    k = loop.k
    f, a, e = k.f, k.a, k.e
    with f.loop(0, loop.times("channels", a["regions"])) as number:
        region = Region.at(f, a, number)
        box, place = region.of(f, loop.box), region.field(f, "place")
        of_region = loop.all_taps(number)
        end: Operand = box.count[3]
        for count, pitch in zip(box.count, region.pitches(f), strict=False):
            end = f.add(end, f.mul(f.sub(count, 1), pitch))
        later = Later.of(loop, f.ceil_div(end, a["tile_rows"]))
        with f.loop(0, end, a["tile_rows"]) as i:
            q = f.add(place, i)
            listed = f.at(a["pixel_at"], q, "i32")
            out = f.at(loop.row, f.mul(q, a["result_pixel"]), e.accumulator)
            runs = loop.own_taps(region, box, i, a["tile_rows"], of_region)
            beside = f.compare("ne", a["result_pixel"], 1)
            pitch = f.select(beside, a["result_pixel"], a["temp_pitch"])
            _call(loop, listed, out, pitch, runs, epilogue.NOTHING, later.arguments())
            later.go_on()


def _call(
    loop: TileLoop, listed: Value, out: Value, pitch: Operand, runs: tuple[Value, Value], operands: Value,
    asked: tuple[Operand, Operand],
) -> None:  # fmt: skip
    """A tile: its pixels, where its results go and how far apart, taps, epilogue, lines asked for."""
    loop.prefetch()
    loop.call(
        loop.strip, listed, loop.w, out, pitch, *loop.blocks, loop.g["taps"], *runs, *loop.rest, operands,
        *asked,
    )  # fmt: skip


def stored(loop: TileLoop) -> None:
    """Pixels in the order of the output's memory, whose results go straight to where they belong.

    A tile stores its results itself, with their bias. Tiles that reach beyond the last pixel or the last
    output go to the room, and what exists of them on from there; so do all where steps follow, which are done
    on the way. Where there are few terms, lines of results do not come while a tile is summed: each asks for
    those of the next, a pixel's with each term, instead of weights.
    """
    k, box, outputs = loop.k, loop.box, loop.outputs
    f, a, e, lanes = k.f, k.a, k.e, k.lanes
    operands = f.variable(f"[{MOST_VECTORS * lanes * epilogue.staged_count(k)} x {e.accumulator}]")
    epilogue.stage(
        k, outputs.first_channel, outputs.first, loop.times("stored", outputs.count), operands, lanes
    )  # fmt: skip
    start = outputs.first
    for axis, first in zip("dhw", box.start[1:], strict=True):
        start = f.add(start, f.mul(first, a[f"y_stride_{axis}"]))
    pixels = f.mul(f.mul(box.count[1], box.count[2]), box.count[3])
    end = loop.times("stored", pixels)
    region, runs = Region.at(f, a, 0), loop.all_taps()
    later = Later.of(loop, f.ceil_div(end, a["tile_rows"]))
    every = f.compare("eq", outputs.count, a["tile_outputs"])
    few = f.compare("sle", f.mul(loop.channels, loop.g["taps"]), FEW_TERMS)
    with f.loop(0, end, a["tile_rows"]) as i:
        listed = f.at(a["pixel_at"], i, "i32")
        own = loop.own_taps(region, box, i, a["tile_rows"], runs)
        exist = f.minimum(a["tile_rows"], f.sub(end, i))
        out = f.at(outputs.target, f.add(start, f.mul(i, a["y_stride_w"])), e.storage)
        _prefetch(loop, out, exist, results=f.negate(few))
        place, step = later.arguments()
        behind = f.at(out, f.mul(a["tile_rows"], a["y_stride_w"]), e.storage)
        pixel = f.mul(a["y_stride_w"], e.storage_bytes)
        asked = (f.select(few, behind, place), f.select(few, pixel, step))
        if k.recipe.epilogue.steps:
            _call(loop, listed, loop.room, a["tile_outputs"], own, epilogue.NOTHING, asked)
            _finish(loop, out, operands, exist)
        else:
            whole = f.both(every, f.compare("eq", exist, a["tile_rows"]))
            to = f.select(whole, out, loop.room)
            pitch = f.select(whole, a["y_stride_w"], a["tile_outputs"])
            _call(loop, listed, to, pitch, own, operands, asked)
            with f.when(f.negate(whole)), f.loop(0, exist) as p:
                source = f.at(loop.room, f.mul(p, a["tile_outputs"]), e.accumulator)
                target = f.at(out, f.mul(p, a["y_stride_w"]), e.storage)
                write_part(k, source, target, outputs.count)
        later.go_on()


def _prefetch(loop: TileLoop, out: Value, pixels: Operand, *, results: Value) -> None:
    """Prefetch where a tile's results belong, and what its steps read there: they come while it is summed."""
    k = loop.k
    f, a, e = k.f, k.a, k.e
    wanted = pixels if epilogue.reads_tensors(k) else f.select(results, pixels, 0)
    with f.loop(0, wanted) as p, f.loop(0, loop.outputs.count, LINE_BYTES // e.storage_bytes) as c:
        place = f.at(out, f.add(f.mul(p, a["y_stride_w"]), c), e.storage)
        f.prefetch(place, write=True)
        epilogue.prefetch_operands(k, place)


def _finish(loop: TileLoop, out: Value, operands: Value, pixels: Operand) -> None:
    """The results of a tile, from the room through the steps to the output."""
    k, outputs = loop.k, loop.outputs
    f, a, e, lanes = k.f, k.a, k.e, k.lanes
    with f.loop(0, outputs.count, lanes) as c:
        own = epilogue.staged(k, operands, c, lanes)
        present = f.minimum(lanes, f.sub(outputs.count, c))
        every = f.compare("eq", present, lanes)
        for whole in (True, False):
            with f.loop(0, f.select(every, *((pixels, 0) if whole else (0, pixels)))) as p:
                source = f.at(loop.room, f.add(f.mul(p, a["tile_outputs"]), c), e.accumulator)
                target = f.at(out, f.add(f.mul(p, a["y_stride_w"]), c), e.storage)
                total = f.load(k.vector, source, e.accumulator_bytes)
                if whole:
                    elements.store(f, e, own.apply(k, total, Place(target)), target, lanes)
                else:
                    value = own.apply(k, total, Place.first(k, target, present))
                    elements.store_first(f, e, value, target, lanes, present)
