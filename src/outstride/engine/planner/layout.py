"""From a plan to numbers: the argument block and the tables of the kernel that runs it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import chain, product
from math import ceil, prod

from outstride.engine.planner.axes import Group, cells_of
from outstride.engine.planner.bands import mask_bytes, most_vectors, window_of
from outstride.engine.planner.blocks import Stripe, pixel_tiles, rows_of
from outstride.engine.planner.cost import kept_terms, term_cycles
from outstride.engine.planner.machine import CHANNEL_BLOCK, LINE_BYTES
from outstride.engine.planner.plan import GatherPlan
from outstride.engine.planner.problem import Problem
from outstride.engine.planner.recipe import ACCUMULATOR_BYTES, STORAGE_BYTES
from outstride.engine.planner.tables import (
    block_lengths,
    box_scalars,
    phase_rows,
    pixel_offsets,
    residue_planes,
    round_up_line,
    size_scalars,
    term_offsets,
)
from outstride.engine.planner.tiles import SWEEPS

#: Elements of a row from which storing it past the caches pays: its ends are stored in the ordinary way.
PAST_CACHES_ROW = 64
#: Room for the table of what is asked for ahead.
AHEAD_ROOM = 64


@dataclass(frozen=True)
class GroupLayout:
    """A phase group's share of a chunk: tiles, term tables, and where its weights lie."""

    tiles: int
    members: int
    taps: int
    extent: tuple[int, ...]
    offsets: list[int]
    runs_offset: int
    full: list[int]
    rest: list[int]
    w_offset: int
    row: int
    #: What it is the share of.
    of: Group


@dataclass(frozen=True)
class Layout:
    """Scalars by the names of the argument block; tables; sizes of scratch and of the packed weights."""

    scalars: dict[str, int]
    groups: tuple[GroupLayout, ...]
    planes: list[int]
    phase_rows: list[int]
    pixels: list[int]
    stripes: list[Stripe]
    chunks: int
    chunk_weights: int
    scratch_bytes: int


def layout(plan: GatherPlan) -> Layout:
    """Everything the kernel needs to know but pointers and the strides of tensors."""
    p, b, tile = plan.problem, plan.blocks, plan.tile
    groups, chunk_weights, runs = _groups(plan)
    ahead = plan.ahead
    rooms = _band_scratch(plan) if tile.dataflow == "in_place" else _scratch(plan, runs)
    scalars = box_scalars(plan.axes, b.box, b.strip, p.batch) | rooms | {
        "threads": plan.threads, "skips": _skips(plan),
        "groups": p.groups, "groups_per_task": b.groups_per_task,
        "m_tasks": ceil(plan.chunks / b.chunks_per_task),
        "own_channels": p.outputs if p.depthwise else 0, "x_lane": int(p.depthwise),
        "result_pixel": plan.tile_rows if tile.outputs_together else 1,
        "channels": p.channels, "channels_per_pass": b.channels_per_pass, "passes": _passes(plan),
        "outputs": p.outputs, "chunk_outputs": b.chunk_outputs, "chunks_per_task": b.chunks_per_task,
        "chunks": plan.chunks, "w_stride_g": plan.chunks * chunk_weights, "w_stride_chunk": chunk_weights,
        "phase_groups": len(groups), "spans": int(b.nested), "stripes": len(b.columns),
        "sweep": SWEEPS.index(plan.sweep),
        "ahead_bytes": ahead.row * LINE_BYTES, "ahead_step": ahead.lines * LINE_BYTES,
        "ahead_rows": ahead.rows,
        "past_caches": PAST_CACHES_ROW if p.past_caches else sys.maxsize,
        "tile_outputs": plan.tile_rows, "tile_pixels": tile.pixels(plan.lanes), "tile_rows": tile.rows,
        "tile_vectors": _widest_tile(plan),
        # From tap to tap along the height the input row goes up, in transposed layers down.
        "row_way": -1 if p.operator == "conv_transpose" else 1,
    }  # fmt: skip
    for name, a in zip("dhw", plan.axes, strict=True):
        scalars |= {f"out_step_{name}": a.out_step, f"out_shift_{name}": a.shift}
    pixels = pixel_offsets(b, tile.rows) if tile.by_pixel else []
    phases = phase_rows(plan.axes, plan.groups, b.chunk_outputs, plan.tile_rows)
    return Layout(
        scalars, groups, residue_planes(plan.axes), phases, pixels, b.stripes(tile), plan.chunks,
        chunk_weights, rooms["scratch_bytes"],
    )  # fmt: skip


def sizes(plan: GatherPlan, problem: Problem) -> dict[str, int] | None:
    """The scalars that depend on the size, for one that the plan's blocks serve; None for others.

    Everything else stays as it is: to plan anew and to fill tables takes as long as a small layer runs.
    """
    cells = [cells_of(o, a.out_step, a.shift) for o, a in zip(problem.output_size, plan.axes, strict=True)]
    if problem != plan.problem and not plan.serves(cells, past_caches=problem.past_caches):
        return None
    d, h, w = problem.output_size
    results = {"out_size_d": d, "out_size_h": h, "out_size_w": w, "tasks": plan.tasks_over(cells)}
    return results | size_scalars(plan.blocks.box, problem.input_size, cells)


def _passes(plan: GatherPlan) -> int:
    return ceil(plan.problem.channels / plan.blocks.channels_per_pass)


