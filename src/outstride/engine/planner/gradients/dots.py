"""Plans of the weight gradient by dot products, for groups of few outputs."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

from outstride.engine.planner.dtypes import ACCUMULATOR_BYTES, Unit
from outstride.engine.planner.gather_form import GatherAxis
from outstride.engine.planner.gradients.gradient import tap_places
from outstride.engine.planner.gradients.plan import GradientProblem, pixel_box
from outstride.engine.planner.machine import DOT_BYTES, Machine
from outstride.engine.planner.recipe import Recipe
from outstride.engine.planner.strip import Strip, strip_of
from outstride.engine.planner.tables import box_scalars, round_up_line, size_scalars

#: With more outputs than this a vector of neighbouring outputs is full enough.
DOT_OUTPUTS = 3


@dataclass(frozen=True)
class DotPlan:
    """The recipe, the boxes and how many taps are summed at once; the boxes come from the problem alone."""

    problem: GradientProblem
    recipe: Recipe
    machine: Machine
    axes: tuple[GatherAxis, ...]
    box: tuple[int, int, int, int]
    strip: Strip
    taps_at_once: int

    @property
    def tasks(self) -> int:
        """Units of work: the channels of all groups."""
        return self.problem.groups * self.problem.channels


def plan_dots(problem: GradientProblem, machine: Machine) -> DotPlan:
    """The plan for a weight gradient of few outputs in a group."""
    axes = problem.axes()
    isa = machine.instruction_set
    box = pixel_box((problem.batch, *(a.cells for a in axes)))
    step = axes[2].in_step if axes[2].in_step <= 4 else 0
    # The strip of one channel is never pixel-major, whatever the layout of the input.
    unit: Unit = "width" if problem.in_unit == "width" else "any"
    recipe = Recipe(problem.dtype, isa.name, unit, "width" if problem.out_unit == "width" else "any", step, 1)
    taps = prod(problem.kernel_size)
    most = max(2, min(12, isa.registers * isa.vector_bytes // DOT_BYTES - 4))
    # Turns of about as many taps each: those beyond the last would be summed for nothing.
    at_once = ceil(taps / ceil(taps / most))
    strip = strip_of(axes, box, 1, pixel_major=False, slack=DOT_BYTES // 4 + 16)
    return DotPlan(problem, recipe, machine, axes, box, strip, at_once)


def dot_scalars(plan: DotPlan) -> tuple[dict[str, int], list[int], int]:
    """The argument block's scalars, the strip offsets of the taps, and the bytes of scratch."""
    p = plan.problem
    item = ACCUMULATOR_BYTES[p.dtype]
    taps = prod(p.kernel_size)
    cells = (p.batch, *(a.cells for a in plan.axes))
    sums = round_up_line(item * (plan.strip.elements + 128))
    scratch = sums + round_up_line(DOT_BYTES * p.outputs * taps)
    size = size_scalars(plan.box, [a.input_size for a in plan.axes], cells[1:])
    scalars = box_scalars(plan.axes, plan.box, plan.strip, p.batch) | size | {
        "scratch_bytes": scratch, "tasks": plan.tasks, "sums_bytes_offset": sums,
        "boxes": prod(ceil(c / b) for c, b in zip(cells, plan.box, strict=True)),
        "channels": p.channels, "outputs": p.outputs, "taps": taps,
    }  # fmt: skip
    return scalars, tap_places(plan.axes, plan.strip), scratch
