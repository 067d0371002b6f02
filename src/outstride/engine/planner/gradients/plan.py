"""What a weight gradient is asked for, and its plan: boxes of pixels, splits of the sum, parts of a task."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

from outstride.engine.planner.blocking import shared_out
from outstride.engine.planner.dataflow import Tile
from outstride.engine.planner.dtypes import ACCUMULATOR_BYTES, Unit
from outstride.engine.planner.gather_form import GatherAxis, conv_axis
from outstride.engine.planner.machine import Machine
from outstride.engine.planner.recipe import Recipe
from outstride.engine.planner.short_form import axis_of_inputs
from outstride.engine.planner.strip import Strip, odd_lines
from outstride.layer.shortening import ShortAxis, short_axis

#: Pixels of a box: enough that loading and storing the sums is a few percent of making them.
BOX_PIXELS = 1024


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
    #: The pixels, or cells, of a box that a task packs at a time.
    part: tuple[int, int, int, int]
    blocks_per_chunk: int = 1
    #: The input of a few channels as it lies, which the strip is summed from; None where it is the strip.
    raw: Strip | None = None
    #: Whether tiles are of one tap each, and leave out the pixels for which it reads padding.
    by_tap: bool = False

    @property
    def packed_axes(self) -> tuple[GatherAxis, ...]:
        """The axes as they are packed: where no padding is read, and a part has all cells, without it."""
        axes = zip(self.axes, self.part[1:], strict=True)
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
        """Whether tasks write the gradient themselves: there is one split, and its sums wait in scratch."""
        return self.splits == 1

    @property
    def panel_pitch(self) -> int:
        """Elements from a panel, of a product or a block of outputs, to the next, an odd number of lines."""
        return odd_lines(prod(self.part) * self.width)

    @property
    def sums_pitch(self) -> int:
        """Elements from the sums of a product to those of the next, or of a block of outputs, likewise."""
        taps = 1 if self.problem.short else prod(self.problem.kernel_size)
        return odd_lines(self.channels_per_block * taps * self.width)


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
