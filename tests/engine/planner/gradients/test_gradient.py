"""Plans of the weight gradient: every pixel is summed once, in boxes that the problem alone fixes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from math import ceil, prod

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from outstride.engine.codegen.arguments import GRADIENT_ARGUMENTS
from outstride.engine.planner.gradients.dots import plan_dots
from outstride.engine.planner.gradients.gradient import gradient_scalars, plan_gradient
from outstride.engine.planner.machine import Machine
from outstride.engine.planner.problem import Problem
from tests.engine.planner.definitions import all_channels, input_read, overrun_of, packed_strip
from tests.engine.planner.problems import CHOICES, MACHINES, boxes_of, gradient_of, problems, triple


@given(problems(), st.integers(1, 40_000), st.booleans(), st.data())
@settings(max_examples=100)
def test_boxes_and_splits_of_the_weight_gradient_depend_on_the_problem_alone(
    problem: Problem, width: int, short: bool, data: st.DataObject
) -> None:
    """They fix the order of summation, so neither machine nor threads nor layout may move them."""
    large = replace(problem, output_size=triple([*problem.output_size[:2], width]))
    gradient = replace(gradient_of(large), short=short)
    one = plan_gradient(gradient, MACHINES[0], 1)
    assert (one.splits - 1) * one.boxes_per_split < one.boxes <= one.splits * one.boxes_per_split
    for _ in range(4):
        moved = replace(
            gradient,
            in_unit=data.draw(st.sampled_from(["width", "channel", "any"])),
            out_unit=data.draw(st.sampled_from(["channel", "any"])),
        )
        other = plan_gradient(moved, data.draw(st.sampled_from(MACHINES)), data.draw(st.integers(1, 64)))
        assert (other.box, other.boxes, other.splits, other.boxes_per_split) == (
            one.box, one.boxes, one.splits, one.boxes_per_split,
        )  # fmt: skip
        assert plan_dots(moved, other.machine).box == plan_dots(gradient, MACHINES[0]).box


def test_the_splits_do_depend_on_the_problem() -> None:
    """Else the law above would hold for nothing."""
    small = gradient_of(
        Problem(
            "conv", "float32", 8, 1, 3, 8, (1, 64, 64), (1, 64, 64), (1, 3, 3), (1, 1, 1), (0, 1, 1),
            (1, 1, 1), "width", "width",
        )
    )  # fmt: skip
    assert plan_gradient(small, MACHINES[0], 1).splits > 1
    assert plan_gradient(replace(small, channels=512, outputs=512), MACHINES[0], 1).splits == 1


@given(*CHOICES)
@settings(max_examples=60)
def test_the_weight_gradient_sums_every_pixel_once_and_finds_it(
    problem: Problem, machine: Machine, threads: int
) -> None:
    assume(problem.channels * prod(problem.kernel_size) * prod(problem.output_size) * problem.batch <= 40_000)
    plan = plan_gradient(gradient_of(problem), machine, threads)
    p, strip = plan.problem, plan.strip
    scalars, taps, scratch_bytes = gradient_scalars(plan)
    boxes = list(boxes_of(plan, plan.box))
    assert len(boxes) == plan.boxes
    assert (plan.splits - 1) * plan.boxes_per_split < plan.boxes <= plan.splits * plan.boxes_per_split
    pixels = [cell for box in boxes for cell in product(*box)]
    assert sorted(pixels) == list(product(range(p.batch), *(range(n) for n in p.output_size)))
    assert plan.output_blocks * plan.width >= p.outputs
    item = 8 if p.dtype == "float64" else 4
    starts = [0, *(scalars[f"{room}_bytes_offset"] for room in ("panel", "sums", "terms", "runs"))]
    of_part, taps_of_task = prod(plan.part), plan.channels_per_block * prod(p.kernel_size)
    needed = [
        strip.elements * item, plan.blocks_per_chunk * of_part * plan.width * item,
        plan.blocks_per_chunk * taps_of_task * plan.width * item if plan.splits == 1 else 0, 4 * of_part,
        8 * (1 + 2 * prod(plan.part[:3])),  # each row may have a run of its own
    ]  # fmt: skip
    assert all(b - a >= n for a, b, n in zip(starts, [*starts[1:], scratch_bytes], needed, strict=True))
    tasks = ceil(p.channels / plan.channels_per_block), ceil(plan.output_blocks / plan.blocks_per_chunk)
    assert scalars["tasks"] == p.groups * plan.splits * prod(tasks)
    assert plan.strip.channels == plan.channels_per_slab <= plan.channels_per_block <= p.channels
    inputs = p.batch * prod(p.input_size)
    kernel = list(product(*(range(k) for k in p.kernel_size)))
    overrun = overrun_of(p.in_unit, plan.axes[2].in_step, machine, item)
    direct = replace(problem, operator="conv")
    parts = [part for box in boxes for part in _parts(box, plan.part)]
    assert [cell for part in parts for cell in product(*part)] == pixels, "parts have the order of the boxes"
    for box in parts:
        one = packed_strip(plan.packed_axes, strip, box, 1 if strip.pixel_pitch > 1 else overrun)
        full = all_channels(one, strip, range(plan.channels_per_slab), inputs)
        pitch = strip.channel_pitch
        for n, d, h, w in product(*(range(len(r)) for r in box)):
            place = n * strip.image_pitch + (d * strip.extent[1] + h) * strip.extent[2] + w
            output = [r[i] for r, i in zip(box[1:], (d, h, w), strict=True)]
            for tap, k in zip(taps, kernel, strict=True):
                u = input_read(direct, output, k)
                number = 0
                if u is None and plan.by_tap:
                    continue  # it is left out
                if u is not None:
                    number = 1 + int(np.ravel_multi_index((box[0][n], *u), (p.batch, *p.input_size)))
                found = full[place * strip.pixel_pitch + tap :: pitch][: plan.channels_per_slab]
                wanted = [number and number + c * inputs for c in range(len(found))]
                assert found.tolist() == wanted


def _parts(box: Sequence[range], part: Sequence[int]) -> Iterator[list[range]]:
    """The parts of a box in the order in which a task packs them."""
    axes = ([r[i : i + n] for i in range(0, len(r), n)] for r, n in zip(box, part, strict=True))
    return map(list, product(*axes))


@given(*CHOICES)
@settings(max_examples=60)
def test_boxes_and_tasks_of_a_short_weight_gradient_cover_cells_channels_and_outputs(
    problem: Problem, machine: Machine, threads: int
) -> None:
    plan = plan_gradient(replace(gradient_of(problem), short=True), machine, threads)
    p = plan.problem
    cells = [cell for box in boxes_of(plan, plan.box) for cell in product(*box)]
    sizes = zip(p.output_size, p.short_axes, strict=True)
    covered = (p.batch, *(axis.cells(n) for n, axis in sizes))
    assert sorted(cells) == list(product(*map(range, covered)))
    assert (plan.channel_blocks - 1) * plan.channels_per_block < p.channels
    assert plan.channel_blocks * plan.channels_per_block >= p.channels
    assert plan.output_chunks * plan.blocks_per_chunk * plan.width >= p.outputs
    assert plan.strip.channels == plan.channels_per_slab <= plan.channels_per_block
    scalars, places, scratch_bytes = gradient_scalars(plan)
    assert len(places) == prod(len(axis.offsets) for axis in p.short_axes)
    assert plan.raw is not None
    assert max(places) < plan.raw.elements
    item = 8 if p.dtype == "float64" else 4
    rooms = ["raw", "line", "panel", "sums", "terms"]
    starts = [0, *(scalars[f"{room}_bytes_offset"] for room in rooms), scratch_bytes]
    cell = prod(axis.out_step for axis in p.short_axes)
    of_product = plan.blocks_per_chunk * p.products * plan.width
    plane = plan.strip.plane_pitch * plan.strip.pixel_pitch
    needed = [
        p.products * plane * item, plan.raw.elements * item, plan.box[3] * cell * plan.width * item,
        of_product * prod(plan.box) * item, of_product * plan.channels_per_block * item, 4 * prod(plan.box),
    ]  # fmt: skip
    assert all(b - a >= n for a, b, n in zip(starts, starts[1:], needed, strict=False))


@given(*CHOICES, st.booleans())
@settings(max_examples=25)
def test_the_argument_block_of_the_weight_gradient_is_filled(
    problem: Problem, machine: Machine, threads: int, short: bool
) -> None:
    given_by_the_call = {
        n for n in GRADIENT_ARGUMENTS if n.endswith("_at") or n.startswith(("x_stride", "y_stride"))
    }
    gradient = replace(gradient_of(problem), short=short)
    plan = plan_gradient(gradient, machine, threads)
    scalars, _, _ = gradient_scalars(plan)
    assert set(scalars) == set(GRADIENT_ARGUMENTS) - given_by_the_call
    assert hash(plan) == hash(plan_gradient(gradient, machine, threads))
