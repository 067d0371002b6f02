"""The loop nest of a gather kernel: tasks, passes over channels, chunks of outputs, phase groups, tiles.

Threads take tasks from a shared counter; which thread runs a task changes no bit of the result,
because a task's outputs are its own and the order of their sums is fixed. The register tile is a
function that the caller names.
"""

from __future__ import annotations

from outstride.engine.codegen import dataflows
from outstride.engine.codegen.arguments import GROUP_FIELDS, GROUP_INDEX, INDEX
from outstride.engine.codegen.box import BOX, Box, Region, decode_box
from outstride.engine.codegen.cells import cells_function
from outstride.engine.codegen.context import Kernel
from outstride.engine.codegen.ir import I64, PTR, Function, module
from outstride.engine.codegen.loops import Outputs, Pass, TileLoop
from outstride.engine.codegen.packing.planes import planes_functions
from outstride.engine.codegen.packing.prefetch import expect_next, prefetch_function
from outstride.engine.codegen.packing.strip import pack_functions
from outstride.engine.codegen.packing.unwritten import clear_function
from outstride.engine.codegen.results import write_function
from outstride.engine.codegen.steps import epilogue
from outstride.engine.codegen.taps import Taps, search, tile_runs
from outstride.engine.codegen.tasks import read_arguments, take_tasks
from outstride.engine.planner.machine import CHANNEL_BLOCK
from outstride.engine.planner.recipe import Recipe


def gather_source(recipe: Recipe) -> str:
    """The LLVM IR of a recipe's kernel: its functions and the entry point `run`."""
    kernel = Kernel(recipe, INDEX)
    own = dataflows.KERNELS.get(recipe.loops[0], _functions)
    tasks = take_tasks(INDEX, "clear" if own is _functions else None)
    return module([*own(kernel), tasks], f"outstride gather_{recipe.name}")


def _functions(kernel: Kernel) -> list[Function]:
    """What a kernel is made of that packs its input."""
    if kernel.recipe.short:
        ends = [*planes_functions(kernel), cells_function(kernel)]
    else:
        ends = [*pack_functions(kernel), write_function(kernel)]
    shared = [search(kernel), tile_runs(kernel), prefetch_function(), clear_function(kernel)]
    return [*shared, *ends, _chunk(kernel), _task(kernel)]


def _task(kernel: Kernel) -> Function:
    """A box of some groups and chunks: every pass packs its channels, and tiles add them to the sums."""
    k = kernel.function("task", ("scratch", PTR), ("number", I64), rare=True)
    f, e, a = k.f, k.e, k.a
    strip, number = k.parameters
    temp = f.at(strip, a["temp_bytes_offset"], "i8")
    line = f.at(strip, a["line_bytes_offset"], "i8")
    part = f.rem(number, a["m_tasks"])
    box, number_of_groups = decode_box(f, a, f.div(number, a["m_tasks"]))
    first_group = f.mul(number_of_groups, a["groups_per_task"])
    groups = f.minimum(a["groups_per_task"], f.sub(a["groups"], first_group))
    place = f.add(f.mul(box.start[0], a["x_stride_n"]), f.mul(first_group, a["x_stride_g"]))
    source = f.at(a["x_at"], place, e.storage)
    Taps.at(k, strip).find(k, box)
    first_chunk = f.mul(part, a["chunks_per_task"])
    last_chunk = f.minimum(f.add(first_chunk, a["chunks_per_task"]), a["chunks"])
    with f.loop(0, a["passes"]) as number_of_pass:
        first = f.mul(number_of_pass, a["channels_per_pass"])
        channels = f.minimum(a["channels_per_pass"], f.sub(a["channels"], first))
        image = f.at(source, f.mul(first, a["x_stride_c"]), e.storage)
        # Groups that share a task have one channel each: they are packed as channels of one.
        packed = f.maximum(f.maximum(channels, a["own_channels"]), groups)
        pack = "pack_planes" if k.recipe.short else "pack"
        # Rows of a matrix are read where they lie; tiles at the end of a smaller box would go on beyond it.
        full = f.compare("eq", box.count[3], a["block_w"])
        lies = f.both(f.compare("eq", a["packs"], 0), full)
        with f.when(f.negate(lies)):
            f.run(pack, k.block, image, strip, *box.numbers, packed)
        there = f.at(image, f.mul(box.start[3], a["x_stride_w"]), e.storage)
        inputs = f.select(lies, there, strip)
        expect_next(k, f.at(strip, a["prefetch_bytes_offset"], "i8"), number, box, first_group, first)
        last = f.compare("eq", f.add(number_of_pass, 1), a["passes"])
        with f.loop(0, groups) as g, f.loop(first_chunk, last_chunk) as chunk:
            group = f.add(first_group, g)
            own = f.at(inputs, f.mul(g, a["channel_pitch"]), e.accumulator)
            results = f.at(temp, f.mul(f.sub(chunk, first_chunk), a["chunk_temp"]), e.accumulator)
            panel = f.add(f.mul(group, a["w_stride_g"]), f.mul(chunk, a["w_stride_chunk"]))
            panel_at = f.at(a["w_at"], panel, e.accumulator)
            lane = f.mul(f.mul(chunk, a["chunk_outputs"]), a["x_lane"])
            output = f.mul(chunk, a["chunk_outputs"])
            count = f.minimum(a["chunk_outputs"], f.sub(a["outputs"], output))
            place = f.add(f.mul(box.start[0], a["y_stride_n"]), f.mul(group, a["y_stride_g"]))
            target = f.at(a["y_at"], place, e.storage)
            first_channel = epilogue.first_channel(k, group)
            f.run(
                "chunk", k.block, strip, own, results, panel_at, *box.numbers, number_of_pass, channels, lane,
                target, output, count, first_channel,
            )  # fmt: skip
            written = f.both(last, dataflows.results_in_scratch(k))
            with f.when(written), f.loop(0, a["regions"]) as s:
                region = Region.at(f, a, s)
                numbers = region.of(f, box).numbers
                f.run(
                    "write", k.block, results, target, line, region.pointer, *numbers, output, count,
                    first_channel,
                )  # fmt: skip
    return f


