"""Plans of the weight gradient: boxes of pixels and splits of the sum, decided by the problem alone.

What fixes the order of summation (boxes, splits) must not depend on the machine, its threads or the layout,
so it comes from constants; what does not (channels of a strip, outputs of a tile) is chosen for the machine.
By short algorithms a box is one of cells, and every product of a cell has a sum of its own.
"""

from __future__ import annotations

from math import ceil, prod

from outstride.engine.planner import tables
from outstride.engine.planner.dataflow import Tile
from outstride.engine.planner.dataflows.channels import CHANNELS
from outstride.engine.planner.dtypes import ACCUMULATOR_BYTES
from outstride.engine.planner.gather_form import GatherAxis, product_groups
from outstride.engine.planner.gradients.direct import direct_rooms, direct_shares
from outstride.engine.planner.gradients.plan import BOX_PIXELS, GradientPlan, GradientProblem, pixel_box
from outstride.engine.planner.gradients.short import short_rooms, short_shares
from outstride.engine.planner.machine import Machine
from outstride.engine.planner.recipe import Recipe
from outstride.engine.planner.strip import Strip, strip_of
from outstride.engine.planner.tables import box_scalars, size_scalars, strip_scalars
from outstride.layer.shortening import MOST_STEP

#: Products of the cells of a box by short algorithms, and the fewest cells, two maps of 7 by 7: the sums of
#: each product are loaded and stored once a box.
BOX_PRODUCTS, LEAST_CELLS = 2048, 98
#: Splits exist to feed threads where there are few weights: their partial sums together stay below this.
SPLIT_ELEMENTS = 1 << 18
SPLITS = 16


def plan_gradient(problem: GradientProblem, machine: Machine, threads: int) -> GradientPlan:
    """The plan for a weight gradient."""
    axes = problem.axes()
    isa = machine.instruction_set
    most = max(LEAST_CELLS, BOX_PRODUCTS // problem.products) if problem.short else BOX_PIXELS
    cells = (problem.batch, *problem.cells)
    runs = tuple(axis.run for axis in problem.short_axes) if problem.short else (1, 1, 1)
    box = pixel_box(cells, most, runs)
    boxes = prod(ceil(c / b) for c, b in zip(cells, box, strict=True))
    weights = problem.groups * problem.channels * problem.outputs * prod(problem.kernel_size)
    splits = max(1, min(SPLITS, boxes, SPLIT_ELEMENTS // max(1, weights)))
    per_split = ceil(boxes / splits)
    splits = ceil(boxes / per_split)
    tile = _tile(problem, machine)
    most_step = MOST_STEP if problem.short else 4
    step = axes[2].in_step if axes[2].in_step <= most_step else 0
    recipe = Recipe(
        problem.dtype, isa.name, problem.in_unit, problem.out_unit, step, 1,
        short=problem.short_axes if problem.short else (),
    )  # fmt: skip
    strip = strip_of(axes, box, 1, pixel_major=False, slack=0)
    plan = GradientPlan(
        problem, recipe, tile, machine, axes, box, splits, per_split, boxes, problem.channels, strip,
        problem.channels, box,
    )  # fmt: skip
    return (short_shares if problem.short else direct_shares)(plan, threads)


def _tile(problem: GradientProblem, machine: Machine) -> Tile:
    """Channels (and taps) by outputs."""
    isa = machine.instruction_set
    lanes, many = isa.lanes(ACCUMULATOR_BYTES[problem.dtype]), isa.registers == 32
    most = 4 if many else 2
    vectors = ceil(problem.outputs / lanes)
    # As few blocks of outputs as there are, all of one size, where that costs no memory.
    vectors = ceil(vectors / ceil(vectors / most)) if problem.short else min(most, vectors)
    return Tile(CHANNELS, min(8 if many else 6, max(1, (24 if many else 12) // vectors)), vectors)


def gradient_scalars(plan: GradientPlan) -> tuple[dict[str, int], list[int], int]:
    """The argument block's scalars, where a pixel's taps or a cell's inputs lie, and the bytes of scratch."""
    p, s, item = plan.problem, plan.strip, ACCUMULATOR_BYTES[plan.problem.dtype]
    rooms, scratch = (short_rooms if p.short else direct_rooms)(plan, item)
    size = size_scalars(plan.box, p.input_size, p.cells)
    packed = strip_scalars(plan.axes, s)
    raw = dict.fromkeys(packed, 0) if plan.raw is None else strip_scalars(plan.axes, plan.raw)
    scalars = box_scalars(plan.packed_axes, plan.box, s, p.batch) | size | rooms | {
        "scratch_bytes": scratch, "tasks": plan.tasks,
        "output_blocks": plan.output_blocks, "channel_blocks": plan.channel_blocks,
        "splits": plan.splits, "boxes_per_split": plan.boxes_per_split, "boxes": plan.boxes,
        "channels": p.channels, "channels_per_block": plan.channels_per_block, "outputs": p.outputs,
        "taps": prod(p.kernel_size), "by_tap": int(plan.by_tap),
        "groups": p.groups,
        "output_chunks": plan.output_chunks, "blocks_per_chunk": plan.blocks_per_chunk,
        "channels_per_slab": plan.channels_per_slab,
        "panel_pitch": plan.panel_pitch, "sums_pitch": plan.sums_pitch,
    } | {f"raw_{name}": n for name, n in raw.items()}  # fmt: skip
    scalars |= {f"part_{axis}": n for axis, n in zip("ndhw", plan.part, strict=True)}
    scalars |= {f"out_size_{axis}": n for axis, n in zip("dhw", p.output_size, strict=True)}
    first = [axis.offsets[0] for axis in p.short_axes] if p.short else [0, 0, 0]
    scalars |= {f"first_input_{axis}": n for axis, n in zip("dhw", first, strict=True)}
    return scalars, tap_places(plan.packed_axes, s if plan.raw is None else plan.raw), scratch


def tap_offsets(axes: tuple[GatherAxis, ...]) -> list[int]:
    """The input offsets of a convolution's taps along each axis, tap by tap."""
    (group,) = product_groups([a.groups for a in axes])
    return [offset for offsets in group.offsets for offset in offsets]


def tap_places(axes: tuple[GatherAxis, ...], strip: Strip) -> list[int]:
    """Strip offsets of a convolution's taps."""
    (group,) = product_groups([a.groups for a in axes])
    return [place * strip.pixel_pitch for place in tables.tap_places(axes, group, strip)]
