"""Plans as values: frozen, hashable, always the same, and the same recipe for every size."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Literal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from outstride.engine.planner import plan as planning
from outstride.engine.planner.arguments import (
    kernel_arguments,
    sizes,
)
from outstride.engine.planner.cost import task_cycles, tasks_in_turn
from outstride.engine.planner.dataflow import PackingDataflow
from outstride.engine.planner.dataflows.lanes import BAND_BYTES
from outstride.engine.planner.machine import INSTRUCTION_SETS, Machine
from outstride.engine.planner.plan import (
    _best,
    plan_for,
)
from outstride.engine.planner.problem import Problem, coarse_size
from tests.engine.planner.problems import CHOICES, MACHINES, candidates


@given(*CHOICES)
@settings(max_examples=25)
def test_plans_are_frozen_hashable_and_always_the_same(
    problem: Problem, machine: Machine, threads: int
) -> None:
    plan = plan_for(problem, machine, threads)
    _best.cache_clear()
    again = plan_for.__wrapped__(replace(problem), replace(machine), threads)
    assert plan == again
    assert plan is not again
    assert hash(plan) == hash(again)
    assert kernel_arguments(plan) == kernel_arguments(again)
    assert (plan.problem, plan.machine, plan.threads) == (problem, machine, threads)
    for value in (
        plan,
        plan.blocking,
        plan.blocking.strip,
        plan.recipe,
        plan.tile,
        problem,
        machine,
        plan.axes[0],
    ):
        with pytest.raises(FrozenInstanceError):
            value.anything = 1  # type: ignore[union-attr]
    if problem.coarse() is problem:
        plans = candidates(problem, machine, threads)
        assert plan.predicted_cycles == min(each.predicted_cycles for each in plans)


@given(st.integers(33, 3000), st.integers(33, 400), st.sampled_from(MACHINES), st.sampled_from([1, 2]))
@settings(max_examples=30)
def test_a_size_between_coarse_ones_is_planned_nearly_as_well(
    width: int, height: int, machine: Machine, threads: int
) -> None:
    """To cost all ways for each new size would take longer than some layers run."""
    wide = (1, 1, width)
    problems = [
        Problem(
            "conv_transpose", "float32", 1, 1, 128, 64, wide, (1, 1, 2 * width), (1, 1, 4), (1, 1, 2),
            (0, 0, 1), (1, 1, 1), "width", "width",
        ),
        Problem(
            "conv", "float32", 1, 1, 64, 64, (1, height, height), (1, height, height), (1, 3, 3), (1, 1, 1),
            (0, 1, 1), (1, 1, 1), "width", "width",
        ),
    ]  # fmt: skip
    for problem in problems:
        plan = plan_for(problem, machine, threads)
        best = _best(problem, machine, threads).predicted_cycles
        assert isinstance(plan.dataflow, PackingDataflow)
        task = task_cycles(plan, plan.dataflow, plan.blocking)
        assert task * tasks_in_turn(plan, plan.blocking) <= 1.2 * best
        assert 0.85 * best <= plan.predicted_cycles <= 1.2 * best
        # Sizes that are coarse themselves, as most in use are, get the best plan.
        coarse = problem.coarse()
        assert plan_for(coarse, machine, threads) == _best(coarse, machine, threads)


@given(
    st.sampled_from(["conv", "conv_transpose"]), st.integers(1025, 20000), st.integers(1, 60),
    st.integers(1, 7), st.integers(1, 3), st.integers(1, 90), st.integers(1, 90), *CHOICES[1:],
)  # fmt: skip
@settings(max_examples=60)
def test_a_size_that_shares_blocks_shares_all_but_its_scalars(
    operator: Literal["conv", "conv_transpose"], width: int, more: int, kernel: int, stride: int,
    channels: int, outputs: int, machine: Machine, threads: int,
) -> None:  # fmt: skip
    """What an earlier size left ready serves a later one: with its scalars it is what planning would make."""

    def of_width(n: int) -> Problem:
        longer, step = (n - 1) * stride + kernel, (1, 1, stride)
        size, result = (longer, n) if operator == "conv" else (n, longer)
        return Problem(
            operator, "float32", 1, 1, channels, outputs, (1, 1, size), (1, 1, result), (1, 1, kernel), step,
            (0, 0, 0), (1, 1, 1), "width", "width",
        )  # fmt: skip

    first, second = of_width(width), of_width(min(width + more, *coarse_size([width])))
    plan = plan_for(first, machine, threads)
    found = sizes(plan, second)
    assert first.coarse() == second.coarse()
    assume(found is not None)
    other = plan_for(second, machine, threads)
    assert other.blocking == plan.blocking
    assert found == sizes(other, second)
    one, two = kernel_arguments(plan), kernel_arguments(other)
    assert replace(one, scalars={}) == replace(two, scalars={})
    differ = {name for name, value in one.scalars.items() if two.scalars[name] != value}
    assert differ <= {"skips", "ahead_bytes", "ahead_step", "ahead_rows"}  # what costs time alone


@given(*CHOICES, st.data())
@settings(max_examples=60)
def test_the_recipe_of_a_layer_is_the_same_for_all_its_sizes(
    problem: Problem, machine: Machine, threads: int, data: st.DataObject
) -> None:
    """Law 6 for plans: kernels are cached under the recipe."""
    sizes = st.tuples(st.integers(1, 300), st.integers(1, 300), st.integers(2, 300))
    first, second = (
        replace(
            problem,
            batch=data.draw(st.integers(1, 9)),
            input_size=data.draw(sizes),
            output_size=data.draw(sizes),
        )
        for _ in range(2)
    )
    assert plan_for(first, machine, threads).recipe == plan_for(second, machine, 1).recipe


def test_the_recipe_is_the_same_for_an_input_of_one_column() -> None:
    """Law 6 has no exception: ConvTranspose1d(5, 6, 7, stride=2) must not compile again for one column."""
    wide = Problem(
        "conv_transpose", "float32", 1, 1, 5, 6, (1, 1, 9), (1, 1, 23), (1, 1, 7), (1, 1, 2), (0, 0, 0),
        (1, 1, 1), "width", "width",
    )  # fmt: skip
    narrow = replace(wide, input_size=(1, 1, 1), output_size=(1, 1, 7))
    assert plan_for(narrow, MACHINES[0], 1).recipe == plan_for(wide, MACHINES[0], 1).recipe


@pytest.mark.parametrize(("outputs", "stride", "size"), [(64, 1, 224), (32, 2, 112)])
def test_many_results_of_few_inputs_do_not_wait_in_scratch(outputs: int, stride: int, size: int) -> None:
    """First layers of VGG-16 and MobileNetV2: what waits leaves the first-level cache (decision 0071)."""
    problem = Problem(
        "conv", "float32", 1, 1, 3, outputs, (1, 224, 224), (1, size, size), (1, 3, 3), (1, stride, stride),
        (0, 1, 1), (1, 1, 1), "width", "width",
    )  # fmt: skip
    assert plan_for(problem, Machine(INSTRUCTION_SETS["avx512"]), 1).blocking.direct


@pytest.mark.parametrize("operator", ["conv", "conv_transpose"])
def test_small_layers_run_alone(
    operator: Literal["conv", "conv_transpose"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "ALONE_CYCLES", 32_000)
    machine = Machine(INSTRUCTION_SETS["avx512"])
    small = Problem(
        operator, "float32", 1, 1, 32, 32, (1, 1, 128), (1, 1, 128), (1, 1, 3), (1, 1, 1), (0, 0, 1),
        (1, 1, 1), "width", "width",
    )  # fmt: skip
    large = small.of_size((1, 1, 1 << 14), (1, 1, 1 << 14))
    assert planning.shared_plan(small, machine, 4) == plan_for(small, machine, 1)
    assert planning.shared_plan(large, machine, 4) == plan_for(large, machine, 4)
    assert planning.shared_plan(small, machine, 1) == plan_for(small, machine, 1)


@pytest.mark.parametrize(("channels", "size", "banded"), [(96, 112, True), (48, 112, False), (96, 28, False)])
def test_depthwise_layers_of_many_channels_are_computed_in_bands(
    channels: int, size: int, banded: bool
) -> None:
    """What the first vectors of channels have read of a large map, the others find in the cache."""
    problem = Problem(
        "conv", "float32", 1, 1, 1, channels, (1, size, size), (1, size, size), (1, 3, 3), (1, 1, 1),
        (0, 1, 1), (1, 1, 1), "channel", "channel", depthwise=True,
    )  # fmt: skip
    made = plan_for(problem, Machine(INSTRUCTION_SETS["avx512"]), 1)
    rows = made.blocking.box[2]
    assert made.dataflow.name == "lanes"
    assert rows == (BAND_BYTES // (4 * channels * size) if banded else size)
