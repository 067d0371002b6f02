"""The loop nest of a gather kernel: tasks, passes over channels, chunks of outputs, phase groups, tiles.

Threads take tasks from a shared counter; which thread runs a task changes no bit of the result,
because a task's outputs are its own and the order of their sums is fixed. The register tile is a
function that the caller names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from outstride.codegen.ahead import ask, ask_function, expect_next
from outstride.codegen.arguments import GROUP_FIELDS, GROUP_INDEX, INDEX
from outstride.codegen.box import Box, Stripe, decode_box
from outstride.codegen.elements import ELEMENTS, Element
from outstride.codegen.in_place import in_place_source
from outstride.codegen.ir import I64, PTR, Function, Operand, Value, module
from outstride.codegen.results import bias_of, write_function, write_part
from outstride.codegen.strip import pack_functions
from outstride.codegen.taps import Taps, search, tile_runs
from outstride.codegen.tasks import read_arguments, take_tasks
from outstride.planner.machine import CHANNEL_BLOCK, INSTRUCTION_SETS
from outstride.planner.recipe import SWEEPS, TILES, Recipe, Sweep


def gather_source(recipe: Recipe) -> str:
    """The LLVM IR of a recipe's kernel: its functions and the entry point `run`."""
    if recipe.window is not None:
        return in_place_source(recipe, recipe.window)
    e = ELEMENTS[recipe.dtype]
    lanes = INSTRUCTION_SETS[recipe.instruction_set].lanes(e.accumulator_bytes)
    functions = [
        search(), tile_runs(), ask_function(), *pack_functions(recipe, e, lanes, INDEX),
        write_function(recipe, e, lanes, INDEX), _chunk(e, lanes, recipe.sweeps), _task(e), take_tasks(INDEX),
    ]  # fmt: skip
    return module(functions, f"outstride gather_{recipe.name}")


def _task(e: Element) -> Function:
    f = Function("task", [("block", PTR), ("scratch", PTR), ("number", I64)], internal=True, rare=True)
    block, strip, number = f.parameters
    a = read_arguments(f, block, INDEX)
    temp = f.at(strip, a["temp_bytes_offset"], "i8")
    line = f.at(strip, a["line_bytes_offset"], "i8")
    part = f.rem(number, a["m_tasks"])
    box, number_of_groups = decode_box(f, a, f.div(number, a["m_tasks"]))
    first_group = f.mul(number_of_groups, a["groups_per_task"])
    groups = f.minimum(a["groups_per_task"], f.sub(a["groups"], first_group))
    place = f.add(f.mul(box.start[0], a["x_stride_n"]), f.mul(first_group, a["x_stride_g"]))
    source = f.at(a["x_at"], place, e.storage)
    absent = f.emit("i1", f"icmp eq ptr {a['bias_at'].name}, null")
    Taps.at(f, a, strip).find(f, a, block, box)
    first_chunk = f.mul(part, a["chunks_per_task"])
    last_chunk = f.minimum(f.add(first_chunk, a["chunks_per_task"]), a["chunks"])
    with f.loop(0, a["passes"]) as number_of_pass:
        first = f.mul(number_of_pass, a["channels_per_pass"])
        channels = f.minimum(a["channels_per_pass"], f.sub(a["channels"], first))
        image = f.at(source, f.mul(first, a["x_stride_c"]), e.storage)
        # Groups that share a task have one channel each: they are packed as channels of one.
        packed = f.maximum(f.maximum(channels, a["own_channels"]), groups)
        f.run("pack", block, image, strip, *box.numbers, packed)
        expect_next(f, e, a, f.at(strip, a["ahead_bytes_offset"], "i8"), number, box, first_group, first)
        last = f.compare("eq", f.add(number_of_pass, 1), a["passes"])
        with f.loop(0, groups) as g, f.loop(first_chunk, last_chunk) as chunk:
            group = f.add(first_group, g)
            own = f.at(strip, f.mul(g, a["channel_pitch"]), e.accumulator)
            results = f.at(temp, f.mul(f.sub(chunk, first_chunk), a["chunk_temp"]), e.accumulator)
            panel = f.add(f.mul(group, a["w_stride_g"]), f.mul(chunk, a["w_stride_chunk"]))
            panel_at = f.at(a["w_at"], panel, e.accumulator)
            lane = f.mul(f.mul(chunk, a["chunk_outputs"]), a["x_lane"])
            output = f.mul(chunk, a["chunk_outputs"])
            count = f.minimum(a["chunk_outputs"], f.sub(a["outputs"], output))
            place = f.add(f.mul(box.start[0], a["y_stride_n"]), f.mul(group, a["y_stride_g"]))
            target = f.at(a["y_at"], place, e.storage)
            own_bias = f.at(a["bias_at"], f.mul(group, a["outputs"]), e.storage)
            bias = f.select(absent, Value("null", PTR), own_bias)
            f.run(
                "chunk", block, strip, own, results, panel_at, *box.numbers, number_of_pass, channels, lane,
                target, output, count, bias,
            )  # fmt: skip
            written = f.both(last, f.compare("ne", a["sweep"], SWEEPS.index("direct")))
            with f.when(written), f.loop(0, a["stripes"]) as s:
                stripe = Stripe.at(f, a, s)
                columns = stripe.of(f, box).numbers
                f.run("write", block, results, target, line, stripe.pointer, *columns, output, count, bias)
    return f


