"""The loops over register tiles: how each kind of tile walks over the cells of a box, for a few outputs.

Which of them runs is an argument; a kernel holds those that its sizes may ask for.
"""

from __future__ import annotations

from dataclasses import dataclass

from outstride.engine.codegen.ahead import ask
from outstride.engine.codegen.box import Box, Stripe
from outstride.engine.codegen.elements import Element
from outstride.engine.codegen.ir import PTR, Function, Operand, Value
from outstride.engine.codegen.results import bias_of, write_part
from outstride.engine.codegen.taps import Taps
from outstride.engine.planner.machine import CHANNEL_BLOCK
from outstride.engine.planner.tiles import SWEEPS, TILES, Sweep

#: Outputs of a tile along the width, at most.
_MOST_ROWS = max(tile.rows for tiles in TILES.values() for tile in tiles if tile.dataflow == "pixels")


@dataclass(frozen=True)
class Sum:
    """What every tile of a pass is told: channel blocks, whether to resume, taps; and what is packed next."""

    full_blocks: Operand
    rest_channels: Operand
    block_pitch: Operand
    resume: Operand
    taps: Taps
    searched: Value
    ahead: Value


@dataclass(frozen=True)
class Outputs:
    """Outputs of a tile: channel 0 of the first image, the first of them, how many, the bias of all."""

    target: Value
    first: Operand
    count: Operand
    bias: Value


