"""What a task of a weight gradient takes that is summed tap by tap: pixels, channels and outputs at a time.

A task goes through its pixels in the order of the boxes, a part of a box at a time. Of each part it packs the
gradients of its outputs once, and the input of its channels a slab at a time. The more outputs a task has
the less often inputs are packed, the more channels the less often gradients are. Both have to fit into a
cache, which is why parts may be smaller than boxes. A box has parts along its slowest axis alone, and so
they keep the order of its pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil, prod

from outstride.engine.planner.blocking import shared_out
from outstride.engine.planner.dtypes import ACCUMULATOR_BYTES
from outstride.engine.planner.gather_form import GatherAxis
from outstride.engine.planner.gradients.plan import GradientPlan
from outstride.engine.planner.strip import Strip, strip_of
from outstride.engine.planner.tables import placed

#: Where tiles are of one tap each: what a run costs, and a tile, whose sums lie apart, in terms; and so many
#: times as much is worth it, for less is packed.
RUN_TERMS, TILE_TERMS, WORTH_PARTING = 1, 6, 1.02
#: Into how many parts a box may be cut, and the fewest pixels of one: sums are loaded and stored once a part.
PARTS, LEAST_PIXELS = (1, 2, 4, 8), 96
#: Cycles of packing an element: of the input, by what lies side by side there, and of the gradients, which
#: are transposed where pixels do; and what packing a row of the input costs besides.
INPUT_CYCLES = {"width": 1.2, "channel": 0.6, "any": 3.0}
GRADIENT_CYCLES = {"width": 1.8, "channel": 0.3, "any": 3.0}
ROW_CYCLES = 10.0


def direct_shares(plan: GradientPlan, threads: int) -> GradientPlan:
    """The plan with the parts, channels and outputs that are predicted to take the fewest cycles."""
    return min(_candidates(plan), key=lambda each: _cycles(each, threads))


def _candidates(plan: GradientPlan) -> Iterator[GradientPlan]:
    """Every part of a box, with all channels and outputs or about a half of them, a quarter, and so on.

    Panels, and sums that wait for the last box, fit into the second-level cache, however many taps there are.
    """
    channels, rows, taps = plan.problem.channels, plan.tile.rows, prod(plan.problem.kernel_size)
    item, room = ACCUMULATOR_BYTES[plan.problem.dtype], plan.machine.l2_bytes
    for part in dict.fromkeys(_parts(plan.box)):
        some = replace(plan, part=part)
        some = replace(some, by_tap=_worth_parting(plan.axes, _fitting(some), rows))
        fitting = _fitting(some)
        panel_bytes = some.panel_pitch * item
        for of_task in dict.fromkeys(_shared(channels, n, rows) for n in _halvings(channels)):
            slab = _shared(of_task, fitting, rows)
            some = replace(some, channels_per_block=of_task, channels_per_slab=slab, strip=_strip(some, slab))
            for blocks in _halvings(plan.output_blocks):
                sums_bytes = of_task * taps * blocks * plan.width * item if plan.writes else 0
                least = blocks == 1 and (of_task == 1 or not plan.writes)
                if least or blocks * panel_bytes + sums_bytes <= room:
                    yield replace(some, blocks_per_chunk=blocks)


def _parts(box: tuple[int, int, int, int]) -> Iterator[tuple[int, int, int, int]]:
    """A box, and parts of it along its slowest axis."""
    slowest = next((axis for axis, n in enumerate(box) if n > 1), 3)
    for count in PARTS:
        size = ceil(box[slowest] / count)
        part = (*box[:slowest], size, *box[slowest + 1 :])
        if count == 1 or prod(part) >= LEAST_PIXELS:
            yield part[0], part[1], part[2], part[3]


def _halvings(count: int) -> list[int]:
    """All of so many, about half of them, a quarter, and so on."""
    sizes = [count]
    while sizes[-1] > 1:
        sizes.append(ceil(sizes[-1] / 2))
    return sizes


def _shared(channels: int, most: int, rows: int) -> int:
    """Channels of a part of all of them, at most so many: whole tiles, where that is not all."""
    return channels if most >= channels else shared_out(channels, most, min(most, rows))


def _strip(plan: GradientPlan, channels: int) -> Strip:
    """The packed input of so many channels."""
    pixel_major = plan.problem.in_unit == "channel"
    return strip_of(plan.packed_axes, plan.part, channels, pixel_major=pixel_major, slack=plan.width + 16)


def _fitting(plan: GradientPlan) -> int:
    """The channels whose packed input there is room for."""
    channels, item = plan.problem.channels, ACCUMULATOR_BYTES[plan.problem.dtype]
    while channels > 1 and _strip(plan, channels).elements * item > plan.machine.strip_bytes:
        channels = ceil(channels / 2)
    return channels


def _cycles(plan: GradientPlan, threads: int) -> float:
    """What the busiest thread takes."""
    p, tile, costs = plan.problem, plan.tile, plan.machine.costs
    taps, pixels, slab = prod(p.kernel_size), prod(plan.part), plan.channels_per_slab
    cells = (p.batch, *p.cells)
    of_split = prod(ceil(n / part) for n, part in zip(cells, plan.part, strict=True)) / plan.splits
    whole, rest = divmod(plan.channels_per_block, slab)
    slabs = plan.channels_per_block / slab

    def tiles_of(count: int) -> int:
        return taps * ceil(count / tile.rows) if plan.by_tap else ceil(count * taps / tile.rows)

    tiles = whole * tiles_of(slab) + tiles_of(rest)
    products = tile.rows * tile.vectors
    rate = plan.machine.instruction_set.fma_per_cycle
    term = max(products / rate, tile.rows * costs.broadcast + tile.vectors / rate)
    summed = tiles * (pixels * term + costs.output_tile + 3 * products)
    rows = plan.strip.elements / max(1, plan.strip.pixel_pitch * plan.strip.extent[2])
    inputs = plan.strip.elements * INPUT_CYCLES[p.in_unit] + rows * ROW_CYCLES
    gradients = pixels * plan.width * GRADIENT_CYCLES[p.out_unit]
    panel_bytes = plan.panel_pitch * ACCUMULATOR_BYTES[p.dtype]
    blocks, held = plan.blocks_per_chunk, plan.machine.l2_bytes * 3 // 4
    far = blocks * panel_bytes + plan.strip.elements * 4 > held
    again = panel_bytes / costs.memory_bytes_per_cycle * costs.stream_share if far else 0.0
    of_part = slabs * (inputs + blocks * again) + blocks * (summed + gradients)
    return of_part * of_split * ceil(plan.tasks / threads)


def _worth_parting(axes: tuple[GatherAxis, ...], channels: int, rows: int) -> bool:
    """Whether tiles of one tap each sum less, padding left out, than those of any taps, which are fuller."""
    planes, height, width = (_cells_of_taps(a) for a in axes)
    taps, cells = len(planes) * len(height) * len(width), prod(a.cells for a in axes)
    used = sum(planes) * sum(height) * sum(width)
    # A tap that reads every column has one run in a plane, the others have one in each row.
    whole = width.count(axes[2].cells)
    runs = sum(planes) * (whole * len(height) + (len(width) - whole) * sum(height))
    parted = (used + runs * RUN_TERMS + taps * TILE_TERMS) * ceil(channels / rows)
    return parted < WORTH_PARTING * cells * ceil(channels * taps / rows)


def _cells_of_taps(axis: GatherAxis) -> list[int]:
    """Of each tap how many cells read the input through it."""
    ends = (axis.readers(offset) for offset in axis.groups[0].offsets)
    return [max(0, min(axis.cells, last) - max(0, first)) for first, last in ends]


def direct_rooms(plan: GradientPlan, item: int) -> tuple[dict[str, int], int]:
    """Where in its scratch a task keeps what, and how large that is."""
    pixels, rows = prod(plan.part), prod(plan.part[:3])
    sums = plan.sums_pitch * plan.blocks_per_chunk if plan.writes else 0
    sizes = {
        "": item * (plan.strip.elements + plan.width + 64),
        # Squares of pixels by outputs run over the last row's end by less than a vector of pixels.
        "panel_bytes_offset": item
        * (plan.panel_pitch * plan.blocks_per_chunk + plan.lanes * plan.width + 64),
        "sums_bytes_offset": item * sums,
        "terms_bytes_offset": 4 * pixels + 64,
        "runs_bytes_offset": 8 * (1 + 2 * rows),
    }
    offsets, end = placed(sizes)
    return offsets | dict.fromkeys(("line_bytes_offset", "raw_bytes_offset"), 0), end
