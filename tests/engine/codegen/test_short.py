"""Kernels of short algorithms: every way in and out compiles for every set, also where none runs."""

from __future__ import annotations

import re

import pytest

from outstride.engine.codegen.nest import gather_source
from outstride.engine.codegen.packing.weights import weights_source
from outstride.engine.planner.dtypes import Unit
from outstride.engine.planner.machine import INSTRUCTION_SETS, Machine
from outstride.engine.planner.plan import GatherPlan, plan_for
from outstride.engine.planner.problem import Problem
from outstride.engine.runtime import compiler
from tests.engine.codegen.assembly import bodies_of, innermost_loops
from tests.environments import COMPILED_SETS

_every_set = pytest.mark.parametrize("name", INSTRUCTION_SETS)
_compiled_sets = pytest.mark.parametrize("name", COMPILED_SETS)


def _planned(
    name: str, dtype: str, unit: Unit, kernel: int = 3, dilation: tuple[int, int, int] = (1, 1, 1)
) -> GatherPlan:
    ones, (_, high, wide) = (1, 1, 1), (kernel // 2 * d for d in dilation)
    problem = Problem(
        "conv", dtype, 1, 1, 64, 64, (1, 30, 30), (1, 30, 30), (1, kernel, kernel), ones, (0, high, wide),
        dilation, unit, unit, short=True,
    )  # fmt: skip
    return plan_for(problem, Machine(INSTRUCTION_SETS[name]), 2)


@_compiled_sets
@pytest.mark.parametrize(
    ("dtype", "unit"),
    [
        ("float32", "width"),
        ("float32", "channel"),
        ("float32", "any"),
        ("bfloat16", "width"),
        ("float16", "any"),
    ],
)
def test_a_kernel_and_its_weights_compile(name: str, dtype: str, unit: Unit) -> None:
    plan = _planned(name, dtype, unit)
    isa = INSTRUCTION_SETS[name]
    for source in (gather_source(plan.recipe), weights_source(dtype, isa, plan.recipe.short)):
        assert compiler.compile_object(source, isa)


@_compiled_sets
def test_weights_of_products_are_summed_without_branches(name: str) -> None:
    isa, short = INSTRUCTION_SETS[name], _planned(name, "float32", "width").recipe.short
    bodies = bodies_of(compiler.compile_assembly(weights_source("float32", isa, short), isa))
    to_double = re.compile(r"fcvtl?\s+[vd]|vcvt[sp]s2[sp]d")
    loops = [loop for body in bodies.values() for loop in innermost_loops(body, to_double)]
    # Whole vectors and single terms, where squares are packed and where they are not.
    assert len(loops) == 4
    conditional = re.compile(r"j(?!mp)\w+\s|b\.\w+\s|[ct]bn?z\s")
    for loop in loops:
        assert sum(bool(conditional.match(line)) for line in loop) <= 1, "a branch beside the loop's own"


@_compiled_sets
@pytest.mark.parametrize("unit", ["width", "channel", "any"])
@pytest.mark.parametrize("dilation", [(1, 2, 3), (1, 1, 6), (1, 3, 20)])
def test_a_kernel_of_cells_in_runs_compiles(name: str, dilation: tuple[int, int, int], unit: Unit) -> None:
    plan = _planned(name, "float32", unit, dilation=dilation)
    assert len(plan.groups) == 16
    assert all(block % d == 0 for block, d in zip(plan.blocking.box[1:], dilation, strict=True))
    assert compiler.compile_object(gather_source(plan.recipe), INSTRUCTION_SETS[name])


@_every_set
def test_cells_of_other_kernels_are_other_kernels(name: str) -> None:
    recipes = {_planned(name, "float32", "width", kernel).recipe for kernel in (3, 5)}
    assert len({recipe.name for recipe in recipes}) == 2


def test_a_product_is_a_group_of_one_tap() -> None:
    plan = _planned("avx512", "float32", "width")
    assert [(group.phases, group.taps) for group in plan.groups] == [(1, 1)] * 16
    assert plan.blocking.strip.planes == 16
    assert all(block % 32 == 0 for block in (plan.blocking.channels_per_pass,))
