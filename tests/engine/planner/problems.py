"""Problems and their plans for the tests of the planner: drawn ones, special ones, those of real layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, prod
from typing import Literal, TypeVar

from hypothesis import strategies as st

from outstride.bench.cases import Case
from outstride.engine.planner.arguments import (
    kernel_arguments,
    sizes,
)
from outstride.engine.planner.dataflow import Candidate
from outstride.engine.planner.dtypes import Unit
from outstride.engine.planner.gradients.dots import DotPlan
from outstride.engine.planner.gradients.plan import GradientPlan, GradientProblem
from outstride.engine.planner.machine import INSTRUCTION_SETS, Machine
from outstride.engine.planner.plan import (
    GatherPlan,
    phase_groups,
    planned,
    recipe_for,
    tiles_for,
)
from outstride.engine.planner.problem import Problem
from outstride.engine.planner.unrolled import UnrolledPhases

Triple = tuple[int, int, int]


_T = TypeVar("_T")


def triple(values: Sequence[_T]) -> tuple[_T, _T, _T]:
    return values[0], values[1], values[2]


MACHINES = [
    Machine(isa, l2_bytes) for isa in INSTRUCTION_SETS.values() for l2_bytes in (1 << 13, 1 << 16, 1 << 20)
]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Contractions of one to three axes with sizes that no layer need have: output sizes are free."""
    nd = draw(st.integers(1, 3))
    transposed = draw(st.booleans())
    many = draw(st.sampled_from(["channels", "outputs", "neither"]))
    many_channels = st.sampled_from([1, 3, 63, 64, 65, 130, 200])

    def row(least: int, most: int, fill: int) -> Triple:
        return triple([fill] * (3 - nd) + [draw(st.integers(least, most)) for _ in range(nd)])

    most = {1: 40, 2: 9, 3: 5}[nd]
    operator: Literal["conv", "conv_transpose"] = "conv_transpose" if transposed else "conv"
    units: st.SearchStrategy[Unit] = st.sampled_from(("width", "channel", "any"))
    return Problem(
        operator, draw(st.sampled_from(["float32", "float64", "bfloat16"])),
        draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 5])),
        draw(many_channels if many == "channels" else st.integers(1, 3)),
        draw(st.integers(1, 70) if many == "outputs" else st.integers(1, 4)),
        row(1, most, 1), row(1, most, 1), row(1, 4, 1), row(1, 5, 1), row(0, 4, 0), row(1, 3, 1),
        draw(units), draw(units),
    )  # fmt: skip


def croppings(problem: Problem, machine: Machine) -> tuple[bool, ...]:
    """The ways to count cells; a kernel that reads in place knows one."""
    if isinstance(recipe_for(problem, machine, problem.axes()).unrolled, UnrolledPhases):
        return (True,)
    return (False, True)[: 1 + (problem.operator == "conv_transpose")]


def estimates(candidate: Candidate) -> Iterator[GatherPlan]:
    """The plans of one tile, one for each way to cut the problem."""
    for blocking, cycles in candidate.dataflow.estimates(candidate):
        yield planned(candidate, blocking, cycles)


def candidates(problem: Problem, machine: Machine, threads: int) -> Iterator[GatherPlan]:
    """Every plan that `plan_for` chooses among, and for transposed layers those that it does not look at."""
    for cropped in croppings(problem, machine):
        axes = problem.axes(cropped=cropped)
        for tile in tiles_for(problem, machine):
            yield from estimates(
                Candidate(problem, tile, machine, threads, axes, phase_groups(tile, axes), cropped)
            )


