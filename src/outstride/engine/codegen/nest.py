"""The loop nest of a gather kernel: tasks, passes over channels, chunks of outputs, phase groups, tiles.

Threads take tasks from a shared counter; which thread runs a task changes no bit of the result,
because a task's outputs are its own and the order of their sums is fixed. The register tile is a
function that the caller names.
"""

from __future__ import annotations

from collections.abc import Sequence

from outstride.engine.codegen.ahead import ask_function, expect_next
from outstride.engine.codegen.arguments import GROUP_FIELDS, GROUP_INDEX, INDEX
from outstride.engine.codegen.box import Box, Stripe, decode_box
from outstride.engine.codegen.elements import ELEMENTS, Element
from outstride.engine.codegen.in_place import in_place_functions
from outstride.engine.codegen.ir import I64, PTR, Function, Value, module
from outstride.engine.codegen.results import write_function
from outstride.engine.codegen.spread import spread_functions
from outstride.engine.codegen.strip import pack_functions
from outstride.engine.codegen.sweeps import Outputs, Sum, TileLoops
from outstride.engine.codegen.taps import Taps, search, tile_runs
from outstride.engine.codegen.tasks import read_arguments, take_tasks
from outstride.engine.planner.machine import CHANNEL_BLOCK, INSTRUCTION_SETS
from outstride.engine.planner.recipe import Recipe
from outstride.engine.planner.tiles import SWEEPS, Sweep
from outstride.engine.planner.windows import Spread, Window


def gather_source(recipe: Recipe) -> str:
    """The LLVM IR of a recipe's kernel: its functions and the entry point `run`."""
    e = ELEMENTS[recipe.dtype]
    lanes = INSTRUCTION_SETS[recipe.instruction_set].lanes(e.accumulator_bytes)
    if isinstance(recipe.window, Window):
        functions = in_place_functions(recipe, recipe.window, e, lanes)
    elif isinstance(recipe.window, Spread):
        functions = spread_functions(recipe, recipe.window, e, lanes)
    else:
        functions = [
            search(), tile_runs(), ask_function(), *pack_functions(recipe, e, lanes, INDEX),
            write_function(recipe, e, lanes, INDEX), _chunk(e, lanes, recipe.sweeps), _task(e),
        ]  # fmt: skip
    return module([*functions, take_tasks(INDEX)], f"outstride gather_{recipe.name}")


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
    full_block = f.mul(a["channel_pitch"], CHANNEL_BLOCK)
    resume = f.word(f.compare("ne", number_of_pass, 0))
    blocks_before = f.mul(number_of_pass, f.div(a["channels_per_pass"], CHANNEL_BLOCK))
    taps = Taps.at(f, a, scratch)
    ahead = f.at(scratch, a["ahead_bytes_offset"], "i8")
    told = Sum(full_blocks, rest_channels, full_block, resume, taps, taps.searched(f, a, box), ahead)
    with f.loop(0, a["phase_groups"]) as index:
        entry = f.at(a["phase_groups_at"], f.mul(index, len(GROUP_FIELDS)), I64)
        g = read_arguments(f, entry, GROUP_INDEX)
        skip = f.mul(blocks_before, g["w_block_stride"])
        with f.loop(0, g["tiles"]) as tile:
            start = f.add(g["w_offset"], f.add(f.mul(tile, g["w_tile_stride"]), skip))
            w = f.at(panel, start, e.accumulator)
            first = f.mul(tile, a["tile_outputs"])
            row = f.at(results, f.mul(f.add(g["row"], first), a["temp_pitch"]), e.accumulator)
            own = f.at(strip, f.add(lane, f.mul(first, a["x_lane"])), e.accumulator)
            rows = f.minimum(a["tile_outputs"], f.sub(count, first))
            outputs = Outputs(target, f.add(output, first), rows, bias)
            loops = TileLoops(f, e, lanes, block, a, entry, g, box, own, w, row, results, told, outputs)
            for sweep in sweeps:
                loops.emit(sweep)
    return f
