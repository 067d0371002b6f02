"""Plans of the weight gradient: boxes of pixels and splits of the sum, decided by the problem alone.

What fixes the order of summation (boxes, splits) must not depend on the machine, its threads or the layout,
so it comes from constants; what does not (channels of a strip, outputs of a tile) is chosen for the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

from outstride.engine.planner import tables
from outstride.engine.planner.dataflow import Tile
from outstride.engine.planner.dataflows.channels import CHANNELS
from outstride.engine.planner.dtypes import ACCUMULATOR_BYTES, Unit
from outstride.engine.planner.gather_form import GatherAxis, conv_axis, product_groups
from outstride.engine.planner.machine import Machine
from outstride.engine.planner.recipe import Recipe
from outstride.engine.planner.strip import Strip, strip_of
from outstride.engine.planner.tables import box_scalars, round_up_line, size_scalars

#: Pixels of a box: enough that loading and storing the sums is a few percent of making them.
BOX_PIXELS = 1024
#: Splits exist to feed threads where there are few weights: their partial sums together stay below this.
SPLIT_ELEMENTS = 1 << 18
SPLITS = 16


@dataclass(frozen=True)
class GradientProblem:
    """x (N, g*C, *u), y (N, g*O, *i) to (g*O, C, *k); every axis tuple has three entries."""

    dtype: str
    batch: int
    groups: int
    channels: int
    outputs: int
    input_size: tuple[int, int, int]
    output_size: tuple[int, int, int]
    kernel_size: tuple[int, int, int]
    stride: tuple[int, int, int]
    padding: tuple[int, int, int]
    dilation: tuple[int, int, int]
    in_unit: Unit
    out_unit: Unit

    def axes(self) -> tuple[GatherAxis, ...]:
        """The convolution's axes: cells are the pixels that are summed over."""
        return tuple(
            conv_axis(*a)
            for a in zip(
                self.input_size, self.output_size, self.kernel_size, self.stride, self.padding, self.dilation,
                strict=True,
            )
        )  # fmt: skip


@dataclass(frozen=True)
class GradientPlan:
    """The recipe, the boxes, the splits, and what a task takes of channels."""

    problem: GradientProblem
    recipe: Recipe
    tile: Tile
    machine: Machine
    axes: tuple[GatherAxis, ...]
    box: tuple[int, int, int, int]
    splits: int
    boxes_per_split: int
    boxes: int
    channels_per_block: int
    strip: Strip

    @property
    def lanes(self) -> int:
        """Elements of a vector of accumulators."""
        return self.machine.instruction_set.lanes(ACCUMULATOR_BYTES[self.problem.dtype])

    @property
    def width(self) -> int:
        """Outputs of a tile."""
        return self.tile.vectors * self.lanes

    @property
    def output_blocks(self) -> int:
        """Tiles that cover the outputs."""
        return ceil(self.problem.outputs / self.width)

    @property
    def tasks(self) -> int:
        """Units of work."""
        p = self.problem
        return p.groups * self.splits * ceil(p.channels / self.channels_per_block) * self.output_blocks


def pixel_box(cells: tuple[int, ...]) -> tuple[int, int, int, int]:
    """About BOX_PIXELS neighbouring pixels: whole rows, then whole planes, then whole images."""
    box = [1, 1, 1, 1]
    left = BOX_PIXELS
    for axis in (3, 2, 1, 0):
        take = max(1, min(cells[axis], left))
        box[axis] = ceil(cells[axis] / ceil(cells[axis] / take))
        left //= box[axis]
        if box[axis] < cells[axis]:
            break
    return box[0], box[1], box[2], box[3]


def plan_gradient(problem: GradientProblem, machine: Machine, threads: int) -> GradientPlan:
    """The plan for a weight gradient."""
    axes = problem.axes()
    isa = machine.instruction_set
    item = ACCUMULATOR_BYTES[problem.dtype]
    lanes = isa.lanes(item)
    cells = (problem.batch, *(a.cells for a in axes))
    box = pixel_box(cells)
    boxes = prod(ceil(c / b) for c, b in zip(cells, box, strict=True))
    weights = problem.groups * problem.channels * problem.outputs * prod(problem.kernel_size)
    splits = max(1, min(SPLITS, boxes, SPLIT_ELEMENTS // max(1, weights)))
    per_split = ceil(boxes / splits)
    splits = ceil(boxes / per_split)
    vectors = min(4 if isa.registers == 32 else 2, ceil(problem.outputs / lanes))
    limit = 24 if isa.registers == 32 else 12
    rows = min(8 if isa.registers == 32 else 6, max(1, limit // vectors))
    tile = Tile(CHANNELS, rows, vectors)
    step = axes[2].in_step if axes[2].in_step <= 4 else 0
    recipe = Recipe(problem.dtype, isa.name, problem.in_unit, problem.out_unit, step, 1)
    pixel_major = problem.in_unit == "channel"
    channels = problem.channels

    def strip(count: int) -> Strip:
        return strip_of(axes, box, count, pixel_major=pixel_major, slack=vectors * lanes + 16)

    while channels > 1 and strip(channels).elements * item > machine.strip_bytes:
        channels = ceil(channels / 2)
    blocks = splits * problem.groups * ceil(problem.outputs / (vectors * lanes))
    if threads > 1 and blocks * ceil(problem.channels / channels) < 2 * threads:
        channels = min(channels, ceil(problem.channels / ceil(2 * threads / blocks)))
    return GradientPlan(
        problem, recipe, tile, machine, axes, box, splits, per_split, boxes, channels, strip(channels)
    )


def gradient_scalars(plan: GradientPlan) -> tuple[dict[str, int], list[int], int]:
    """The argument block's scalars, the strip offsets of the taps, and the bytes of scratch."""
    p, s = plan.problem, plan.strip
    item = ACCUMULATOR_BYTES[p.dtype]
    panel = round_up_line(item * (s.elements + plan.width + 64))
    # Squares of pixels by outputs run over the last row's end by less than a vector of pixels.
    terms = panel + round_up_line(item * ((prod(plan.box) + plan.lanes) * plan.width + 64))
    scratch = terms + round_up_line(4 * prod(plan.box) + 64)
    size = size_scalars(plan.box, [a.input_size for a in plan.axes], [a.cells for a in plan.axes])
    scalars = box_scalars(plan.axes, plan.box, s, p.batch) | size | {
        "scratch_bytes": scratch, "tasks": plan.tasks,
        "panel_bytes_offset": panel, "terms_bytes_offset": terms,
        "output_blocks": plan.output_blocks, "channel_blocks": ceil(p.channels / plan.channels_per_block),
        "splits": plan.splits, "boxes_per_split": plan.boxes_per_split, "boxes": plan.boxes,
        "channels": p.channels, "channels_per_block": plan.channels_per_block, "outputs": p.outputs,
        "taps": prod(p.kernel_size), "groups": p.groups,
    }  # fmt: skip
    return scalars, tap_places(plan.axes, s), scratch


def tap_places(axes: tuple[GatherAxis, ...], strip: Strip) -> list[int]:
    """Strip offsets of a convolution's taps."""
    (group,) = product_groups([a.groups for a in axes])
    return [place * strip.pixel_pitch for place in tables.tap_places(axes, group, strip)]
