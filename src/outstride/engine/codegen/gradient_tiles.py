"""The register tiles of the weight gradient, and the loop over them: sums over a list of pixels.

It is the microkernel of the dataflow "channels" with its loops renamed: the vectors are the gradients of
neighbouring outputs, packed pixel by pixel, and each broadcast reads the input of a row of sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from outstride.engine.codegen.box import Box
from outstride.engine.codegen.context import Context, Vectors
from outstride.engine.codegen.dataflows.channels import Channels
from outstride.engine.codegen.ir import I64, PTR, Operand, Value
from outstride.engine.codegen.outer_products import Parameters, ResultRows, TileResults
from outstride.engine.planner.dataflow import Tile


class _ListedResults(ResultRows):
    """Each broadcast operand has a row of results of its own, listed behind the operands."""

    def start(self, row: int) -> Value:
        place = self.k.f.load_i32(self.p.pixels, self.tile.rows + row)
        return self.k.f.at(self.p.results, place, self.k.e.accumulator)


class GradientTile(Channels):
    """Vectors of output gradients, each input under a (channel, tap) broadcast to them."""

    def results(self, k: Vectors, tile: Tile, p: Parameters) -> TileResults:
        return _ListedResults(k, tile, p)


def list_pixels(k: Context, terms: Value, box: Box) -> Value:
    """Strip offsets of the box's pixels in the order of summation; returns how many there are."""
    f, a = k.f, k.a
    count = f.variable(I64, Value("0", I64))
    with f.loop(0, box.count[0]) as n, f.loop(0, box.count[1]) as d, f.loop(0, box.count[2]) as h:
        start = f.add(f.mul(n, a["image_pitch"]), f.add(f.mul(d, a["depth_pitch"]), f.mul(h, a["strip_w"])))
        done = f.get(count, I64)
        with f.loop(0, box.count[3]) as w:
            offset = f.i32(f.mul(f.add(start, w), a["pixel_pitch"]))
            f.store(offset, f.at(terms, f.add(done, w), "i32"), 4)
        f.set(count, f.i64(f.add(done, box.count[3])))
    return f.get(count, I64)


@dataclass(frozen=True)
class Operands:
    """What the tiles of a box read and write: its packed input, a panel of output gradients, the sums.

    `terms` are the input's offsets of `count` pixels. They start from +0 unless they `resume`.
    """

    strip: Value
    panel: Value
    sums: Value
    terms: Value
    count: Operand
    resume: Value


def sum_rows(
    k: Context, tile: Tile, own: Operands, rows: Operand,
    place: Callable[[Operand], tuple[Operand, Operand]],
) -> None:  # fmt: skip
    """Every register tile of so many rows of sums; the last one repeats its last row.

    `place` says of a row where its inputs begin and where its sums lie.
    """
    f = k.f
    listed = f.variable(f"[{2 * tile.rows} x i32]")
    null = Value("null", PTR)
    run = f.variable("[2 x i64]")
    f.store(Value("0", I64), run, 8)
    f.store(f.i64(own.count), f.at(run, 1, I64), 8)
    with f.loop(0, rows, tile.rows) as start:
        with f.loop(0, tile.rows) as i:
            source, target = place(f.minimum(f.add(start, i), f.sub(rows, 1)))
            f.store(f.i32(source), f.at(listed, i, "i32"), 4)
            f.store(f.i32(target), f.at(listed, f.add(i, tile.rows), "i32"), 4)
        # One block whose "taps" are the pixels, of one channel each.
        f.run(
            tile.name, own.strip, listed, own.panel, own.sums, 0, 1, own.terms, 1, own.count, run, 1, 0,
            null, 0, own.resume, null, 0,
        )  # fmt: skip