def _chunk(e: Element, lanes: int, sweeps: Sequence[Sweep]) -> Function:
    """All phase groups and tiles of one chunk of output channels over the packed channels.

    `target` is the output of the box's first image and of channel 0 of the group; the chunk makes `count`
    outputs from `output` on.
    """
    box_parameters = [(f"b{i}", I64) for i in range(8)]
    head = [("block", PTR), ("scratch", PTR), ("strip", PTR), ("results", PTR), ("panel", PTR)]
    tail = [("pass", I64), ("channels", I64), ("lane", I64)]
    tail += [("target", PTR), ("output", I64), ("count", I64), ("bias", PTR)]
    f = Function("chunk", [*head, *box_parameters, *tail], internal=True)
    block, scratch, strip, results, panel, *numbers = f.parameters[:13]
    number_of_pass, channels, lane, target, output, count, bias = f.parameters[13:]
    a = read_arguments(f, block, INDEX)
    box = Box.of(numbers)
    full_blocks, rest_channels = f.div(channels, CHANNEL_BLOCK), f.rem(channels, CHANNEL_BLOCK)
    pixel_major = f.compare("ne", a["pixel_pitch"], 1)
    full_block = f.select(pixel_major, CHANNEL_BLOCK, f.mul(a["channel_pitch"], CHANNEL_BLOCK))
    resume = f.word(f.compare("ne", number_of_pass, 0))
    blocks_before = f.mul(number_of_pass, f.div(a["channels_per_pass"], CHANNEL_BLOCK))
    taps = Taps.at(f, a, scratch)
    searched, ahead = taps.searched(f, a, box), f.at(scratch, a["ahead_bytes_offset"], "i8")
    with f.loop(0, a["phase_groups"]) as index:
        entry = f.at(a["phase_groups_at"], f.mul(index, len(GROUP_FIELDS)), I64)
        g = read_arguments(f, entry, GROUP_INDEX)
        skip = f.mul(blocks_before, g["w_block_stride"])
        with f.loop(0, g["tiles"]) as tile:
            start = f.add(g["w_offset"], f.add(f.mul(tile, g["w_tile_stride"]), skip))
            w = f.at(panel, start, e.accumulator)
            number = f.add(g["row"], f.mul(tile, a["tile_outputs"]))
            row = f.at(results, f.mul(number, a["temp_pitch"]), e.accumulator)
            kernel = _Kernel(
                block, entry, full_blocks, rest_channels, full_block, resume, taps, searched, ahead
            )  # fmt: skip
            own = f.add(lane, f.mul(f.mul(tile, a["tile_outputs"]), a["x_lane"]))
            own_strip = f.at(strip, own, e.accumulator)
            for sweep in sweeps:
                if sweep == "direct":
                    first = f.mul(tile, a["tile_outputs"])
                    rows = f.minimum(a["tile_outputs"], f.sub(count, first))
                    outputs = _Outputs(target, f.add(output, first), rows, bias)
                    _direct_tiles(f, e, lanes, a, g, kernel, own_strip, results, w, box, outputs)
                else:
                    _SWEEPS[sweep](f, e, a, g, kernel, own_strip, row, w, box)
    return f


@dataclass(frozen=True)
class _Kernel:
    """What every tile of a pass is told about the sum: its group, channel blocks, whether to resume, taps.

    And what is packed next, to be asked for.
    """

    block: Value
    group: Value
    full_blocks: Operand
    rest_channels: Operand
    block_pitch: Operand
    resume: Operand
    taps: Taps
    searched: Value
    ahead: Value


