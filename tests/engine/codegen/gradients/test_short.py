"""Kernels of the weight gradient by short algorithms: one text for each recipe, which every set compiles."""

from __future__ import annotations

from itertools import product

import pytest

from outstride.engine.codegen.gradients.gradient import gradient_source
from outstride.engine.planner.dtypes import Unit
from outstride.engine.planner.gradients.gradient import plan_gradient
from outstride.engine.planner.gradients.plan import GradientProblem
from outstride.engine.planner.machine import INSTRUCTION_SETS, Machine
from outstride.engine.runtime.compiler import compile_object
from tests.environments import COMPILED_SETS

_UNITS: tuple[Unit, ...] = ("width", "channel", "any")
#: Kernel size and stride.
_KERNELS = (((1, 1, 3), 1), ((1, 3, 3), 1), ((1, 4, 4), 2), ((3, 3, 3), 1))


def _sources(isa: str) -> dict[str, str]:
    """By the names of their recipes."""
    found = {}
    for number, ((kernel, stride), unit) in enumerate(product(_KERNELS, _UNITS)):
        other = _UNITS[(number + number // 3) % 3]
        problem = GradientProblem(
            ("float32", "bfloat16", "float16")[number % 3], 1, 1, 16, 16, (8, 8, 8), (4, 4, 4), kernel,
            (stride,) * 3, (0, 1, 1), (1, 1, 1), unit, other, short=True,
        )  # fmt: skip
        plan = plan_gradient(problem, Machine(INSTRUCTION_SETS[isa]), 1)
        found[plan.recipe.name] = gradient_source(plan.recipe, plan.tile)
    return found


def test_recipes_that_differ_give_other_code_and_the_same_one_the_same() -> None:
    sources = _sources("avx512")
    assert len(sources) == len(_KERNELS) * len(_UNITS) == len(set(sources.values()))
    assert sources == _sources("avx512")


@pytest.mark.parametrize("isa", COMPILED_SETS)
def test_they_compile_for_every_set(isa: str) -> None:
    for source in list(_sources(isa).values())[::2]:
        assert b"run\0" in compile_object(source, INSTRUCTION_SETS[isa])