def _groups(plan: GatherPlan) -> tuple[tuple[GroupLayout, ...], int, int]:
    """The phase groups, the packed weights of a chunk, and the entries that all their runs of taps take."""
    p, b = plan.problem, plan.blocks
    groups: list[GroupLayout] = []
    offset = row = runs = 0
    full, rest = block_lengths(p.channels)
    rows = rows_of(plan.groups, b.chunk_outputs, plan.tile_rows)
    for group, count in zip(plan.groups, rows, strict=True):
        groups.append(
            GroupLayout(
                count // plan.tile_rows, group.phases, group.taps, group.extent,
                list(chain.from_iterable(product(*(a.offsets for a in group.axes)))), runs,
                term_offsets(plan.axes, group, b, full), term_offsets(plan.axes, group, b, rest),
                offset, row, group,
            )
        )  # fmt: skip
        offset += count * group.taps * p.channels
        row += count
        runs += 2 * group.taps + 1
    return tuple(groups), offset, runs


def _scratch(plan: GatherPlan, runs: int) -> dict[str, int]:
    """A thread's scratch: the strip, the results of its chunks, an output row, the runs of taps."""
    b = plan.blocks
    item = ACCUMULATOR_BYTES[plan.problem.dtype]
    rows = sum(rows_of(plan.groups, b.chunk_outputs, plan.tile_rows))
    reach = plan.tile.vectors * plan.lanes
    if plan.tile.dataflow == "rows":  # the last group of rows may lie beyond the box in part
        reach += (plan.tile.rows - 1) * b.strip.extent[2]
    results = pixel_tiles(plan.tile, b, plan.lanes) * plan.tile.rows if plan.tile.by_pixel else b.extent
    pitch = (ceil((results + reach) / 16) | 1) * 16
    chunk_temp = rows * pitch if _passes(plan) > 1 else 0
    kept = chunk_temp * b.chunks_per_task or rows * pitch
    # A tile may read a vector beyond the strip and write one beyond the results: both stay within scratch.
    temp_at = round_up_line(item * (b.strip.elements + reach + 64))
    line_at = temp_at + round_up_line(item * kept + 64)
    width = plan.axes[2].out_step * (b.box[3] + plan.lanes)
    runs_at = line_at + round_up_line(item * (width + 64))
    of_tile = 2 * max(g.taps for g in plan.groups) + 1
    found = runs * len(b.columns)
    ahead_at = runs_at + round_up_line(8 * (found + of_tile))
    return {
        "temp_bytes_offset": temp_at, "line_bytes_offset": line_at, "runs_bytes_offset": runs_at,
        "stripe_runs": runs, "tile_runs_offset": found, "ahead_bytes_offset": ahead_at,
        "scratch_bytes": ahead_at + AHEAD_ROOM,
        "chunk_temp": chunk_temp, "temp_pitch": pitch,
    }  # fmt: skip


def _widest_tile(plan: GatherPlan) -> int:
    """Vectors of a tile, or at most where tiles are as wide as rows ask for."""
    if plan.tile.dataflow == "in_place":
        return most_vectors(plan.problem, plan.axes, plan.blocks, plan.lanes)
    return plan.tile.vectors


def _band_scratch(plan: GatherPlan) -> dict[str, int]:
    """The same where nothing is packed: masks, and an output row."""
    line_at, width = round_up_line(mask_bytes(plan.problem, plan.axes, plan.blocks, plan.lanes)), 0
    absent = (
        "temp_bytes_offset", "runs_bytes_offset", "stripe_runs", "tile_runs_offset",
        "chunk_temp", "temp_pitch", "ahead_bytes_offset",
    )  # fmt: skip
    if window_of(plan.problem).alone:
        width = round_up_line(plan.blocks.box[3] * STORAGE_BYTES[plan.problem.dtype])
    room = width * plan.axes[2].out_step
    return dict.fromkeys(absent, 0) | {
        "line_bytes_offset": line_at, "scratch_bytes": line_at + room,
    }  # fmt: skip


#: Where taps that read nothing but padding are left out: nowhere, in whole boxes and stripes, in rows too.
NO_SKIPS, BOX_SKIPS, ROW_SKIPS = range(3)


def _skips(plan: GatherPlan) -> int:
    """Where some box, or some row of one, has a tap that reads nothing but padding there."""
    if plan.tile.dataflow == "in_place":  # it looks at every input row, whether it exists
        return NO_SKIPS
    isa = plan.machine.instruction_set
    each = term_cycles(plan.tile, isa, plan.groups, plan.axes[2].in_step, plan.lanes)
    _, by_tile = kept_terms(plan.axes, plan.groups, plan.tile, plan.blocks, plan.lanes, each)
    if by_tile:
        return ROW_SKIPS
    return BOX_SKIPS if _box_skips(plan) else NO_SKIPS


def _box_skips(plan: GatherPlan) -> bool:
    if len(plan.blocks.columns) > 1:
        return True
    for axis, block in zip(plan.axes, plan.blocks.box[1:], strict=True):
        if axis.cells == 0:
            continue
        offsets = [o for g in axis.groups for o in g.offsets]
        last_of_first = (min(block, axis.cells) - 1) * axis.in_step
        first_of_last = (ceil(axis.cells / block) - 1) * block * axis.in_step
        if any(last_of_first + o < 0 or first_of_last + o >= axis.input_size for o in offsets):
            return True
    return False


def weight_block_stride(plan: GatherPlan, group: GroupLayout) -> int:
    """Packed elements from one channel block of a tile to the next."""
    return CHANNEL_BLOCK * group.taps * plan.tile_rows


def total_weights(plan: GatherPlan, made: Layout) -> int:
    """Elements of the packed weights of all groups."""
    return prod((plan.problem.groups, made.chunks, made.chunk_weights))
