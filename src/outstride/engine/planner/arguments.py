"""From a plan to numbers: the argument block and the tables of the kernel that runs it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import chain, product
from math import ceil, prod

from outstride.engine.planner.blocking import Region
from outstride.engine.planner.dataflow import LOOPS
from outstride.engine.planner.gather_form import PhaseGroup, cells_of, product_groups
from outstride.engine.planner.machine import CHANNEL_BLOCK, LINE_BYTES
from outstride.engine.planner.plan import GatherPlan
from outstride.engine.planner.problem import Problem
from outstride.engine.planner.tables import (
    block_lengths,
    box_scalars,
    phase_rows,
    pixel_offsets,
    residue_planes,
    size_scalars,
    strip_scalars,
    tap_places,
    term_offsets,
)

#: Elements of a row from which nontemporal stores pay: its ends are stored in the ordinary way.
NONTEMPORAL_ROW = 64


@dataclass(frozen=True)
class GroupArguments:
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
    of: PhaseGroup


@dataclass(frozen=True)
class KernelArguments:
    """Scalars by the names of the argument block; tables; sizes of scratch and of the packed weights."""

    scalars: dict[str, int]
    groups: tuple[GroupArguments, ...]
    planes: list[int]
    phase_rows: list[int]
    pixels: list[int]
    regions: list[Region]
    input_places: list[int]
    chunks: int
    chunk_weights: int
    scratch_bytes: int


def kernel_arguments(plan: GatherPlan) -> KernelArguments:
    """Everything the kernel needs to know but pointers and the strides of tensors."""
    p, b, tile, flow = plan.problem, plan.blocking, plan.tile, plan.dataflow
    groups, chunk_weights, runs = _groups(plan)
    prefetch, chunks = plan.prefetch, plan.chunks(plan.blocking)
    unwritten, unwritten_vectors = flow.unwritten(plan, b)
    rooms, packed = flow.scratch(plan, b, runs), b.packed(plan.input_axes)
    scalars = box_scalars(packed, b.box, b.strip, p.batch) | _short_scalars(plan) | rooms | {
        "packs": int(flow.packs(p)), "skips": flow.skips(plan, b),
        "groups": p.groups, "groups_per_task": b.groups_per_task,
        "m_tasks": ceil(chunks / b.chunks_per_task),
        "own_channels": p.outputs if p.depthwise else 0, "x_lane": int(p.depthwise),
        "result_pixel": plan.tile_rows if flow.outputs_together(tile) else 1,
        "channels": p.channels, "channels_per_pass": b.channels_per_pass, "passes": plan.passes(b),
        "outputs": p.outputs, "chunk_outputs": b.chunk_outputs, "chunks_per_task": b.chunks_per_task,
        "chunks": chunks, "w_stride_g": chunks * chunk_weights, "w_stride_chunk": chunk_weights,
        "phase_groups": len(groups), "spans": int(b.nested), "regions": len(b.regions),
        "loop": LOOPS.index(plan.loop),
        "prefetch_bytes": prefetch.row * LINE_BYTES, "prefetch_step": prefetch.lines * LINE_BYTES,
        "prefetch_rows": prefetch.rows, "strip_planes": b.strip.planes, "strip_channels": b.strip.channels,
        "unwritten": unwritten, "unwritten_vectors": unwritten_vectors,
        "nontemporal": NONTEMPORAL_ROW if p.nontemporal else sys.maxsize,
        "tile_outputs": plan.tile_rows, "tile_pixels": tile.pixels(plan.lanes), "tile_rows": tile.rows,
        "tile_vectors": flow.widest(plan, b),
        # From tap to tap along the height the input row goes up, in transposed layers down.
        "row_way": -1 if p.operator == "conv_transpose" else 1,
    }  # fmt: skip
    for name, a in zip("dhw", plan.axes, strict=True):
        scalars |= {f"out_step_{name}": a.out_step, f"out_shift_{name}": a.shift}
    pixels = pixel_offsets(b, tile.rows) if flow.lists_pixels else []
    phases = phase_rows(plan.axes, plan.groups, b.chunk_outputs, plan.tile_rows)
    return KernelArguments(
        scalars, groups, residue_planes(packed), phases, pixels, flow.regions(tile, b),
        _input_places(plan), chunks, chunk_weights, rooms["scratch_bytes"],
    )  # fmt: skip


def _short_scalars(plan: GatherPlan) -> dict[str, int]:
    """What short algorithms take besides: the least input that a cell reads, the input as it lies."""
    raw, lies = plan.blocking.raw, strip_scalars(plan.axes, plan.blocking.strip)
    scalars = {"raw_bytes_offset": 0} | {f"raw_{name}": 0 for name in lies}
    first = [a.offsets[0] for a in plan.problem.short_axes] if plan.problem.short else [0, 0, 0]
    scalars |= {f"first_input_{x}": n for x, n in zip("dhw", first, strict=True)}
    if raw is not None:
        scalars |= lies | {f"raw_{name}": n for name, n in strip_scalars(plan.input_axes, raw).items()}
    return scalars


def _input_places(plan: GatherPlan) -> list[int]:
    """Where a cell's inputs lie in the strip that the transformed input is summed from."""
    raw = plan.blocking.raw
    if raw is None:
        return []
    (group,) = product_groups([a.groups for a in plan.input_axes])
    return tap_places(plan.input_axes, group, raw)


def sizes(plan: GatherPlan, problem: Problem) -> dict[str, int] | None:
    """The scalars that depend on the size, for one that the plan's blocks serve; None for others.

    Everything else stays as it is: to plan anew and to fill tables takes as long as a small layer runs.
    """
    if problem.short:
        cells = [a.cells(o) for o, a in zip(problem.output_size, plan.recipe.short, strict=True)]
    else:
        cells = [
            cells_of(o, a.out_step, a.shift) for o, a in zip(problem.output_size, plan.axes, strict=True)
        ]
    if problem != plan.problem and not plan.serves(problem, cells):
        return None
    d, h, w = problem.output_size
    results = {"out_size_d": d, "out_size_h": h, "out_size_w": w, "tasks": plan.tasks_over(cells)}
    return results | size_scalars(plan.blocking.box, problem.input_size, cells)


def _groups(plan: GatherPlan) -> tuple[tuple[GroupArguments, ...], int, int]:
    """The phase groups, the packed weights of a chunk, and the entries that all their runs of taps take."""
    p, b = plan.problem, plan.blocking
    groups: list[GroupArguments] = []
    offset = row = runs = 0
    full, rest = block_lengths(p.channels)
    if p.short:  # a pass may end within a block
        rest = min(CHANNEL_BLOCK, p.channels)
    rows = plan.result_rows(b)
    for group, count in zip(plan.groups, rows, strict=True):
        groups.append(
            GroupArguments(
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


def total_weights(plan: GatherPlan, made: KernelArguments) -> int:
    """Elements of the packed weights of all groups."""
    return prod((plan.problem.groups, made.chunks, made.chunk_weights))
