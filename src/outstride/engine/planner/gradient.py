"""Plans of the weight gradient: boxes of pixels and splits of the sum, decided by the problem alone.

What fixes the order of summation (boxes, splits) must not depend on the machine, its threads or the layout,
so it comes from constants; what does not (channels of a strip, outputs of a tile) is chosen for the machine.
By short algorithms a box is one of cells, and every product of a cell has a sum of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, prod

from outstride.engine.planner import tables
from outstride.engine.planner.blocking import shared_out
from outstride.engine.planner.cuts import CHANNELS_SUMMED
from outstride.engine.planner.dataflow import Tile
from outstride.engine.planner.dataflows.channels import CHANNELS
from outstride.engine.planner.dtypes import ACCUMULATOR_BYTES, Unit
from outstride.engine.planner.gather_form import GatherAxis, conv_axis, product_groups
from outstride.engine.planner.machine import Machine
from outstride.engine.planner.recipe import Recipe
from outstride.engine.planner.short_form import axis_of_inputs, axis_of_products, box_of_inputs
from outstride.engine.planner.strip import Strip, odd_lines, planes_strip, strip_of
from outstride.engine.planner.tables import box_scalars, round_up_line, size_scalars, strip_scalars
from outstride.layer.shortening import MOST_STEP, ShortAxis, short_axis

#: Pixels of a box: enough that loading and storing the sums is a few percent of making them.
BOX_PIXELS = 1024
#: Products of the cells of a box by short algorithms, and the fewest cells, two maps of 7 by 7: the sums of
#: each product are loaded and stored once a box.
BOX_PRODUCTS, LEAST_CELLS = 2048, 98
#: The part of the second-level cache that the planes of a slab of channels may take: a few tiles are enough.
SLAB_PART, PIXEL_SLAB_PART = 16, 3
#: Outputs whose panels a task has at once, and the fewest channels that it makes them for.
CHUNK_OUTPUTS, LEAST_CHANNELS = 64, 32
#: Channels whose gradients are written together, from the first-level cache.
WRITTEN_CHANNELS = 16
#: Splits exist to feed threads where there are few weights: their partial sums together stay below this.
SPLIT_ELEMENTS = 1 << 18
SPLITS = 16
#: Where tiles are of one tap each: what a run costs, and a tile, whose sums lie apart, in terms; and so many
#: times as much is worth it, for less is packed.
RUN_TERMS, TILE_TERMS, WORTH_PARTING = 1, 6, 1.02


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
    #: Whether it is summed product by product of a short algorithm, and not tap by tap.
    short: bool = False

    def axes(self) -> tuple[GatherAxis, ...]:
        """The convolution's axes: cells are the pixels that are summed over, or by short algorithms cells."""
        if self.short:
            sizes = zip(self.short_axes, self.input_size, self.output_size, strict=True)
            return tuple(axis_of_inputs(axis, u, n) for axis, u, n in sizes)
        return tuple(
            conv_axis(*a)
            for a in zip(
                self.input_size, self.output_size, self.kernel_size, self.stride, self.padding, self.dilation,
                strict=True,
            )
        )  # fmt: skip

    @property
    def short_axes(self) -> tuple[ShortAxis, ...]:
        """The cells of every axis, by short algorithms."""
        numbers = zip(self.kernel_size, self.stride, self.padding, self.dilation, strict=True)
        return tuple(short_axis(False, *n) for n in numbers)

    @property
    def cells(self) -> tuple[int, ...]:
        """Pixels, or cells, that are summed over along each axis."""
        if not self.short:
            return self.output_size
        return tuple(axis.cells(n) for axis, n in zip(self.short_axes, self.output_size, strict=True))

    @property
    def products(self) -> int:
        """Sums that each channel and output have."""
        return prod(len(axis.products) for axis in self.short_axes) if self.short else prod(self.kernel_size)


@dataclass(frozen=True)
class GradientPlan:
    """The recipe, the boxes, the splits, and what a task takes of channels and blocks of outputs."""

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
    #: Channels that are packed at a time, and tiles' widths of outputs that a task has.
    channels_per_slab: int
    blocks_per_chunk: int = 1
    #: The input of a few channels as it lies, which the strip is summed from; None where it is the strip.
    raw: Strip | None = None
    #: Whether tiles are of one tap each, and leave out the pixels for which it reads padding.
    by_tap: bool = False

    @property
    def packed_axes(self) -> tuple[GatherAxis, ...]:
        """The axes as they are packed: where no padding is read, and a box has all cells, without it."""
        axes = zip(self.axes, self.box[1:], strict=True)
        return tuple(a.unpadded if self.by_tap and n == a.cells else a for a, n in axes)

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
    def output_chunks(self) -> int:
        """Tasks that share out the outputs."""
        return ceil(self.output_blocks / self.blocks_per_chunk)

    @property
    def channel_blocks(self) -> int:
        """Tasks that share out the channels."""
        return ceil(self.problem.channels / self.channels_per_block)

    @property
    def tasks(self) -> int:
        """Units of work."""
        return self.problem.groups * self.splits * self.channel_blocks * self.output_chunks

    @property
    def writes(self) -> bool:
        """Whether tasks write the gradient themselves: there is one split, and short sums wait in scratch."""
        return self.problem.short and self.splits == 1

    @property
    def panel_pitch(self) -> int:
        """Elements from the panel of a product to that of the next, an odd number of lines."""
        return odd_lines(prod(self.box) * self.width)

    @property
    def sums_pitch(self) -> int:
        """Elements from the sums of a product to those of the next, likewise."""
        return odd_lines(self.channels_per_block * self.width)


