"""What a task of a weight gradient takes by short algorithms: sums of products fit into a cache."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, prod

from outstride.engine.planner.cuts import CHANNELS_SUMMED
from outstride.engine.planner.dtypes import ACCUMULATOR_BYTES
from outstride.engine.planner.gradients.plan import GradientPlan
from outstride.engine.planner.short_form import axis_of_products, box_of_inputs
from outstride.engine.planner.strip import Strip, planes_strip, strip_of
from outstride.engine.planner.tables import placed

#: The part of the second-level cache that the planes of a slab of channels may take: a few tiles are enough.
SLAB_PART, PIXEL_SLAB_PART = 16, 3
#: Outputs whose panels a task has at once, and the fewest channels that it makes them for.
CHUNK_OUTPUTS, LEAST_CHANNELS = 64, 32
#: Channels whose gradients are written together, from the first-level cache.
WRITTEN_CHANNELS = 16


def short_shares(plan: GradientPlan, threads: int) -> GradientPlan:
    """With sums of the products that fit into the second-level cache, beside what passes through it.

    Planes are made once for the outputs of a task, a few channels at a time, and panels once for its
    channels: the more it has of both, the less is made twice. Sums are read and written once a box.
    """
    problem, rows, room = plan.problem, plan.tile.rows, plan.machine.l2_bytes
    item = ACCUMULATOR_BYTES[problem.dtype]
    axes = tuple(axis_of_products(a, n) for a, n in zip(problem.short_axes, problem.output_size, strict=True))
    of_block = problem.products * plan.width * item
    blocks = min(plan.output_blocks, max(1, CHUNK_OUTPUTS // plan.width))
    channels = problem.channels
    while channels > LEAST_CHANNELS and blocks * of_block * channels > room:
        channels = ceil(ceil(channels / 2) / rows) * rows
    channels = _shared(replace(plan, blocks_per_chunk=blocks), channels, threads)

    # Where channels lie side by side vectors of them are summed, so a slab has several vectors.
    pixel_major = problem.in_unit == "channel"
    most = room // (PIXEL_SLAB_PART if pixel_major else SLAB_PART)

    def strip(count: int) -> Strip:
        return planes_strip(axes, plan.box, count, plan.lanes, pixel_major=pixel_major)

    # Whole tiles, so that no slab has a part of one but the last.
    slab = rows
    while slab < channels and strip(slab + rows).elements * item <= most:
        slab += rows
    slab = min(slab, channels)
    packed = slab if pixel_major else min(slab, CHANNELS_SUMMED)
    box = box_of_inputs(problem.short_axes, plan.box)
    raw = strip_of(plan.axes, box, packed, pixel_major=pixel_major, slack=2 * plan.lanes)
    return replace(
        plan, channels_per_block=channels, strip=strip(slab), channels_per_slab=slab,
        blocks_per_chunk=blocks, raw=raw,
    )  # fmt: skip


def _shared(plan: GradientPlan, channels: int, threads: int) -> int:
    """So many channels of a task, or fewer, so that there are enough tasks for the threads."""
    all_channels = plan.problem.channels
    others = plan.splits * plan.problem.groups * plan.output_chunks
    if threads > 1 and others * ceil(all_channels / channels) < 2 * threads:
        return min(channels, ceil(all_channels / ceil(2 * threads / others)))
    return channels


def short_rooms(plan: GradientPlan, item: int) -> tuple[dict[str, int], int]:
    """Where in its scratch a task keeps what, and how large that is.

    Planes, the input that they are summed from, gradients that panels are made of, panels and sums.
    """
    raw_elements = 0 if plan.raw is None else plan.raw.elements
    pixels = plan.box[3] * prod(axis.out_step for axis in plan.problem.short_axes)
    panels = plan.panel_pitch * plan.problem.products * plan.blocks_per_chunk
    written = WRITTEN_CHANNELS * prod(plan.problem.kernel_size) * plan.width
    sizes = {
        "": item * (plan.strip.elements + 64),
        "raw_bytes_offset": item * (raw_elements + 64),
        # Squares run over the end of the last row.
        "line_bytes_offset": item * ((pixels + plan.lanes) * plan.width + 64),
        # In the end the gradients that are written lie there.
        "panel_bytes_offset": item * max(panels, written),
        "sums_bytes_offset": item * plan.sums_pitch * plan.problem.products * plan.blocks_per_chunk,
        "terms_bytes_offset": 4 * prod(plan.box) + 64,
    }
    offsets, end = placed(sizes)
    return offsets | {"runs_bytes_offset": 0}, end
