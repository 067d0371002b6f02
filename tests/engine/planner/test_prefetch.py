"""What is packed next is asked for in time."""

from __future__ import annotations

from math import ceil, prod

import pytest

from outstride.bench.cases import read_cases
from outstride.engine.planner.arguments import (
    kernel_arguments,
)
from outstride.engine.planner.dataflow import PackingDataflow
from outstride.engine.planner.machine import INSTRUCTION_SETS, Machine
from outstride.engine.planner.plan import (
    plan_for,
)
from tests import ROOT
from tests.engine.planner.problems import problem_of


@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_packed_next_is_asked_for_in_time(threads: int) -> None:
    """Where inputs are far: all that a box reads of a channel, a few lines a tile, until it is packed."""
    some = 0
    for case in read_cases(ROOT / "bench" / "layers.csv"):
        plan = plan_for(problem_of(case), Machine(INSTRUCTION_SETS["avx512"]), threads)
        p, (row, lines, rows) = plan.problem, plan.prefetch
        if 4 * p.batch * p.groups * p.channels * prod(p.input_size) < 2 << 20:
            assert plan.prefetch == (0, 0, 0), f"{case.id} prefetches what is near"
        if row:
            some += 1
            cells = zip(plan.axes, plan.blocking.box[1:], strict=True)
            read = [min(n * a.in_step, a.input_size) for a, n in cells]
            assert 64 * row >= 4 * prod(read), f"{case.id} leaves out a part of a row"
            assert 1 <= lines * rows <= 32
            made = kernel_arguments(plan)
            tiles = sum(g.tiles for g in made.groups) * plan.blocking.chunks_per_task
            assert isinstance(plan.dataflow, PackingDataflow)
            tiles *= plan.dataflow.tiles_over(plan.tile, plan.blocking, plan.lanes)
            needed = ceil(row / lines) * plan.blocking.channels_per_pass
            enough = tiles * rows >= 0.66 * needed or lines * (rows + 1) > 32
            assert enough, f"{case.id} is still asking when the next is packed"
    assert some > 20
