"""The cost model: cycles of a task, each number with its derivation. It only ranks plans; nothing is correct by it."""

from __future__ import annotations

from math import ceil, prod

from outstride.planner.axes import Axis, Group
from outstride.planner.blocks import Blocks, pixel_tiles, rows_of
from outstride.planner.machine import InstructionSet, Machine
from outstride.planner.problem import Problem
from outstride.planner.recipe import Recipe

#: Loads that start in a cycle; an unaligned vector crosses a cache line and counts half a load more.
LOADS_PER_CYCLE = 2.0
UNALIGNED = 1.5
#: Micro-operations that issue in a cycle; a term has 4 beside its loads and multiply-adds (offset, count, two jumps).
ISSUE = 6.0
#: Bytes that the second-level cache delivers in a cycle, and memory beyond it.
L2_BYTES_PER_CYCLE = 32.0
FAR_BYTES_PER_CYCLE = 8.0
#: Call, loop start and first loads of a tile.
TILE_CYCLES = 30.0
#: Moving an element one at a time: a load, a store and an address each.
SCALAR_MOVE = 1.3
#: Moving it in vectors: a load and a store a vector, row starts included.
VECTOR_MOVE = 0.25


def term_cycles(recipe: Recipe, isa: InstructionSet) -> float:
    """Cycles of one term of a register tile: the busiest of multiply-add units, load ports and issue."""
    products = recipe.rows * recipe.vectors
    vector_loads = recipe.vectors * (UNALIGNED if recipe.dataflow == "pixels" else 1.0)
    loads = (recipe.rows + vector_loads + 1) / LOADS_PER_CYCLE
    # Fewer accumulators than latency times rate leave the multiply-add units waiting.
    latency = 4.0
    return max(products / isa.fma_per_cycle, loads, (products + recipe.rows + recipe.vectors + 4) / ISSUE, latency)


def task_cycles(
    problem: Problem, axes: tuple[Axis, ...], groups: tuple[Group, ...], recipe: Recipe, blocks: Blocks,
    machine: Machine, lanes: int, item_bytes: int,
) -> float:  # fmt: skip
    """Cycles of a task of full size."""
    isa = machine.instruction_set
    pixels = recipe.dataflow == "pixels"
    tile_rows = recipe.rows if pixels else recipe.vectors * lanes
    tiles = pixel_tiles(recipe, blocks, lanes)
    rows = rows_of(groups, blocks.chunk_outputs, tile_rows)
    row_tiles = [r // tile_rows for r in rows]
    terms = sum(t * g.taps for t, g in zip(row_tiles, groups, strict=True)) * problem.channels
    passes = ceil(problem.channels / blocks.channels_per_pass)
    each = term_cycles(recipe, isa)
    if not pixels:
        panel = terms * tile_rows * item_bytes / passes
        rate = L2_BYTES_PER_CYCLE if panel <= machine.panel_bytes else FAR_BYTES_PER_CYCLE
        each = max(each, tile_rows * item_bytes / rate)
    moved = recipe.rows * recipe.vectors * (2.0 if pixels else SCALAR_MOVE * lanes)
    micro = tiles * (terms * each + sum(row_tiles) * passes * (TILE_CYCLES + moved))
    wide_in = (recipe.in_unit == "width" and recipe.in_step == 1) or (recipe.in_unit == "channel" and not pixels)
    strip = prod(blocks.strip.extent) * blocks.strip.planes * blocks.box[0] * problem.channels
    pack = strip * (VECTOR_MOVE if wide_in else SCALAR_MOVE)
    written = blocks.pixels * blocks.chunk_outputs * prod(a.out_step for a in axes)
    out = written * (VECTOR_MOVE * (1 if recipe.out_step == 1 else 2) if recipe.out_unit == "width" else SCALAR_MOVE)
    return pack + blocks.chunks_per_task * (micro + out)
