"""How the work is cut: tasks make every output once, and boxes at a border leave out its taps."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import given, settings

from outstride.engine.planner.arguments import sizes
from outstride.engine.planner.gradients.gradient import plan_gradient
from outstride.engine.planner.machine import INSTRUCTION_SETS, Machine
from outstride.engine.planner.plan import (
    GatherPlan,
    plan_for,
)
from outstride.engine.planner.problem import Problem
from tests.engine.planner.problems import CHOICES, MACHINES, box_of, candidates, gradient_of, scalars_of


@given(*CHOICES)
@settings(max_examples=40)
def test_the_tasks_make_every_output_once(problem: Problem, machine: Machine, threads: int) -> None:
    for plan in (plan_for(problem, machine, threads), *candidates(problem, machine, threads)):
        blocks, s = plan.blocking, scalars_of(plan)
        assert 1 <= s["chunks_per_task"] <= s["chunks"]
        made = np.zeros((problem.groups, problem.outputs, problem.batch, *problem.output_size), int)
        cells = [problem.batch, *(a.cells for a in plan.axes)]
        assert cells == [s["batch"], s["cells_d"], s["cells_h"], s["cells_w"]]
        assert blocks.box == (s["image_block"], s["block_d"], s["block_h"], s["block_w"])
        counts = [s["images"], s["tasks_d"], s["tasks_h"], s["tasks_w"]]
        for task in range(s["tasks"]):
            rest, part = divmod(task, s["m_tasks"])
            part_of_groups, number = divmod(rest, prod(counts))
            groups = range(problem.groups)[part_of_groups * s["groups_per_task"] :][: s["groups_per_task"]]
            box = box_of(counts, cells, blocks.box, number)
            assert all(box), "a task has nothing to do"
            chunks = range(part * s["chunks_per_task"], min(s["chunks"], (part + 1) * s["chunks_per_task"]))
            assert chunks, "a task has no outputs"
            outputs = slice(chunks[0] * s["chunk_outputs"], (chunks[-1] + 1) * s["chunk_outputs"])
            places = [
                [
                    p
                    for j in cell
                    for f in range(a.out_step)
                    if 0 <= (p := j * a.out_step + f + a.shift) < a.output_size
                ]
                for a, cell in zip(plan.axes, box[1:], strict=True)
            ]
            made[np.ix_(groups, range(problem.outputs)[outputs], box[0], *places)] += 1
        assert made.min() == made.max() == 1, plan


def _dilated(channels: int, side: int, dilation: int) -> GatherPlan:
    size, window, step = (1, side, side), (1, 3, 3), (1, dilation, dilation)
    problem = Problem(
        "conv", "float32", 1, 1, channels, channels, size, size, window, (1, 1, 1), (0, dilation, dilation),
        step, "width", "width",
    )  # fmt: skip
    return plan_for(problem, Machine(INSTRUCTION_SETS["avx512"]), 1)


def test_boxes_at_a_wide_border_leave_out_its_taps() -> None:
    """A dilated layer whose padding is as wide as a third of the map: ASPP of DeepLab."""
    plan = _dilated(256, 33, 12)
    assert plan.blocking.ranges[1:] == (((0, 12), (12, 9), (21, 12)),) * 2
    assert plan.blocking.strip.extent == (1, 33, 33), "what no tap reads is packed"


def test_columns_at_a_border_have_tiles_of_their_own() -> None:
    """A dilated residual layer: four columns at either side use two taps of three."""
    plan = _dilated(128, 56, 4)
    assert plan.blocking.ranges[2] == ((0, 4), (4, 48), (52, 4))


def test_the_strip_of_a_small_map_holds_no_padding() -> None:
    """A dilation of which most taps read nothing: the strip would have seven times the places of the map."""
    plan = _dilated(256, 28, 24)
    assert plan.blocking.ranges[1:] == (((0, 4), (4, 20), (24, 4)),) * 2
    assert plan.blocking.strip.extent == (1, 28, 28)
    assert plan.tile_work == plan.problem.terms // plan.problem.channels, (
        "regions of whole tiles lose nothing"
    )


def test_a_box_that_is_cut_serves_no_input_of_another_size() -> None:
    """With a stride two inputs may have as many outputs, but their taps do not end at the same ones."""
    problem = Problem(
        "conv", "float32", 1, 1, 128, 64, (1, 16, 16), (1, 8, 8), (1, 3, 3), (1, 2, 2), (0, 8, 8), (1, 8, 8),
        "width", "width",
    )  # fmt: skip
    plan = plan_for(problem, Machine(INSTRUCTION_SETS["avx512"]), 1)
    assert plan.blocking.cut[1:] == (True, True)
    assert sizes(plan, problem) is not None
    assert sizes(plan, problem.of_size((1, 15, 16), problem.output_size)) is None


def test_weight_gradients_leave_out_padding_where_there_is_much() -> None:
    dilated = plan_gradient(gradient_of(_dilated(256, 28, 24).problem), MACHINES[-1], 1)
    assert dilated.by_tap
    assert dilated.strip.extent == (1, 28, 28)
    assert not plan_gradient(gradient_of(_dilated(256, 56, 1).problem), MACHINES[-1], 1).by_tap