def pixel_box(
    cells: tuple[int, ...], most: int = BOX_PIXELS, runs: tuple[int, ...] = (1, 1, 1)
) -> tuple[int, int, int, int]:
    """About `most` neighbouring pixels or cells: whole rows, then whole planes, then whole images.

    Along the axes whole runs of them.
    """
    box = [1, *runs]
    left = max(1, most // prod(runs))
    for axis in (3, 2, 1, 0):
        run = box[axis]
        box[axis] = shared_out(cells[axis], max(1, left) * run, run)
        left //= box[axis] // run
        if box[axis] < cells[axis]:
            break
    return box[0], box[1], box[2], box[3]


def plan_gradient(problem: GradientProblem, machine: Machine, threads: int) -> GradientPlan:
    """The plan for a weight gradient."""
    axes = problem.axes()
    isa, item = machine.instruction_set, ACCUMULATOR_BYTES[problem.dtype]
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
        problem.channels,
    )  # fmt: skip
    return (_short_shares if problem.short else _shares)(plan, threads, item)


def _tile(problem: GradientProblem, machine: Machine) -> Tile:
    """Channels (and taps) by outputs."""
    isa = machine.instruction_set
    lanes, many = isa.lanes(ACCUMULATOR_BYTES[problem.dtype]), isa.registers == 32
    most = 4 if many else 2
    vectors = ceil(problem.outputs / lanes)
    # As few blocks of outputs as there are, all of one size, where that costs no memory.
    vectors = ceil(vectors / ceil(vectors / most)) if problem.short else min(most, vectors)
    return Tile(CHANNELS, min(8 if many else 6, max(1, (24 if many else 12) // vectors)), vectors)


def _shares(plan: GradientPlan, threads: int, item: int) -> GradientPlan:
    """With as many channels as a strip of the machine's has room for, and fewer where threads need tasks."""
    problem, channels = plan.problem, plan.problem.channels
    pixel_major = problem.in_unit == "channel"

    def strip(count: int) -> Strip:
        return strip_of(plan.packed_axes, plan.box, count, pixel_major=pixel_major, slack=plan.width + 16)

    plan = replace(plan, by_tap=_worth_parting(plan.axes, channels, plan.tile.rows))
    while channels > 1 and strip(channels).elements * item > plan.machine.strip_bytes:
        channels = ceil(channels / 2)
    channels = _shared(plan, channels, threads)
    plan = replace(plan, by_tap=_worth_parting(plan.axes, channels, plan.tile.rows))
    return replace(plan, channels_per_block=channels, strip=strip(channels), channels_per_slab=channels)


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


def _short_shares(plan: GradientPlan, threads: int, item: int) -> GradientPlan:
    """With sums of the products that fit into the second-level cache, beside what passes through it.

    Planes are made once for the outputs of a task, a few channels at a time, and panels once for its
    channels: the more it has of both, the less is made twice. Sums are read and written once a box.
    """
    problem, rows, room = plan.problem, plan.tile.rows, plan.machine.l2_bytes
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


def gradient_scalars(plan: GradientPlan) -> tuple[dict[str, int], list[int], int]:
    """The argument block's scalars, where a pixel's taps or a cell's inputs lie, and the bytes of scratch."""
    p, s, item = plan.problem, plan.strip, ACCUMULATOR_BYTES[plan.problem.dtype]
    rooms, scratch = (_short_rooms if p.short else _rooms)(plan, item)
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
    scalars |= {f"out_size_{axis}": n for axis, n in zip("dhw", p.output_size, strict=True)}
    first = [axis.offsets[0] for axis in p.short_axes] if p.short else [0, 0, 0]
    scalars |= {f"first_input_{axis}": n for axis, n in zip("dhw", first, strict=True)}
    return scalars, tap_places(plan.packed_axes, s if plan.raw is None else plan.raw), scratch


def _rooms(plan: GradientPlan, item: int) -> tuple[dict[str, int], int]:
    """Where in its scratch a task keeps what, and how large that is."""
    panel = round_up_line(item * (plan.strip.elements + plan.width + 64))
    # Squares of pixels by outputs run over the last row's end by less than a vector of pixels.
    terms = panel + round_up_line(item * ((prod(plan.box) + plan.lanes) * plan.width + 64))
    unused = dict.fromkeys(("line_bytes_offset", "sums_bytes_offset", "raw_bytes_offset"), 0)
    runs = terms + round_up_line(4 * prod(plan.box) + 64)
    scratch = runs + round_up_line(8 * (1 + 2 * prod(plan.box[:3])))
    found = {"panel_bytes_offset": panel, "terms_bytes_offset": terms, "runs_bytes_offset": runs}
    return found | unused, scratch


def _short_rooms(plan: GradientPlan, item: int) -> tuple[dict[str, int], int]:
    """The same: planes, the input that they are summed from, gradients that panels are, panels and sums."""
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
    offsets, end = {}, 0
    for name, size in sizes.items():
        offsets[name] = end
        end += round_up_line(size)
    del offsets[""]
    return offsets | {"runs_bytes_offset": 0}, end


def tap_offsets(axes: tuple[GatherAxis, ...]) -> list[int]:
    """The input offsets of a convolution's taps along each axis, tap by tap."""
    (group,) = product_groups([a.groups for a in axes])
    return [offset for offsets in group.offsets for offset in offsets]


def tap_places(axes: tuple[GatherAxis, ...], strip: Strip) -> list[int]:
    """Strip offsets of a convolution's taps."""
    (group,) = product_groups([a.groups for a in axes])
    return [place * strip.pixel_pitch for place in tables.tap_places(axes, group, strip)]