@dataclass(frozen=True)
class TileLoops:
    """The loops for one tile of outputs of a phase group, over one box.

    `row` is where its results go in scratch, `room` where a tile's may go for a moment; `a` and `g` are the
    numbers of the argument block and of the group, which lie at `block` and `group`.
    """

    f: Function
    e: Element
    lanes: int
    block: Value
    a: dict[str, Value]
    group: Value
    g: dict[str, Value]
    box: Box
    strip: Value
    w: Value
    row: Value
    room: Value
    sum: Sum
    outputs: Outputs

    def emit(self, sweep: Sweep) -> None:
        """Write the loop of a sweep."""
        loops = {
            "channels": self._channels, "pixels": self._pixels, "direct": self._direct, "rows": self._rows
        }  # fmt: skip
        loops[sweep]()

    def _times(self, sweep: Sweep, count: Operand) -> Operand:
        """How often the loop of a sweep runs: not at all in the others."""
        return self.f.select(self.f.compare("eq", self.a["sweep"], SWEEPS.index(sweep)), count, 0)

    def _tile(
        self, x: Value, out: Value, runs: tuple[Value, Value], *, pixels: Value | None = None,
        pitch: Operand | None = None, bias: Value | None = None, ahead: Operand = 0,
    ) -> None:  # fmt: skip
        """A tile: its first input, where its results go and how far apart, its taps."""
        f, a, g, null = self.f, self.a, self.g, Value("null", PTR)
        ask(f, a, self.sum.ahead)
        f.run(
            a["tile_at"], x, pixels or null, self.w, out, a["temp_pitch"] if pitch is None else pitch,
            self.sum.full_blocks, g["full_at"], CHANNEL_BLOCK, g["taps"], *runs, self.sum.block_pitch,
            g["rest_at"], self.sum.rest_channels, self.sum.resume, bias or null, ahead,
        )  # fmt: skip

    def _runs(
        self, stripe: Stripe, columns: Box, first: Operand, length: Operand, of_stripe: tuple[Value, Value]
    ) -> tuple[Value, Value]:
        """The runs of taps of a tile over `length` results of a stripe."""
        last = self.f.sub(self.f.add(first, length), 1)
        taps, searched = self.sum.taps, self.sum.searched
        return taps.of_tile(self.f, searched, self.block, self.group, stripe, columns, first, last, of_stripe)

    def _channels(self) -> None:
        """Pixels by list, a tile of them at a time, up to the last one that this box has of each stripe."""
        f, a, e = self.f, self.a, self.e
        with f.loop(0, self._times("channels", a["stripes"])) as number:
            stripe = Stripe.at(f, a, number)
            columns, place = stripe.of(f, self.box), stripe.field(f, "place")
            of_stripe = self.sum.taps.of(f, a, self.g, number)
            end: Operand = columns.count[3]
            for count, pitch in zip(columns.count, stripe.pitches(f), strict=False):
                end = f.add(end, f.mul(f.sub(count, 1), pitch))
            with f.loop(0, end, a["tile_rows"]) as i:
                q = f.add(place, i)
                listed = f.at(a["pixel_at"], q, "i32")
                out = f.at(self.row, f.mul(q, a["result_pixel"]), e.accumulator)
                runs = self._runs(stripe, columns, i, a["tile_rows"], of_stripe)
                # The last tile asks for the weights of the next outputs: it is the last to need these.
                last = f.compare("sge", f.add(i, a["tile_rows"]), end)
                ahead = f.select(last, self.g["w_tile_stride"], 0)
                self._tile(self.strip, out, runs, pixels=listed, ahead=ahead)

    def _pixels(self) -> None:
        """Every vector of the box, over row ends.

        Rows of cells lie one behind the other in the strip; the few lanes between two rows are computed and
        not written.
        """
        f, a, box, accumulator = self.f, self.a, self.box, self.e.accumulator
        plane = f.add(f.mul(f.sub(box.count[2], 1), a["strip_w"]), box.count[3])
        nested = f.compare("ne", a["spans"], 0)
        deep = f.mul(f.sub(box.count[1], 1), a["depth_pitch"])
        whole = f.add(f.add(plane, deep), f.mul(f.sub(box.count[0], 1), a["image_pitch"]))
        spans = self._times("pixels", f.select(nested, box.count[1], 1))
        length = f.select(nested, plane, whole)
        stripe, of_box = Stripe.at(f, a, 0), self.sum.taps.of(f, a, self.g)
        with f.loop(0, spans) as span, f.loop(0, length, a["tile_pixels"]) as q:
            place = f.add(f.mul(span, a["depth_pitch"]), q)
            x, out = (f.at(base, place, accumulator) for base in (self.strip, self.row))
            self._tile(x, out, self._runs(stripe, box, q, a["tile_pixels"], of_box))

    def _direct(self) -> None:
        """Every vector, stored where it belongs in the output, with the bias added: row by row.

        Planes that lie in the output as in the strip, without gaps, are rows themselves. Tiles that reach
        beyond a row or the last output go to the room, and what exists of them on from there.
        """
        f, a, e, box, outputs = self.f, self.a, self.e, self.box, self.outputs
        bias = self._own_bias()
        start = f.mul(outputs.first, a["y_stride_m"])
        for axis, first in zip("dhw", box.start[1:], strict=True):
            start = f.add(start, f.mul(first, a[f"y_stride_{axis}"]))
        flat = f.both(*(f.compare("eq", a["strip_w"], row) for row in (box.count[3], a["y_stride_h"])))
        rows = f.select(flat, 1, box.count[2])
        length = f.select(flat, f.mul(box.count[2], box.count[3]), box.count[3])
        every = f.compare("eq", outputs.count, a["tile_outputs"])
        stripe, of_box = Stripe.at(f, a, 0), self.sum.taps.of(f, a, self.g)
        with (
            f.loop(0, self._times("direct", box.count[0])) as n,
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
            whole = f.both(every, f.compare("sle", f.add(q, a["tile_pixels"]), length))
            self._tile(
                f.at(self.strip, place, e.accumulator), f.select(whole, out, self.room),
                self._runs(stripe, box, place, a["tile_pixels"], of_box),
                pitch=f.select(whole, a["y_stride_m"], a["temp_pitch"]), bias=bias,
            )  # fmt: skip
            with f.when(f.negate(whole)), f.loop(0, outputs.count) as i:
                source = f.at(self.room, f.mul(i, a["temp_pitch"]), e.accumulator)
                target = f.at(out, f.mul(i, a["y_stride_m"]), e.storage)
                write_part(f, e, self.lanes, source, target, f.minimum(a["tile_pixels"], f.sub(length, q)))

    def _own_bias(self) -> Value:
        """The bias of the tile's outputs, side by side, or zeros."""
        f, e, outputs = self.f, self.e, self.outputs
        bias = f.variable(f"[{_MOST_ROWS} x {e.accumulator}]")
        with f.loop(0, self._times("direct", outputs.count)) as i:
            own = bias_of(f, e, outputs.bias, f.add(outputs.first, i), 1, 1)
            f.store(own, f.at(bias, i, e.accumulator), e.accumulator_bytes)
        return bias

    def _rows(self) -> None:
        """Groups of rows, and along them the tile's vectors, from the right.

        What a vector writes beyond the end of its row is the beginning of the next, which is then still to
        come.
        """
        f, a, g, box = self.f, self.a, self.g, self.box
        across = f.ceil_div(box.count[3], a["tile_pixels"])
        with (
            f.loop(0, self._times("rows", box.count[0])) as n,
            f.loop(0, box.count[1]) as d,
            f.loop(0, box.count[2], a["tile_rows"]) as h,
            f.loop(0, across) as i,
        ):
            q = f.mul(f.sub(f.sub(across, 1), i), a["tile_pixels"])
            start = f.add(f.mul(n, a["image_pitch"]), f.mul(d, a["depth_pitch"]))
            first = f.select(f.compare("sgt", a["row_way"], 0), h, f.sub(f.add(h, a["tile_rows"]), 1))
            place = f.add(start, f.add(f.mul(first, a["strip_w"]), q))
            x, out = (f.at(base, place, self.e.accumulator) for base in (self.strip, self.row))
            ask(f, a, self.sum.ahead)
            f.run(
                a["tile_at"], x, self.w, out, f.mul(a["row_way"], a["strip_w"]), self.sum.full_blocks,
                g["full_at"], CHANNEL_BLOCK, g["taps_d"], g["taps_h"], g["taps_w"], self.sum.block_pitch,
                g["rest_at"], self.sum.rest_channels, self.sum.resume,
            )  # fmt: skip
