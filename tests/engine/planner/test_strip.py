"""Law 4 for plans: every tile meets, in the strip, the inputs of the definition in the one order."""

from __future__ import annotations

from itertools import product
from math import ceil, prod

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from outstride.engine.planner.arguments import (
    kernel_arguments,
)
from outstride.engine.planner.dataflow import Candidate
from outstride.engine.planner.dataflows import DATAFLOWS
from outstride.engine.planner.dataflows.in_place import band_tiles
from outstride.engine.planner.dataflows.unpacked import UNPACKED
from outstride.engine.planner.machine import CHANNEL_BLOCK, Machine
from outstride.engine.planner.plan import (
    GatherPlan,
    phase_groups,
    plan_for,
    tiles_for,
)
from outstride.engine.planner.problem import Problem
from outstride.engine.planner.unrolled import UnrolledPhases, UnrolledTaps
from tests.engine.planner.definitions import (
    all_channels,
    input_read,
    overrun_of,
    packed_strip,
    read_taps,
    term_count,
)
from tests.engine.planner.problems import (
    CHOICES,
    MACHINES,
    SPECIAL,
    boxes_of,
    candidates,
    croppings,
    estimates,
)


def _assert_law_of_order(plan: GatherPlan) -> None:
    """Every output sums channels block by block, of a block tap by tap, of a tap channel by channel.

    Groups that share a task have one channel each, and lie in the strip as channels do.
    """
    if plan.tile.dataflow.name == "in_place":
        _assert_window(plan)
        return
    if not plan.dataflow.packs(plan.problem):
        return  # its taps come in the order of their table
    p, blocks, strip = plan.problem, plan.blocking, plan.blocking.strip
    made = kernel_arguments(plan)
    inputs = p.batch * prod(p.input_size)
    scalar = plan.dataflow.lists_pixels and strip.pixel_pitch > 1
    overrun = (
        1
        if scalar
        else overrun_of(p.in_unit, plan.axes[2].in_step, plan.machine, 8 if p.dtype == "float64" else 4)
    )
    block_pitch = CHANNEL_BLOCK * strip.channel_pitch
    together = blocks.groups_per_task
    assert together == 1 or p.channels == 1
    for box in boxes_of(plan, blocks.box):
        one = packed_strip(blocks.packed(plan.axes), strip, box, overrun)
        for first in range(0, p.channels, blocks.channels_per_pass):
            channels = range(first, min(p.channels, first + blocks.channels_per_pass))
            assert first % CHANNEL_BLOCK == 0, "a pass begins inside a block of channels"
            full = all_channels(one, strip, range(together) if together > 1 else channels, inputs)
            for cell, own in product(product(*(range(len(r)) for r in box)), range(together)):
                n, d, h, w = cell
                of_group = full[own * strip.channel_pitch :]
                place = n * strip.image_pitch + (d * strip.extent[1] + h) * strip.extent[2] + w
                at = [r.start + j for r, j in zip(box[1:], cell[1:], strict=True)]
                for group, share in zip(plan.groups, made.groups, strict=True):
                    taps = read_taps(plan, group, at)
                    found: list[int] = []
                    for block in range(ceil(len(channels) / CHANNEL_BLOCK)):
                        whole = len(channels) - block * CHANNEL_BLOCK >= CHANNEL_BLOCK
                        table = np.array(share.full if whole else share.rest, int)
                        table = table.reshape(group.taps, -1)[taps].ravel() if taps else table[:0]
                        found += of_group[place * strip.pixel_pitch + block * block_pitch + table].tolist()
                    for member, kernel in zip(group.members, group.kernel, strict=True):
                        output = [
                            (r.start + j) * a.out_step + f + a.shift
                            for a, r, j, f in zip(plan.axes, box[1:], cell[1:], member, strict=True)
                        ]
                        if not all(0 <= o < a.output_size for o, a in zip(output, plan.axes, strict=True)):
                            continue
                        reads = [input_read(p, output, kernel[tap]) for tap in taps]
                        numbers = [
                            0
                            if u is None
                            else 1 + int(np.ravel_multi_index((box[0][n], *u), (p.batch, *p.input_size)))
                            for u in reads
                        ]
                        wanted = [
                            number and number + (own + c) * inputs
                            for start in range(channels.start, channels.stop, CHANNEL_BLOCK)
                            for number in numbers
                            for c in range(start, min(channels.stop, start + CHANNEL_BLOCK))
                        ]
                        assert found == wanted, (plan, output)
                        assert sum(u is not None for u in reads) == term_count(p, output), "a term is missing"


