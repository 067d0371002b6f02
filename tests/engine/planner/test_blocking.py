"""How the work is cut: tasks make every output once, and boxes at a border leave out its taps."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import given, settings

from outstride.engine.planner.machine import INSTRUCTION_SETS, Machine
from outstride.engine.planner.plan import (
    GatherPlan,
    _best,
    plan_for,
)
from outstride.engine.planner.problem import Problem
from tests.engine.planner.problems import CHOICES, box_of, candidates, scalars_of
from tests.tolerance import assert_within_roundings


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
    problem = _dilated(256, 33, 12).problem
    plan = _best(problem, Machine(INSTRUCTION_SETS["avx512"]), 1)
    assert plan.blocking.box[3] <= 12
    assert_within_roundings(plan.axes[2].kept(plan.blocking.box[3]), 7 / 9, 8, "a quotient of whole numbers")


def test_columns_at_a_border_have_tiles_of_their_own() -> None:
    """A dilated residual layer: four columns at either side use two taps of three."""
    plan = _dilated(128, 56, 4)
    assert plan.blocking.columns == ((0, 4), (4, 48), (52, 4))
