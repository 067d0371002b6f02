"""The layout of a plan: rooms of scratch, packed weights, the argument block."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise, product
from math import ceil, prod

import numpy as np
import pytest
from hypothesis import assume, given, settings

from outstride.bench.cases import read_cases
from outstride.engine.codegen.arguments import CALL, FIXED
from outstride.engine.planner.arguments import (
    KernelArguments,
    kernel_arguments,
    total_weights,
)
from outstride.engine.planner.blocking import Region
from outstride.engine.planner.cost import kept_terms
from outstride.engine.planner.dataflow import BOX_SKIPS, NO_SKIPS, ROW_SKIPS, PackingDataflow
from outstride.engine.planner.dataflows.in_place import band_tiles
from outstride.engine.planner.dtypes import STORAGE_BYTES
from outstride.engine.planner.machine import CHANNEL_BLOCK, INSTRUCTION_SETS, Machine
from outstride.engine.planner.plan import (
    GatherPlan,
    plan_for,
)
from outstride.engine.planner.problem import Problem
from outstride.engine.planner.tables import pixel_offsets
from outstride.engine.planner.unrolled import UnrolledPhases, UnrolledTaps
from tests import ROOT
from tests.engine.planner.definitions import read_taps
from tests.engine.planner.problems import (
    CHOICES,
    MACHINES,
    SPECIAL,
    boxes_of,
    candidates,
    problem_of,
    scalars_of,
    triple,
)


@pytest.mark.parametrize("name", SPECIAL)
def test_special_plans_have_room_too(name: str) -> None:
    for machine, threads in product(MACHINES, (1, 4)):
        for plan in candidates(SPECIAL[name], machine, threads):
            _assert_scratch(plan, kernel_arguments(plan))


@given(*CHOICES)
@settings(max_examples=60)
def test_skips_are_offered_exactly_where_some_box_has_a_tap_without_input(
    problem: Problem, machine: Machine, threads: int
) -> None:
    for plan in candidates(problem, machine, threads):
        if not plan.dataflow.packs(plan.problem):  # it looks at every row of the input
            assert kernel_arguments(plan).scalars["skips"] == NO_SKIPS
            continue
        useless, rows = False, False
        for axis in plan.axes[:2]:
            for j, o in product(range(axis.cells), {o for g in axis.groups for o in g.offsets}):
                rows |= not 0 <= j * axis.in_step + o < axis.input_size
        images, planes = plan.blocking.box[:2]
        rows &= images == planes == 1 or (plan.dataflow.lists_pixels and 1 in (images, planes))
        rows &= not plan.dataflow.of_rows
        if isinstance(plan.dataflow, PackingDataflow):
            each = plan.dataflow.term_cycles(plan, [1] * len(plan.groups))
            rows &= kept_terms(plan, plan.dataflow, plan.blocking, each)[1]
        for box in boxes_of(plan, plan.blocking.box):
            for axis, cells in zip(plan.axes, box[1:], strict=True):
                reads = [[j * axis.in_step + o for j in cells] for g in axis.groups for o in g.offsets]
                useless |= any(max(r) < 0 or min(r) >= axis.input_size for r in reads)
        cut = zip(plan.blocking.cut, plan.axes, strict=True)
        useless |= any(not a.all_inside for c, a in cut if c)  # they are cut where taps differ
        assert kernel_arguments(plan).scalars["skips"] == (
            ROW_SKIPS if rows else BOX_SKIPS if useless else NO_SKIPS
        )


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("table", ["layers", "more_layers", "small_layers"])
def test_a_thread_needs_less_than_two_megabytes(table: str, threads: int) -> None:
    """Of real layers, beside input, output and packed weights, whatever passes over the channels keep."""
    for case in read_cases(ROOT / "bench" / f"{table}.csv"):
        plan = plan_for(problem_of(case), Machine(INSTRUCTION_SETS["avx512"]), threads)
        assert kernel_arguments(plan).scratch_bytes < 2 << 20, case.id


def _last_place(plan: GatherPlan) -> int:
    """The last place of the strip, and of a row of results, at which a tile along the width begins."""
    blocks, strip = plan.blocking, plan.blocking.strip
    step = plan.tile.pixels(plan.lanes)
    n, d, h, w = blocks.box
    if plan.tile.dataflow.name == "rows":
        row = (h - 1) // plan.tile.rows * plan.tile.rows
        start = (n - 1) * strip.image_pitch + ((d - 1) * strip.extent[1] + row) * strip.extent[2]
        return start + (w - 1) // step * step
    if blocks.direct:
        planes = (n - 1) * strip.image_pitch + (d - 1) * strip.extent[1] * strip.extent[2]
        if strip.extent[2] == w:
            return planes + (h * w - 1) // step * step
        return planes + (h - 1) * strip.extent[2] + (w - 1) // step * step
    if blocks.nested:
        assert n == 1, "planes of several images are not looped over"
        plane = (h - 1) * strip.extent[2] + w
        return (d - 1) * strip.extent[1] * strip.extent[2] + (plane - 1) // step * step
    return (blocks.extent - 1) // step * step


def _assert_room_for_masks(plan: GatherPlan, made: KernelArguments) -> None:
    """A bit for each lane of every vector of a row: of each tap and part of a stride, and of the outputs.

    Behind them an output row.
    """
    p, lanes, line = plan.problem, plan.lanes, made.scalars["line_bytes_offset"]
    taps, step = plan.recipe.unrolled, plan.axes[2].in_step
    tiles = [*Counter(band_tiles(plan, plan.blocking)).elements()]
    if isinstance(taps, UnrolledPhases):
        masks = (len(taps.columns) + p.stride[2]) * sum(tile.vectors for tile in tiles)
    else:
        assert isinstance(taps, UnrolledTaps)
        at_once = [taps.across > 0 and (tile.vectors == 1 or not taps.narrow) for tile in tiles]
        reads = [
            tile.vectors * step + (taps.across > step) if whole else tile.vectors * step * p.kernel_size[2]
            for tile, whole in zip(tiles, at_once, strict=True)
        ]
        masks = sum(n + tile.vectors for n, tile in zip(reads, tiles, strict=True))
    assert masks * lanes // 8 <= line
    assert line <= made.scratch_bytes == made.scalars["scratch_bytes"]
    if isinstance(taps, UnrolledPhases) and taps.alone:  # a whole row of the box, last vectors under masks
        assert line + plan.blocking.box[3] * p.stride[2] * STORAGE_BYTES[p.dtype] <= made.scratch_bytes


def _cells(region: Region) -> list[range]:
    """The planes, rows and columns of a region."""
    return [range(first, first + count) for first, count in zip(region[:3], region[3:6], strict=True)]


def _assert_terms(plan: GatherPlan, made: KernelArguments, place: int, cell: list[int]) -> int:
    """Every term of the pixel at a place, a cell of the first box, lies in its channel; the last one."""
    blocks, strip, far = plan.blocking, plan.blocking.strip, 0
    full, rest = divmod(min(plan.problem.channels, blocks.channels_per_pass), CHANNEL_BLOCK)
    for share in made.groups:
        taps = read_taps(plan, share.of, cell)
        for table, count, before in ((share.full, CHANNEL_BLOCK, full - 1), (share.rest, rest, full)):
            for tap, channel in product(taps, range(count if table and before >= 0 else 0)):
                term = table[tap * count + channel]
                assert 0 <= place + term < strip.elements
                if strip.pixel_pitch == 1:
                    of, there = divmod(place + term, strip.channel_pitch)
                    assert of == channel, "a term leaves its channel's strip"
                    assert there < strip.plane_pitch * strip.planes, "a term leaves its channel's strip"
                far = max(far, term + before * CHANNEL_BLOCK * strip.channel_pitch)
    return far


def _assert_scratch(plan: GatherPlan, made: KernelArguments) -> None:
    p, blocks, strip, s = plan.problem, plan.blocking, plan.blocking.strip, made.scalars
    item = 8 if p.dtype == "float64" else 4
    if plan.tile.dataflow.name == "in_place":
        _assert_room_for_masks(plan, made)
        return
    if not plan.dataflow.packs(plan.problem):  # zeros for the inputs of a pixel
        assert made.scratch_bytes == s["scratch_bytes"] >= plan.tile_rows * item
        return
    regions = [0, s["temp_bytes_offset"], s["line_bytes_offset"], s["runs_bytes_offset"], made.scratch_bytes]
    assert made.scratch_bytes == s["scratch_bytes"]
    assert regions == sorted(regions)
    assert not any(r % 64 for r in regions), "a region begins inside a cache line"
    room, temp, line, runs = (b - a for a, b in pairwise(regions))
    channels = min(p.channels, blocks.channels_per_pass)
    assert strip.pixel_pitch == 1 or strip.pixel_pitch >= channels
    if plan.dataflow.lists_pixels:
        last_read, pixels = 0, pixel_offsets(blocks, plan.tile.rows)
        assert made.pixels == pixels
        assert sorted(c for r in made.regions for c in product(*_cells(r))) == list(
            product(*map(range, blocks.box[1:]))
        )
        ends = [*(r.place for r in made.regions[1:]), len(pixels)]
        for region, end in zip(made.regions, ends, strict=True):
            sizes = (blocks.box[0], *map(len, _cells(region)))
            tiles = -(-prod(sizes) // plan.tile.rows) * plan.tile.rows
            assert end == region.place + tiles
            pitches = (region.image_pitch, region.depth_pitch, region.row_pitch, 1)
            order = sorted(
                (sum(i * p for i, p in zip(place, pitches, strict=True)), place)
                for place in product(*map(range, sizes))
            )
            assert [q for q, _ in order] == list(range(prod(sizes))), "results do not lie pixel by pixel"
            apart = (strip.extent[1] * strip.extent[2], strip.extent[2], 1)
            first = sum(cells.start * p for cells, p in zip(_cells(region), apart, strict=True))
            wanted = [
                (first + sum(i * p for i, p in zip(place, (strip.image_pitch, *apart), strict=True)))
                * strip.pixel_pitch
                for _, place in order
            ]  # fmt: skip
            found = pixels[region.place : region.place + tiles]
            far = _assert_terms(plan, made, min(found), [cells.start for cells in _cells(region)])
            last_read = max(last_read, max(found) + far)
            assert found[: prod(sizes)] == wanted
            assert set(found[prod(sizes) :]) <= {wanted[-1]}
        last_write = len(pixels) - 1
    else:
        assert strip.pixel_pitch == 1
        assert not made.pixels
        beyond = plan.tile.pixels(plan.lanes) - 1
        # A group of rows that lies partly beyond the box reads and writes as if it did not.
        beyond += (plan.tile.rows - 1) * strip.extent[2] if plan.tile.dataflow.name == "rows" else 0
        far = _assert_terms(plan, made, 0, [0, 0, 0])
        last_read, last_write = _last_place(plan) + far + beyond, _last_place(plan) + beyond
    assert last_read * item < room, "a tile reads beyond the strip"
    assert last_write < s["temp_pitch"], "a tile writes into the next row of results"
    rows = sum(g.tiles * plan.tile_rows for g in made.groups)
    kept = blocks.chunks_per_task if s["passes"] > 1 else 1
    assert s["chunk_temp"] == (rows * s["temp_pitch"] if s["passes"] > 1 else 0)
    assert kept * rows * s["temp_pitch"] * item <= temp
    assert plan.axes[2].out_step * ceil(blocks.box[3] / plan.lanes) * plan.lanes * item <= line
    taken = [w for g in made.groups for w in range(g.runs_offset, g.runs_offset + 1 + 2 * g.taps)]
    assert len(set(taken)) == len(taken)
    assert max(taken) < s["region_runs"]
    assert s["region_runs"] * s["regions"] <= s["tile_runs_offset"]
    assert 8 * (s["tile_runs_offset"] + 1 + 2 * max(g.taps for g in made.groups)) <= runs


@given(*CHOICES)
@settings(max_examples=60)
def test_scratch_has_room_for_all_that_is_laid_into_it(
    problem: Problem, machine: Machine, threads: int
) -> None:
    for plan in candidates(problem, machine, threads):
        _assert_scratch(plan, kernel_arguments(plan))


@given(*CHOICES)
@settings(max_examples=60)
def test_packed_weights_lie_one_behind_the_other(problem: Problem, machine: Machine, threads: int) -> None:
    for plan in candidates(problem, machine, threads):
        made = kernel_arguments(plan)
        place = 0
        for share, group in zip(made.groups, plan.groups, strict=True):
            assert (share.w_offset, share.taps, share.members) == (place, group.taps, len(group.members))
            assert share.tiles * plan.tile_rows >= plan.blocking.chunk_outputs * share.members
            place += share.tiles * plan.tile_rows * share.taps * problem.channels
        assert made.chunk_weights == place == made.scalars["w_stride_chunk"]
        assert made.chunks * plan.blocking.chunk_outputs >= problem.outputs
        assert total_weights(plan, made) == problem.groups * made.scalars["w_stride_g"]


@given(*CHOICES)
@settings(max_examples=40)
def test_tiles_of_rows_find_lower_kernel_rows_one_strip_row_down(
    problem: Problem, machine: Machine, threads: int
) -> None:
    """Their kernel walks input rows and looks up the first kernel row's places only."""
    problem = replace(
        problem, operator="conv", outputs=1, stride=triple([problem.stride[0], 1, problem.stride[2]]),
        dilation=triple([problem.dilation[0], 1, problem.dilation[2]]),
        kernel_size=triple([problem.kernel_size[0], max(2, problem.kernel_size[1]), problem.kernel_size[2]]),
    )  # fmt: skip
    plans = [plan for plan in candidates(problem, machine, threads) if plan.tile.dataflow.name == "rows"]
    assume(plans)  # there are none where the channels of one pass do not fit the cache
    for plan in plans:
        assert plan.blocking.channels_per_pass == problem.channels, (
            "sums of an earlier pass cannot be taken up again"
        )
        (share,) = kernel_arguments(plan).groups
        for table, channels in ((share.full, CHANNEL_BLOCK), (share.rest, problem.channels % CHANNEL_BLOCK)):
            depth, height, width = problem.kernel_size
            if table:
                places = np.array(table).reshape(depth, height, width * channels)
                steps = np.arange(height)[None, :, None] * plan.blocking.strip.extent[2]
                assert (places == places[:, :1] + steps).all()


@given(*CHOICES)
@settings(max_examples=25)
def test_the_argument_block_is_filled_and_names_nothing_else(
    problem: Problem, machine: Machine, threads: int
) -> None:
    given_by_the_call = {n for n in FIXED if n.endswith("_at") or n.startswith(("x_stride", "y_stride"))}
    given_by_the_call |= {"w_stride_m", "w_stride_c"}
    scalars = scalars_of(plan_for(problem, machine, threads))
    assert set(scalars) == set(FIXED) - given_by_the_call
    assert not set(CALL) & set(FIXED)
    assert all(isinstance(v, int) for v in scalars.values())
    assert problem.flops == 2 * problem.terms