@dataclass(frozen=True)
class _Outputs:
    """Outputs of a tile: channel 0 of the first image, the first of them, how many, the bias of all."""

    target: Value
    first: Operand
    count: Operand
    bias: Value


def _times(f: Function, a: dict[str, Value], sweep: Sweep, count: Operand) -> Operand:
    """How often the loop of a sweep runs: not at all in the others."""
    return f.select(f.compare("eq", a["sweep"], SWEEPS.index(sweep)), count, 0)


def _call_tile(
    f: Function, a: dict[str, Value], g: dict[str, Value], kernel: _Kernel, x: Value, pixels: Value, w: Value,
    out: Value, runs: tuple[Value, Value], pitch: Operand | None = None, bias: Value | None = None,
) -> None:  # fmt: skip
    pitch = a["temp_pitch"] if pitch is None else pitch
    ask(f, a, kernel.ahead)
    f.run(
        a["tile_at"], x, pixels, w, out, pitch, kernel.full_blocks, g["full_at"], CHANNEL_BLOCK,
        g["taps"], *runs, kernel.block_pitch, g["rest_at"], kernel.rest_channels,
        kernel.resume, bias or _NULL,
    )  # fmt: skip


def _channels_tiles(
    f: Function, e: Element, a: dict[str, Value], g: dict[str, Value], kernel: _Kernel, strip: Value,
    row: Value, w: Value, box: Box,
) -> None:  # fmt: skip
    """Pixels by list, a tile of them at a time, up to the last one that this box has of each stripe."""
    with f.loop(0, _times(f, a, "channels", a["stripes"])) as number:
        stripe = Stripe.at(f, a, number)
        columns, place = stripe.of(f, box), stripe.field(f, "place")
        of_stripe = kernel.taps.of(f, a, g, number)
        end: Operand = columns.count[3]
        for count, pitch in zip(columns.count, stripe.pitches(f), strict=False):
            end = f.add(end, f.mul(f.sub(count, 1), pitch))
        with f.loop(0, end, a["tile_rows"]) as i:
            q = f.add(place, i)
            listed = f.at(a["pixel_at"], q, "i32")
            out = f.at(row, f.mul(q, a["result_pixel"]), e.accumulator)
            last = f.sub(f.add(i, a["tile_rows"]), 1)
            runs = kernel.taps.of_tile(
                f, kernel.searched, kernel.block, kernel.group, stripe, columns, i, last, of_stripe
            )
            _call_tile(f, a, g, kernel, strip, listed, w, out, runs)


def _pixels_tiles(
    f: Function, e: Element, a: dict[str, Value], g: dict[str, Value], kernel: _Kernel, strip: Value,
    row: Value, w: Value, box: Box,
) -> None:  # fmt: skip
    """Every vector of the box, over row ends.

    Rows of cells lie one behind the other in the strip; the few lanes between two rows are computed and not
    written.
    """
    plane = f.add(f.mul(f.sub(box.count[2], 1), a["strip_w"]), box.count[3])
    nested = f.compare("ne", a["spans"], 0)
    deep = f.mul(f.sub(box.count[1], 1), a["depth_pitch"])
    whole = f.add(f.add(plane, deep), f.mul(f.sub(box.count[0], 1), a["image_pitch"]))
    spans = _times(f, a, "pixels", f.select(nested, box.count[1], 1))
    length = f.select(nested, plane, whole)
    stripe, of_box = Stripe.at(f, a, 0), kernel.taps.of(f, a, g)
    with f.loop(0, spans) as span, f.loop(0, length, a["tile_pixels"]) as q:
        place = f.add(f.mul(span, a["depth_pitch"]), q)
        out = f.at(row, place, e.accumulator)
        last = f.sub(f.add(q, a["tile_pixels"]), 1)
        runs = kernel.taps.of_tile(
            f, kernel.searched, kernel.block, kernel.group, stripe, box, q, last, of_box
        )
        _call_tile(f, a, g, kernel, f.at(strip, place, e.accumulator), _NULL, w, out, runs)


