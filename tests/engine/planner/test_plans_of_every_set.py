"""Every case is planned and its code made under every instruction set, those that do not run here too."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import cycle
from typing import Literal

import llvmlite.binding as llvm
import pytest
import torch

from outstride.engine import runtime
from outstride.engine.codegen.nest import gather_source
from outstride.engine.launch.matrix_product import Operands, as_product
from outstride.engine.launch.plans import problem_of
from outstride.engine.planner.arguments import kernel_arguments
from outstride.engine.planner.machine import INSTRUCTION_SETS, Machine
from outstride.engine.planner.plan import GatherPlan, plan_for
from outstride.engine.planner.problem import Problem
from outstride.engine.runtime.compiler import compile_object
from tests.cases import CASES, LARGE_CASES, Case
from tests.environments import COMPILED_SETS, THREADS
from tests.operands import arrange, draw

_EVERY_SET = pytest.mark.parametrize("name", INSTRUCTION_SETS)


@lru_cache
def _problems() -> tuple[Problem, ...]:
    """What the engine is asked for by the cases, forward and back, in their layout and channels last."""
    return tuple(dict.fromkeys(p for case in (*CASES, *LARGE_CASES) if case.batched for p in _asked(case)))


def _asked(case: Case) -> Iterator[Problem]:
    drawn = draw(case, "integers", torch.float32)
    for name in (case.layout, "channels_last"):
        operands = arrange(drawn, name, case.weight_layout)
        low = tuple(low for low, _ in case.pads)
        there: tuple[Literal["conv", "conv_transpose"], ...] = ("conv", "conv_transpose")
        operators = reversed(there) if case.transposed else there
        x, y = operands.input, operands.grad_output
        for operator, given, made in zip(operators, (x, y), (y, x), strict=True):
            if given.numel() and made.numel():
                whole = Operands(
                    operator, given, operands.weight, made, case.stride, low, case.dilation, case.groups
                )
                yield problem_of(as_product(whole))


@lru_cache
def _plans(name: str) -> tuple[GatherPlan, ...]:
    """Those of the problems for one thread and for two, in turn."""
    machine, turns = Machine(INSTRUCTION_SETS[name]), cycle(THREADS[:2])
    return tuple(plan_for(problem, machine, next(turns)) for problem in _problems())


@pytest.mark.parametrize("name", COMPILED_SETS)
def test_every_case_is_planned_and_its_code_is_valid(name: str) -> None:
    """Where the set runs the laws run its code; where it does not, it is compiled at every run."""
    recipes = dict.fromkeys(plan.recipe for plan in _plans(name))
    assert len(recipes) > 50
    for recipe in recipes:
        source = gather_source(recipe)
        if name in runtime.available():
            llvm.parse_assembly(source, llvm.create_context()).verify()
        else:
            assert compile_object(source, INSTRUCTION_SETS[name])


@_EVERY_SET
def test_the_strip_of_every_case_has_room_for_its_groups(name: str) -> None:
    for plan in _plans(name):
        scalars, strip = kernel_arguments(plan).scalars, plan.blocking.strip
        rooms = [scalars[n] for n in scalars if n.endswith("_bytes_offset")]
        assert 0 <= min(rooms) <= max(rooms) <= scalars["scratch_bytes"]
        if plan.dataflow.packs(plan.problem):
            assert plan.blocking.groups_per_task <= strip.channels
            assert strip.pixel_pitch == 1 or strip.channel_pitch == 1


@_EVERY_SET
def test_the_cases_have_every_kind_of_task_that_there_is(name: str) -> None:
    """A law sees only what some case makes: in none of them met several groups pixels that lie apart."""
    found = {
        (plan.tile.variant, plan.blocking.strip.pixel_pitch > 1, plan.blocking.groups_per_task > 1)
        for plan in _plans(name)
    }
    of_one_channel = "in_place" if INSTRUCTION_SETS[name].masks else "rows"
    assert found >= {
        ("pixels", False, False), ("pixels", False, True), ("channels", False, False),
        ("channels", True, False), ("channels", True, True), ("straight", True, False),
        ("straight", True, True), ("lanes", False, False), (of_one_channel, False, True),
    }  # fmt: skip