#: Layers whose plans take ways that random problems seldom take.
SPECIAL = {
    "depthwise": Problem(
        "conv", "float32", 2, 3, 1, 1, (1, 21, 37), (1, 19, 35), (1, 3, 3), (1, 1, 1), (0, 0, 0), (1, 1, 1),
        "width", "width",
    ),
    "depthwise vectors": Problem(
        "conv_transpose", "float32", 2, 2, 1, 40, (1, 6, 7), (1, 13, 14), (1, 3, 4), (1, 2, 2), (0, 0, 1),
        (1, 1, 1), "channel", "channel", depthwise=True,
    ),
    "spread": Problem(
        "conv_transpose", "float32", 2, 3, 1, 1, (1, 9, 37), (1, 18, 74), (1, 4, 4), (1, 2, 2), (0, 1, 1),
        (1, 1, 1), "width", "width",
    ),
    "spread rows": Problem(
        "conv_transpose", "bfloat16", 2, 3, 1, 2, (1, 1, 300), (1, 1, 608), (1, 1, 12), (1, 1, 2),
        (0, 0, 1), (1, 1, 1), "width", "width",
    ),
    "two outputs": Problem(
        "conv", "float64", 1, 1, 70, 2, (3, 9, 20), (3, 9, 10), (2, 5, 3), (1, 1, 2), (1, 2, 1), (2, 1, 1),
        "width", "width",
    ),
    "dilated in space": Problem(
        "conv", "float32", 1, 1, 3, 4, (6, 14, 14), (6, 14, 14), (3, 3, 3), (1, 1, 1), (1, 5, 5), (1, 5, 5),
        "width", "width",
    ),
    "wide": Problem(
        "conv", "float32", 1, 1, 2, 5, (1, 1, 1500), (1, 1, 1492), (1, 1, 5), (1, 1, 1), (0, 0, 0), (1, 1, 2),
        "width", "width",
    ),
    "wide and padded": Problem(
        "conv", "float32", 1, 1, 2, 5, (1, 4, 150), (1, 4, 150), (1, 3, 3), (1, 1, 1), (0, 1, 1), (1, 1, 1),
        "width", "width",
    ),
    "wide and strided": Problem(
        "conv_transpose", "bfloat16", 1, 1, 2, 3, (1, 1, 200), (1, 1, 603), (1, 1, 7), (1, 1, 3), (0, 0, 2),
        (1, 1, 1), "width", "width",
    ),
    "one position": Problem(
        "conv", "float32", 1, 1, 7, 5, (1, 30, 24), (1, 30, 24), (1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1),
        "width", "width",
    ),
    "same padding": Problem(
        "conv", "float32", 2, 1, 65, 8, (1, 12, 12), (1, 12, 12), (1, 3, 3), (1, 1, 1), (0, 1, 1), (1, 1, 1),
        "width", "width",
    ),
    "border wider than a tile": Problem(
        "conv", "float32", 2, 1, 3, 4, (1, 3, 12), (1, 3, 12), (1, 1, 3), (1, 1, 1), (0, 0, 200), (1, 1, 200),
        "width", "width",
    ),
    "channels last": Problem(
        "conv", "float32", 1, 1, 130, 40, (1, 7, 7), (1, 4, 4), (1, 3, 3), (1, 2, 2), (0, 1, 1), (1, 1, 1),
        "channel", "any",
    ),
}  # fmt: skip


CHOICES = (problems(), st.sampled_from(MACHINES), st.sampled_from([1, 2, 7]))


def box_of(counts: Sequence[int], cells: Sequence[int], block: Sequence[int], number: int) -> list[range]:
    """Box number -> cells, as kernels decode it: width fastest, images slowest."""
    ranges: list[range] = []
    for count, cell, size in reversed(list(zip(counts, cells, block, strict=True))):
        number, index = divmod(number, count)
        ranges.insert(0, range(index * size, min(cell, (index + 1) * size)))
    assert number == 0
    return ranges


def boxes_of(plan: GatherPlan | GradientPlan | DotPlan, block: Sequence[int]) -> Iterator[list[range]]:
    cells = (plan.problem.batch, *(a.cells for a in plan.axes))
    counts = [ceil(c / b) for c, b in zip(cells, block, strict=True)]
    for number in range(prod(counts)):
        yield box_of(counts, cells, block, number)


def scalars_of(plan: GatherPlan) -> dict[str, int]:
    """All scalars of the argument block but the strides of tensors."""
    of_size = sizes(plan, plan.problem)
    assert of_size is not None
    return kernel_arguments(plan).scalars | of_size


def problem_of(case: Case) -> Problem:
    def row(values: Sequence[int], fill: int) -> Triple:
        return triple([fill] * (3 - len(values)) + list(values))

    g = case.groups
    return Problem(
        "conv_transpose" if case.transposed else "conv", "float32", case.batch, g, case.in_channels // g,
        case.out_channels // g, row(case.input_size, 1), row(case.output_size, 1), row(case.kernel_size, 1),
        row(case.stride, 1), row(case.padding, 0), row(case.dilation, 1), "width", "width",
    )  # fmt: skip


def gradient_of(problem: Problem) -> GradientProblem:
    p = problem
    return GradientProblem(
        p.dtype, p.batch, p.groups, p.channels, p.outputs, p.input_size, p.output_size, p.kernel_size,
        p.stride, p.padding, p.dilation, p.in_unit, "channel" if p.out_unit == "any" else "any",
    )  # fmt: skip