def _direct_tiles(
    f: Function, e: Element, lanes: int, a: dict[str, Value], g: dict[str, Value], kernel: _Kernel,
    strip: Value, room: Value, w: Value, box: Box, outputs: _Outputs,
) -> None:  # fmt: skip
    """Every vector, stored where it belongs in the output, with the bias added: row by row.

    Planes that lie in the output as in the strip, without gaps, are rows themselves. Tiles that reach beyond
    a row or the last output go to `room`, and what exists of them on from there.
    """
    bias = f.variable(f"[{_MOST_ROWS} x {e.accumulator}]")
    with f.loop(0, _times(f, a, "direct", outputs.count)) as i:
        own = bias_of(f, e, outputs.bias, f.add(outputs.first, i), 1, 1)
        f.store(own, f.at(bias, i, e.accumulator), e.accumulator_bytes)
    start = f.mul(outputs.first, a["y_stride_m"])
    for axis, first in zip("dhw", box.start[1:], strict=True):
        start = f.add(start, f.mul(first, a[f"y_stride_{axis}"]))
    gapless = (f.compare("eq", a["strip_w"], pitch) for pitch in (box.count[3], a["y_stride_h"]))
    flat = f.both(*gapless)
    rows = f.select(flat, 1, box.count[2])
    length = f.select(flat, f.mul(box.count[2], box.count[3]), box.count[3])
    every = f.compare("eq", outputs.count, a["tile_outputs"])
    stripe, of_box = Stripe.at(f, a, 0), kernel.taps.of(f, a, g)
    with (
        f.loop(0, _times(f, a, "direct", box.count[0])) as n,
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
        end = f.add(q, a["tile_pixels"])
        whole = f.both(every, f.compare("sle", end, length))
        last = f.sub(f.add(place, a["tile_pixels"]), 1)
        runs = kernel.taps.of_tile(
            f, kernel.searched, kernel.block, kernel.group, stripe, box, place, last, of_box
        )
        _call_tile(
            f, a, g, kernel, f.at(strip, place, e.accumulator), _NULL, w, f.select(whole, out, room), runs,
            f.select(whole, a["y_stride_m"], a["temp_pitch"]), bias,
        )  # fmt: skip
        with f.when(f.negate(whole)), f.loop(0, outputs.count) as i:
            source = f.at(room, f.mul(i, a["temp_pitch"]), e.accumulator)
            target = f.at(out, f.mul(i, a["y_stride_m"]), e.storage)
            write_part(f, e, lanes, source, target, f.minimum(a["tile_pixels"], f.sub(length, q)))


def _rows_tiles(
    f: Function, e: Element, a: dict[str, Value], g: dict[str, Value], kernel: _Kernel, strip: Value,
    row: Value, w: Value, box: Box,
) -> None:  # fmt: skip
    """Groups of rows, and along them the tile's vectors, from the right.

    What a vector writes beyond the end of its row is the beginning of the next, which is then still to come.
    """
    across = f.ceil_div(box.count[3], a["tile_pixels"])
    with (
        f.loop(0, _times(f, a, "rows", box.count[0])) as n,
        f.loop(0, box.count[1]) as d,
        f.loop(0, box.count[2], a["tile_rows"]) as h,
        f.loop(0, across) as i,
    ):
        q = f.mul(f.sub(f.sub(across, 1), i), a["tile_pixels"])
        start = f.add(f.mul(n, a["image_pitch"]), f.mul(d, a["depth_pitch"]))
        first = f.select(f.compare("sgt", a["row_way"], 0), h, f.sub(f.add(h, a["tile_rows"]), 1))
        place = f.add(start, f.add(f.mul(first, a["strip_w"]), q))
        x, out = (f.at(base, place, e.accumulator) for base in (strip, row))
        pitch = f.mul(a["row_way"], a["strip_w"])
        ask(f, a, kernel.ahead)
        f.run(
            a["tile_at"], x, w, out, pitch, kernel.full_blocks, g["full_at"], CHANNEL_BLOCK,
            g["taps_d"], g["taps_h"], g["taps_w"], kernel.block_pitch, g["rest_at"],
            kernel.rest_channels, kernel.resume,
        )  # fmt: skip


_NULL = Value("null", PTR)
#: Outputs of a tile along the width, at most.
_MOST_ROWS = max(tile.rows for tiles in TILES.values() for tile in tiles if tile.dataflow == "pixels")
#: The loop over tiles of each kind whose results go to scratch.
_SWEEPS = {"channels": _channels_tiles, "pixels": _pixels_tiles, "rows": _rows_tiles}
