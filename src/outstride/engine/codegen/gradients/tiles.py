"""The register tiles of the weight gradient, and the loop over them: sums over a list of pixels.

It is the microkernel of the dataflow "channels" with its loops renamed: the vectors are the gradients of
neighbouring outputs, packed pixel by pixel, and each broadcast reads the input of a row of sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from outstride.engine.codegen.box import BOX, Box
from outstride.engine.codegen.context import Context, Kernel, Vectors
from outstride.engine.codegen.dataflows.channels import Channels
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value
from outstride.engine.codegen.outer_products import Parameters, ResultRows, TileResults
from outstride.engine.codegen.packing.strip import part_within
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


def whole_run(f: Function, runs: Value, count: Operand) -> None:
    """One run, of all pixels: how many runs there are, then pairs [first, last)."""
    for i, number in enumerate((1, 0, count)):
        f.store(f.i64(number), f.at(runs, i, I64), 8)


def used_pixels(kernel: Kernel) -> Function:
    """`used_pixels(block, runs, tap, box)`: the runs of a box's pixels for which a tap reads the input.

    A term of padding adds zero times a gradient, which changes no finite sum.
    """
    k = kernel.function("used_pixels", ("runs", PTR), ("tap", I64), *BOX, rare=True)
    f, a = k.f, k.a
    runs, tap, *numbers = k.parameters
    box = Box.of(numbers)
    within = []
    for i, x in enumerate("dhw"):
        offset = f.load_i32(a["tap_offsets_at"], f.add(f.mul(tap, 3), i))
        first = f.add(f.mul(box.start[i + 1], a[f"in_step_{x}"]), offset)
        within.append(part_within(f, first, a[f"in_step_{x}"], 0, box.count[i + 1], a[f"in_size_{x}"]))
    planes, rows, (begin, end) = within
    f.store(Value("0", I64), runs, 8)
    behind = f.variable(I64, Value("-1", I64))
    some = f.select(f.compare("slt", begin, end), rows[1], rows[0])
    with f.loop(0, box.count[0]) as n, f.loop(*planes) as d, f.loop(rows[0], some) as h:
        row = f.add(f.mul(f.add(f.mul(n, box.count[1]), d), box.count[2]), h)
        start = f.mul(row, box.count[3])
        first, last = f.add(start, begin), f.add(start, end)
        with f.when(f.compare("ne", f.get(behind, I64), first)):  # else it goes on
            count = f.load_i64(runs, 0)
            f.store(f.i64(first), f.at(runs, f.add(f.mul(count, 2), 1), I64), 8)
            f.store(f.i64(f.add(count, 1)), runs, 8)
        f.store(f.i64(last), f.at(runs, f.mul(f.load_i64(runs, 0), 2), I64), 8)
        f.set(behind, f.i64(last))
    return f


@dataclass(frozen=True)
class Operands:
    """What the tiles of a box read and write: its packed input, a panel of output gradients, the sums.

    `terms` are the input's offsets of `count` pixels, of which the `runs` are summed. They start from +0
    unless they `resume`.
    """

    strip: Value
    panel: Value
    sums: Value
    terms: Value
    count: Operand
    runs: Value
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
    run, run_count = f.at(own.runs, 1, I64), f.load_i64(own.runs, 0)
    with f.loop(0, rows, tile.rows) as start:
        with f.loop(0, tile.rows) as i:
            source, target = place(f.minimum(f.add(start, i), f.sub(rows, 1)))
            f.store(f.i32(source), f.at(listed, i, "i32"), 4)
            f.store(f.i32(target), f.at(listed, f.add(i, tile.rows), "i32"), 4)
        # One block whose "taps" are the pixels, of one channel each.
        f.run(
            tile.name, own.strip, listed, own.panel, own.sums, 0, 1, own.terms, 1, own.count, run, run_count,
            0, null, 0, own.resume, null, 0,
        )  # fmt: skip
