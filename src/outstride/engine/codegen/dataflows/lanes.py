"""The dataflow "lanes" in code: channels side by side, read where they lie and written where they belong.

A register tile is neighbouring pixels of an output row by a few vectors of channels:

    for row of taps:                           # whose row the input has
        for vector in tile:
            w = weights of the row's taps
            for input pixel of the row:        # zeros, beyond the ends of the row
                x = its vector
                for pixel, tap that read it:
                    acc[pixel] = fma(x, w[tap], acc[pixel])

An input is loaded once for all taps of a row. They are written out, so each kernel width, stride and dilation
has code of its own; what has several phases, or very many taps a row, takes one tap after the other from a
table. Either is the order of law 4. The channels are cut into whole vectors, as many at a time as a tile has,
then fewer; what is left of one is loaded and stored as so many elements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from outstride.engine.codegen import elements
from outstride.engine.codegen.arguments import GROUP_FIELDS, GROUP_INDEX
from outstride.engine.codegen.box import BOX, Box, decode_box
from outstride.engine.codegen.context import Context, Kernel
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value
from outstride.engine.codegen.registers import Sums, fused, vectors_at, write_row, zero_sums
from outstride.engine.codegen.results import existing_cells, phase_entry, position
from outstride.engine.codegen.steps import epilogue, prologue
from outstride.engine.codegen.steps.epilogue import Place
from outstride.engine.codegen.tasks import read_arguments
from outstride.engine.planner.dataflow import Tile
from outstride.engine.planner.dataflows.lanes import TILES
from outstride.engine.planner.unrolled import RowTaps


def functions(kernel: Kernel) -> list[Function]:
    """What a kernel is made of whose channels lie side by side."""
    tile = TILES[kernel.recipe.instruction_set]
    return [*(_tile(kernel, tile, vectors) for vectors in range(tile.vectors + 1)), _task(kernel, tile)]


#: What a tile's function is told: the phase, with its group of taps; tensors at the image and the first
#: channel; operands of the epilogue; zeros; the channels that there are; the box.
_TILE = (
    *((f"phase_{axis}", I64) for axis in "dhw"), ("group", PTR), ("x", PTR), ("w", PTR), ("y", PTR),
    ("operands", PTR), ("zeros", PTR), ("count", I64), *BOX,
)  # fmt: skip


def _task(kernel: Kernel, tile: Tile) -> Function:
    """Bands of rows of some groups: channels by tiles, and for each all images and phases."""
    k = kernel.function("task", ("scratch", PTR), ("number", I64))
    f, e, a, lanes = k.f, k.e, k.a, k.lanes
    zeros, number = k.parameters
    for j in range(tile.vectors):
        f.store(elements.zero(e, lanes), f.at(zeros, j * lanes, e.accumulator), e.accumulator_bytes)
    # Channels of the same rows lie side by side: a thread has all of them.
    box, _ = decode_box(f, a, f.div(number, a["groups"]))
    group = f.rem(number, a["groups"])
    width = tile.vectors * lanes
    operands = f.variable(f"[{width * epilogue.staged_count(k)} x {e.accumulator}]")
    steps = [a[f"out_step_{axis}"] for axis in "dhw"]
    panels = f.at(a["w_at"], f.mul(group, a["w_stride_g"]), e.accumulator)
    with f.loop(0, a["outputs"], width) as c:
        count = f.minimum(width, f.sub(a["outputs"], c))
        epilogue.stage(k, epilogue.first_channel(k, group), c, count, operands, lanes)
        with (
            f.loop(0, box.count[0]) as image,
            f.loop(0, steps[0]) as pd,
            f.loop(0, steps[1]) as ph,
            f.loop(0, steps[2]) as pw,
        ):
            n = f.add(box.start[0], image)
            x, y = (_channel(k, tensor, n, group, c) for tensor in "xy")
            phase = f.add(f.mul(f.add(f.mul(pd, steps[1]), ph), steps[2]), pw)
            entry, g = _group_of(k, phase)
            start = f.add(g["w_offset"], f.mul(f.div(c, width), g["w_tile_stride"]))
            w = f.at(panels, start, e.accumulator)
            for first, vectors, there in _cut(k, tile, count):
                with f.when(there):
                    staged = f.at(operands, f.mul(first, epilogue.staged_count(k)), e.accumulator)
                    f.run(
                        f"tile_{vectors}", k.block, pd, ph, pw, entry, f.at(x, first, e.storage),
                        f.at(w, first, e.accumulator), f.at(y, first, e.storage), staged, zeros,
                        f.sub(count, first), *box.numbers,
                    )  # fmt: skip
    return f


def _channel(k: Context, tensor: str, image: Operand, group: Operand, channel: Operand) -> Value:
    """Where a channel of a group begins in an image of a tensor, "x" or "y"."""
    f, a = k.f, k.a
    place = f.add(f.mul(image, a[f"{tensor}_stride_n"]), f.mul(group, a[f"{tensor}_stride_g"]))
    return f.at(a[f"{tensor}_at"], f.add(place, channel), k.e.storage)


def _group_of(k: Context, phase: Operand) -> tuple[Value, dict[str, Value]]:
    """The group of taps of a phase, and its numbers: each phase has one, of as many rows of results."""
    f, a = k.f, k.a
    row, _ = phase_entry(k, phase)
    first = read_arguments(f, a["phase_groups_at"], GROUP_INDEX)
    number = f.div(row, f.mul(first["tiles"], a["tile_outputs"]))
    entry = f.at(a["phase_groups_at"], f.mul(number, len(GROUP_FIELDS)), I64)
    return entry, read_arguments(f, entry, GROUP_INDEX)


def _cut(k: Context, tile: Tile, count: Operand) -> Iterator[tuple[Operand, int, Value]]:
    """So many channels as whole vectors, and 0 for the rest: where they begin, and whether there are such."""
    f = k.f
    whole = f.div(count, k.lanes)
    for vectors in range(1, tile.vectors + 1):
        yield 0, vectors, f.compare("eq", whole, vectors)
    yield f.mul(whole, k.lanes), 0, f.compare("ne", f.rem(count, k.lanes), 0)


@dataclass(frozen=True)
class _Channels:
    """The channels of a tile: whole vectors, or so many elements of one."""

    k: Context
    vectors: int
    inside: Value | None

    def load(self, place: Value, vector: int) -> Value:
        """A vector of the inputs of a pixel."""
        k = self.k
        if self.inside is not None:
            read = elements.load_masked(k.f, k.e, place, k.lanes, self.inside)
        else:
            read = elements.load(k.f, k.e, k.f.at(place, vector * k.lanes, k.e.storage), k.lanes)
        return prologue.taken(k, read, k.lanes)

    def store(self, sums: list[Value], loaded: list[epilogue.Loaded], place: Value) -> None:
        """The outputs of a pixel."""
        k = self.k
        for j, (total, own) in enumerate(zip(sums, loaded, strict=True)):
            there = k.f.at(place, j * k.lanes, k.e.storage)
            value = own.apply(k, total, Place(there, self.inside))
            if self.inside is None:
                elements.store(k.f, k.e, value, there, k.lanes)
            else:
                elements.store_masked(k.f, k.e, value, there, k.lanes, self.inside)


def _tile(kernel: Kernel, tile: Tile, vectors: int) -> Function:
    """`tile_<vectors>(block, ...)`: all rows of a box for some channels; `tile_0` for a part of a vector."""
    k = kernel.function(f"tile_{vectors}", *_TILE)
    f, e, a, lanes = k.f, k.e, k.a, k.lanes
    *phases, entry, x, w, y, operands, zeros, count = k.parameters[: len(_TILE) - len(BOX)]
    box = Box.of(k.parameters[len(_TILE) - len(BOX) :])
    inside = None if vectors else elements.first_lanes(f, count, lanes)
    channels = _Channels(k, vectors or 1, inside)
    g = read_arguments(f, entry, GROUP_INDEX)
    begin, end = existing_cells(k, box, phases[2])
    with f.loop(0, box.count[1]) as d, f.loop(0, box.count[2]) as h:
        cells = [f.add(box.start[1], d), f.add(box.start[2], h)]
        made = [position(k, axis, cell, p) for axis, cell, p in zip("dh", cells, phases, strict=False)]
        exist = (f.compare("ult", out, a[f"out_size_{axis}"]) for out, axis in zip(made, "dh", strict=True))
        target = y
        for axis, out in zip("dh", made, strict=True):
            target = f.at(target, f.mul(out, a[f"y_stride_{axis}"]), e.storage)
        first = [f.mul(cell, a[f"in_step_{axis}"]) for axis, cell in zip("dh", cells, strict=True)]
        with f.when(f.both(*exist)), f.loop(begin, end, tile.rows) as q:
            column = f.add(box.start[3], q)
            sums = zero_sums(k, tile.rows, channels.vectors)
            rows = _Rows(channels, g, (x, w, zeros), first, f.mul(column, a["in_step_w"]))
            if isinstance(k.recipe.unrolled, RowTaps):
                rows.add(sums, k.recipe.unrolled)
            else:
                rows.add_by_taps(sums)
            loaded = [epilogue.staged(k, operands, j * lanes, lanes) for j in range(channels.vectors)]
            place = f.at(target, f.mul(position(k, "w", column, phases[2]), a["y_stride_w"]), e.storage)
            _store(channels, sums, loaded, place, f.sub(end, q))
    return f


def _store(
    channels: _Channels, sums: Sums, loaded: list[epilogue.Loaded], first: Value, count: Operand
) -> None:  # fmt: skip
    """Store the outputs of the pixels of a tile that exist, at least one, from a place on.

    A long epilogue is written once, in a loop that has its constants in registers, for sums that wait.
    """
    k = channels.k
    f, e, a = k.f, k.e, k.a
    pitch = f.mul(a["out_step_w"], a["y_stride_w"])
    if epilogue.is_long(k):
        width = channels.vectors * k.lanes
        room = f.variable(f"[{len(sums) * width} x {e.accumulator}]")
        for i, row in enumerate(sums):
            write_row(k, f.at(room, i * width, e.accumulator), row)
        with f.loop(0, f.minimum(count, len(sums))) as pixel:
            totals = vectors_at(k, channels.vectors, f.at(room, f.mul(pixel, width), e.accumulator))
            channels.store(totals, loaded, f.at(first, f.mul(pixel, pitch), e.storage))
        return

    def store(i: int) -> None:
        totals = [f.get(total, k.vector) for total in sums[i]]
        channels.store(totals, loaded, f.at(first, f.mul(i, pitch), e.storage))

    every = f.compare("sge", count, len(sums))
    with f.when(every):
        for i in range(len(sums)):
            store(i)
    with f.when(f.negate(every)):
        for i in range(len(sums) - 1):
            with f.when(f.compare("slt", i, count)):
                store(i)


@dataclass(frozen=True)
class _Rows:
    """What a tile reads: the taps of its phase, and the input from its first pixel on."""

    channels: _Channels
    #: The group of taps, by the names of its numbers.
    g: dict[str, Value]
    #: The input, the weights, zeros.
    tensors: tuple[Value, Value, Value]
    #: The input's plane, row and column of the first pixel at offset 0.
    first: Sequence[Operand]
    column: Operand

    def add(self, sums: Sums, unrolled: RowTaps) -> None:
        """The products of all taps, a row of them at a time."""
        channels = self.channels
        k = channels.k
        f = k.f
        with f.loop(0, f.div(self.g["taps"], unrolled.taps)) as row:
            tap = f.mul(row, unrolled.taps)
            line, exists, begin = self._line(tap)
            with f.when(exists):
                read = unrolled.reads(len(sums))
                pixels = [self._pixel(line, f.add(begin, offset)) for offset, _ in read]
                panels = [self._panel(f.add(tap, t)) for t in range(unrolled.taps)]
                for j in range(channels.vectors):
                    weights = [self._weights(panel, j) for panel in panels]
                    for pixel, (_, readers) in zip(pixels, read, strict=True):
                        value = channels.load(pixel, j)
                        for i, t in readers:
                            total = sums[i][j]
                            f.set(total, fused(k, value, weights[t], f.get(total, k.vector)))

    def add_by_taps(self, sums: Sums) -> None:
        """The products of all taps, one of them at a time."""
        channels = self.channels
        k = channels.k
        f, a = k.f, k.a
        with f.loop(0, self.g["taps"]) as tap:
            line, exists, begin = self._line(tap)
            with f.when(exists):
                panel = self._panel(tap)
                weights = [self._weights(panel, j) for j in range(channels.vectors)]
                for i, row in enumerate(sums):
                    pixel = self._pixel(line, f.add(begin, f.mul(a["in_step_w"], i)))
                    for j, total in enumerate(row):
                        value = channels.load(pixel, j)
                        f.set(total, fused(k, value, weights[j], f.get(total, k.vector)))

    def _line(self, tap: Operand) -> tuple[Value, Value, Operand]:
        """The input row that a tap reads, whether there is one, and the first pixel's column in it."""
        k = self.channels.k
        f, a = k.f, k.a
        offsets = [f.load_i32(self.g["tap_offsets_at"], f.add(f.mul(tap, 3), i)) for i in range(3)]
        line, inside = self.tensors[0], []
        for axis, start, offset in zip("dh", self.first, offsets, strict=False):
            u = f.add(start, offset)
            inside.append(f.compare("ult", u, a[f"in_size_{axis}"]))
            line = f.at(line, f.mul(u, a[f"x_stride_{axis}"]), k.e.storage)
        return line, f.both(*inside), f.add(self.column, offsets[2])

    def _pixel(self, line: Value, u: Operand) -> Value:
        """Where a column of a row lies, or zeros where there is none."""
        k = self.channels.k
        f, a = k.f, k.a
        pixel = f.at(line, f.mul(u, a["x_stride_w"]), k.e.storage)
        return f.select(f.compare("ult", u, a["in_size_w"]), pixel, self.tensors[2])

    def _panel(self, tap: Operand) -> Value:
        """Where the weights of a tap lie."""
        k = self.channels.k
        return k.f.at(self.tensors[1], k.f.mul(tap, k.a["tile_outputs"]), k.e.accumulator)

    def _weights(self, panel: Value, vector: int) -> Value:
        k = self.channels.k
        place = k.f.at(panel, vector * k.lanes, k.e.accumulator)
        return k.f.load(k.vector, place, k.e.accumulator_bytes)
