"""The tables that a kernel looks up: each phase has rows of results of its own."""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings

from outstride.engine.planner.arguments import (
    kernel_arguments,
)
from outstride.engine.planner.machine import Machine
from outstride.engine.planner.problem import Problem
from outstride.engine.planner.tables import phase_rows
from tests.engine.planner.problems import CHOICES, candidates


@given(*CHOICES)
@settings(max_examples=40)
def test_every_phase_has_rows_of_results_of_its_own(problem: Problem, machine: Machine, threads: int) -> None:
    for plan in candidates(problem, machine, threads):
        chunk = plan.blocking.chunk_outputs
        table = phase_rows(plan.axes, plan.groups, chunk, plan.tile_rows)
        made = kernel_arguments(plan)
        owner = [i for i, g in enumerate(made.groups) for _ in range(g.tiles * plan.tile_rows)]
        assert [g.row for g in made.groups] == [owner.index(i) for i in range(len(made.groups))]
        used: list[int] = []
        phases = product(*(range(a.out_step) for a in plan.axes))
        for phase, first, scale in zip(phases, table[::2], table[1::2], strict=True):
            rows = [first + o * scale for o in range(chunk)]
            assert all(phase in plan.groups[owner[row]].members for row in rows)
            # A group's weights are packed output by output, the members of each side by side.
            group = plan.groups[owner[first]]
            base = made.groups[owner[first]].row
            assert rows == [base + o * len(group.members) + group.members.index(phase) for o in range(chunk)]
            used += rows
        assert len(set(used)) == len(used)
