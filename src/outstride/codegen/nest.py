"""The loop nest of a gather kernel: tasks -> passes over channels -> chunks of outputs -> phase groups -> tiles.

Threads take tasks from a shared counter; which thread runs a task changes no bit of the result, because a task's
outputs are its own and the order of their sums is fixed.
"""

from __future__ import annotations

from outstride.codegen.arguments import GROUP_FIELDS, GROUP_INDEX, INDEX
from outstride.codegen.elements import ELEMENTS, Element
from outstride.codegen.ir import I64, PTR, Function, Operand, Value, module
from outstride.codegen.microkernel import microkernel
from outstride.codegen.results import write_back
from outstride.codegen.strip import Box, pack
from outstride.codegen.taps import Taps
from outstride.codegen.tasks import read_arguments, take_tasks
from outstride.planner.machine import CHANNEL_BLOCK, INSTRUCTION_SETS
from outstride.planner.recipe import Recipe


def gather_source(recipe: Recipe) -> str:
    """The LLVM IR of a recipe's kernel: `tile`, `task` and the entry point `run`."""
    e = ELEMENTS[recipe.dtype]
    lanes = INSTRUCTION_SETS[recipe.instruction_set].lanes(e.accumulator_bytes)
    functions = [microkernel(recipe, e, lanes), _task(recipe, e, lanes), take_tasks(INDEX)]
    return module(functions, f"outstride {recipe.name}\n{recipe}")


def _task(recipe: Recipe, e: Element, lanes: int) -> Function:
    f = Function("task", [("block", PTR), ("scratch", PTR), ("number", I64)], internal=True)
    block, strip, number = f.parameters
    a = read_arguments(f, block, INDEX)
    temp = f.at(strip, a["temp_bytes_offset"], "i8")
    line = f.at(strip, a["line_bytes_offset"], "i8")
    part = f.rem(number, a["m_tasks"])
    box, group = decode_box(f, a, f.div(number, a["m_tasks"]))
    image = f.add(f.mul(box.start[0], a["x_stride_n"]), f.mul(group, a["x_stride_g"]))
    source = f.at(a["x_at"], image, e.storage)
    target = f.at(
        a["y_at"], f.add(f.mul(box.start[0], a["y_stride_n"]), f.mul(group, a["y_stride_g"])), e.storage
    )
    weights = f.at(a["w_at"], f.mul(group, a["w_stride_g"]), e.accumulator)
    bias = f.emit(PTR, f"select i1 {_is_null(f, a['bias_at'])}, ptr null, ptr {f.at(a['bias_at'], f.mul(group, a['outputs']), e.storage).name}")
    taps = Taps(f.at(strip, a["runs_bytes_offset"], "i8"))
    taps.find(f, a, box)
    first_chunk = f.mul(part, a["chunks_per_task"])
    last_chunk = f.minimum(f.add(first_chunk, a["chunks_per_task"]), a["chunks"])
    with f.loop(0, a["passes"]) as number_of_pass:
        first = f.mul(number_of_pass, a["channels_per_pass"])
        channels = f.minimum(a["channels_per_pass"], f.sub(a["channels"], first))
        pack(f, recipe, e, lanes, a, f.at(source, f.mul(first, a["x_stride_c"]), e.storage), strip, box, channels)
        last = f.compare("eq", f.add(number_of_pass, 1), a["passes"])
        with f.loop(first_chunk, last_chunk) as chunk:
            results = f.at(temp, f.mul(f.sub(chunk, first_chunk), a["chunk_temp"]), e.accumulator)
            panel = f.at(weights, f.mul(chunk, a["w_stride_chunk"]), e.accumulator)
            _chunk(f, recipe, e, lanes, a, strip, results, panel, box, taps, number_of_pass, first, channels)
            with f.when(last):
                output = f.mul(chunk, a["chunk_outputs"])
                count = f.minimum(a["chunk_outputs"], f.sub(a["outputs"], output))
                write_back(f, recipe, e, lanes, a, results, target, line, box, output, count, bias)
    return f


def _is_null(f: Function, pointer: Value) -> str:
    return f.emit("i1", f"icmp eq ptr {pointer.name}, null").name