def _assert_window(plan: GatherPlan) -> None:
    """Every row of a tile meets its taps along the height in their order, each at the input row it reads."""
    assert plan.problem.channels == 1
    unrolled, axis = plan.recipe.unrolled, plan.axes[1]
    assert unrolled is not None
    tiles = band_tiles(plan, plan.blocking)
    covered = sum(number * tile.vectors for tile, number in tiles.items())
    assert covered == ceil(plan.blocking.box[3] / plan.lanes)
    if isinstance(unrolled, UnrolledPhases):
        _assert_spread(plan, unrolled)
        return
    assert isinstance(unrolled, UnrolledTaps)
    (group,) = axis.groups
    assert group.kernel == (tuple(range(unrolled.taps)),)
    rows = unrolled.rows(plan.tile.rows)
    assert len({at for at, _ in rows}) == len(rows), "an input row is read twice"
    for r in range(plan.tile.rows):
        met = [(k, at) for at, reached in rows for row, k in reached if row == r]
        origin = group.offsets[0]
        assert met == [(k, r * axis.in_step + o - origin) for k, o in enumerate(group.offsets)]


def _assert_spread(plan: GatherPlan, spread: UnrolledPhases) -> None:
    """The same where a cell has several outputs, and of the width; each with the weight that is its own."""
    p = plan.problem
    assert all(a.shift == 0 for a in plan.axes[1:]), "cells are counted from output 0"
    rows, columns = spread.rows(plan.tile.rows), spread.columns
    for i, (some, count) in enumerate(((rows, plan.tile.rows), (columns, 1)), start=1):
        assert len({at for at, _ in some}) == len(some), "an input is read twice"
        for r in range(count * p.stride[i]):
            met = [(k, at) for at, reached in some for row, k in reached if row == r]
            from_row = r + p.padding[i]
            places = [divmod(from_row - k * p.dilation[i], p.stride[i]) for k in range(p.kernel_size[i])]
            assert met == [(k, at) for k, (at, left) in enumerate(places) if not left]
    packed = {
        kernel[1:]: share.w_offset + m * share.taps + t
        for share in kernel_arguments(plan).groups
        for m, member in enumerate(share.of.kernel)
        for t, kernel in enumerate(member)
    }
    assert spread.places == packed


@given(*CHOICES, st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_every_plan_sums_the_same_inputs_in_the_same_order(
    problem: Problem, machine: Machine, threads: int, random: object
) -> None:
    """Law 4 for plans: the oracle knows no tile, dataflow, box, threads, instruction set or layout."""
    assume(problem.channels * prod(problem.kernel_size) * prod(problem.output_size) * problem.batch <= 40_000)
    _assert_law_of_order(plan_for(problem, machine, threads))
    others = list(candidates(problem, machine, threads))
    for flow in DATAFLOWS:
        plans = [plan for plan in others if plan.dataflow is flow]
        if plans:
            _assert_law_of_order(random.choice(plans))  # type: ignore[attr-defined]  # hypothesis' own Random


def test_the_special_plans_are_what_they_are_for() -> None:
    """Else the tests of the strip and of scratch would miss a way without anybody seeing it."""
    plans = {
        name: [plan for m in MACHINES for plan in candidates(problem, m, 1)]
        for name, problem in SPECIAL.items()
    }
    met = {plan.dataflow for some in plans.values() for plan in some}
    assert met == set(DATAFLOWS) - {UNPACKED}, "which has neither strip nor scratch"
    assert any(plan.blocking.nested for plan in plans["dilated in space"])
    assert any(plan.blocking.direct for plan in plans["wide"])
    assert any(plan.blocking.direct and plan.blocking.box[2] > 1 for plan in plans["one position"])
    assert any(plan.blocking.box[3] < plan.axes[2].cells for plan in plans["wide"])
    padded = [plan for plan in plans["wide and padded"] if plan.blocking.box[2] > 1]
    assert any(plan.blocking.box[3] < plan.axes[2].cells for plan in padded), (
        "boxes of rows that end in the input"
    )
    assert any(plan.axes[2].out_step > 1 and plan.blocking.box[3] > 64 for plan in plans["wide and strided"])
    assert any(plan.blocking.channels_per_pass < plan.problem.channels for plan in plans["same padding"])
    assert any(
        plan.blocking.strip.extent[2] < plan.blocking.box[3] + plan.axes[2].reach[1] - plan.axes[2].reach[0]
        for plan in plans["same padding"]
    ), "rows that share their border"
    assert any(plan.blocking.strip.pixel_pitch > 1 for plan in plans["channels last"])


#: Each on one of two machines, and on the other in the long run.
_PLACES = [
    pytest.param(name, machine, id=f"{name}-{number}", marks=[pytest.mark.slow] if n % 2 == number else [])
    for number, machine in enumerate((MACHINES[0], MACHINES[-2]))
    for n, name in enumerate(SPECIAL)
]


@pytest.mark.parametrize(("name", "machine"), _PLACES)
def test_special_plans_sum_in_the_same_order_too(name: str, machine: Machine) -> None:
    """One plan for each tile: the last way to cut, with the most boxes and passes."""
    problem = SPECIAL[name]
    cropped = croppings(problem, machine)[0]
    axes = problem.axes(cropped=cropped)
    for tile in tiles_for(problem, machine):
        candidate = Candidate(problem, tile, machine, 1, axes, phase_groups(tile, axes), cropped)
        for plan in list(estimates(candidate))[-1:]:
            _assert_law_of_order(plan)