def _chunk(kernel: Kernel) -> Function:
    """All phase groups and tiles of one chunk of output channels over the packed channels.

    `target` is the output of the box's first image and of channel 0 of the group; the chunk makes `count`
    outputs from `output` on, and `first_channel` is that of the group.
    """
    k = kernel.function(
        "chunk", ("scratch", PTR), ("strip", PTR), ("results", PTR), ("panel", PTR),
        *((f"b{i}", I64) for i in range(len(BOX))), ("pass", I64), ("channels", I64), ("lane", I64),
        ("target", PTR), ("output", I64), ("count", I64), epilogue.PARAMETER,
    )  # fmt: skip
    f, e, a = k.f, k.e, k.a
    scratch, strip, results, panel, *numbers = k.parameters[: 4 + len(BOX)]
    number_of_pass, channels, lane, target, output, count, first_channel = k.parameters[4 + len(BOX) :]
    box = Box.of(numbers)
    full_blocks, rest_channels = f.div(channels, CHANNEL_BLOCK), f.rem(channels, CHANNEL_BLOCK)
    full_block = f.mul(a["channel_pitch"], CHANNEL_BLOCK)
    resume = f.word(f.compare("ne", number_of_pass, 0))
    before = f.mul(number_of_pass, a["channels_per_pass"])
    taps = Taps.at(k, scratch)
    table = f.at(scratch, a["prefetch_bytes_offset"], "i8")
    run = Pass(full_blocks, rest_channels, full_block, resume, taps, taps.searched(k, box), table)
    with f.loop(0, a["phase_groups"]) as index:
        entry = f.at(a["phase_groups_at"], f.mul(index, len(GROUP_FIELDS)), I64)
        g = read_arguments(f, entry, GROUP_INDEX)
        skip = f.mul(before, f.mul(g["taps"], a["tile_outputs"]))
        # Short chunks have several tiles, the last chunk fewer.
        tiles = f.minimum(g["tiles"], f.ceil_div(count, a["tile_outputs"])) if k.recipe.short else g["tiles"]
        with f.loop(0, tiles) as tile:
            start = f.add(g["w_offset"], f.add(f.mul(tile, g["w_tile_stride"]), skip))
            w = f.at(panel, start, e.accumulator)
            first = f.mul(tile, a["tile_outputs"])
            row = f.at(results, f.mul(f.add(g["row"], first), a["temp_pitch"]), e.accumulator)
            own = f.at(strip, f.add(lane, f.mul(first, a["x_lane"])), e.accumulator)
            rows = f.minimum(a["tile_outputs"], f.sub(count, first))
            outputs = Outputs(target, f.add(output, first), rows, first_channel)
            loop = TileLoop(k, entry, g, box, own, w, row, results, run, outputs)
            for name in k.recipe.loops:
                dataflows.LOOPS[name](loop)
    return f