def decode_box(f: Function, a: dict[str, Value], number: Operand) -> tuple[Box, Operand]:
    """Box number -> the box of cells, width fastest, images slowest, and what is left of the number."""
    rest = number
    starts: list[Operand] = []
    counts: list[Operand] = []
    for axis in "whd":
        start = f.mul(f.rem(rest, a[f"tasks_{axis}"]), a[f"block_{axis}"])
        rest = f.div(rest, a[f"tasks_{axis}"])
        starts.insert(0, start)
        counts.insert(0, f.minimum(a[f"block_{axis}"], f.sub(a[f"cells_{axis}"], start)))
    start = f.mul(f.rem(rest, a["images"]), a["image_block"])
    starts.insert(0, start)
    counts.insert(0, f.minimum(a["image_block"], f.sub(a["batch"], start)))
    return Box(tuple(starts), tuple(counts)), f.div(rest, a["images"])


def _chunk(f: Function, recipe: Recipe, e: Element, lanes: int, a: dict[str, Value], strip: Value, results: Value,
           panel: Value, box: Box, taps: Taps, number_of_pass: Value, first: Operand, channels: Operand) -> None:  # fmt: skip
    """All phase groups and tiles of one chunk of output channels over the packed channels."""
    full_blocks, rest_channels = f.div(channels, CHANNEL_BLOCK), f.rem(channels, CHANNEL_BLOCK)
    full_block = f.mul(a["channel_pitch"], CHANNEL_BLOCK)
    if recipe.in_unit == "channel" and recipe.dataflow == "channels":
        full_block = CHANNEL_BLOCK
    tile_rows = recipe.rows if recipe.dataflow == "pixels" else recipe.vectors * lanes
    with f.loop(0, a["phase_groups"]) as index:
        entry = f.at(a["phase_groups_at"], f.mul(index, len(GROUP_FIELDS)), I64)
        g = {
            name: f.load(PTR if name.endswith("_at") else I64, f.at(entry, i, I64), 8)
            for name, i in GROUP_INDEX.items()
        }
        runs, run_count = taps.of(f, a, g)
        skip = f.mul(f.div(first, CHANNEL_BLOCK), g["w_block_stride"])
        with f.loop(0, g["tiles"]) as tile:
            w = f.at(panel, f.add(g["w_offset"], f.add(f.mul(tile, g["w_tile_stride"]), skip)), e.accumulator)
            row = f.at(
                results, f.mul(f.add(g["row"], f.mul(tile, tile_rows)), a["temp_pitch"]), e.accumulator
            )
            resume = f.emit(I64, f"zext i1 {f.compare('ne', number_of_pass, 0).name} to i64")
            for x, pixels, out in _pixel_tiles(f, recipe, e, lanes, a, strip, row, box):
                words = [
                    x, pixels, w, out, a["temp_pitch"], full_blocks, g["full_at"], CHANNEL_BLOCK, g["taps"], runs,
                    run_count, full_block, g["rest_at"], rest_channels, resume,
                ]  # fmt: skip
                text = ", ".join(f"{v.type if isinstance(v, Value) else I64} {f.ref(v)}" for v in words)
                f.effect(f"call void @tile({text})")


def _pixel_tiles(f: Function, recipe: Recipe, e: Element, lanes: int, a: dict[str, Value], strip: Value, row: Value,
                 box: Box):  # type: ignore[no-untyped-def]
    """Loop over the tiles of a box's pixels; yields once, inside the loops."""
    if recipe.dataflow == "channels":
        with f.loop(0, a["pixel_tiles"]) as i:
            yield strip, f.at(a["pixel_at"], f.mul(i, 2 * recipe.rows), "i32"), row
        return
    # Rows of cells lie one behind the other in the strip, so that vectors run over row ends: the few lanes
    # between two rows are computed and not written.
    plane = f.add(f.mul(f.sub(box.count[2], 1), a["strip_w"]), box.count[3])
    nested = f.compare("ne", a["spans"], 0)
    deep = f.mul(f.sub(box.count[1], 1), a["depth_pitch"])
    whole = f.add(f.add(plane, deep), f.mul(f.sub(box.count[0], 1), a["image_pitch"]))
    spans = f.select(nested, box.count[1], 1)
    length = f.select(nested, plane, whole)
    null = Value("null", PTR)
    with f.loop(0, spans) as span, f.loop(0, length, recipe.vectors * lanes) as q:
        place = f.add(f.mul(span, a["depth_pitch"]), q)
        yield f.at(strip, place, e.accumulator), null, f.at(row, place, e.accumulator)
