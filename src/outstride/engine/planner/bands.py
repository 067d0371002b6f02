"""Layers of one channel a group, read in place: tasks are bands of rows of some groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from math import ceil

from outstride.engine.planner.axes import Axis
from outstride.engine.planner.blocks import Blocks, boxes_over
from outstride.engine.planner.machine import InstructionSet, Machine
from outstride.engine.planner.problem import Problem
from outstride.engine.planner.strip import Strip
from outstride.engine.planner.tiles import ROW_TILE_OUTPUTS, Tile
from outstride.engine.planner.windows import Spread, Window

#: Taps along the height that a kernel writes out.
MOST_TAPS = 7
#: Taps along the width that it writes out, if they are next to each other: in maps, in maps whose stride
#: deals each vector out, and where a window has one row; in maps of one vector a row more of them.
MOST_ACROSS, MOST_ACROSS_OF_STEPS, MOST_ACROSS_OF_A_ROW = 3, 5, 7
MOST_ACROSS_A_VECTOR = 7
#: Where a window has one row and its taps are apart a loaded vector serves one product, and where it steps
#: along the width several are loaded for one: with more taps, or wider steps, a strip that deals the input
#: out once is faster.
MOST_APART_OF_A_ROW = 4
MOST_STEP = 3
#: The widest tile without a vector between its first and its last.
MOST_MASKED = 2
#: Columns of a task: it keeps some bits for each.
MOST_COLUMNS = 4096
#: Cycles of a vector's load under its mask, which often crosses two lines of the caches; of a tile's start
#: and end; and the bytes that the caches beyond the first deliver in a cycle beside the sums.
MASKED_LOAD = 2.5
BAND_TILE_CYCLES = 30.0
STREAM_BYTES = 16.0


def in_place(problem: Problem, machine: Machine) -> bool:
    """Whether the layer, at any size, is one whose outputs are summed from the input where it lies."""
    along = problem.in_unit == problem.out_unit == "width"
    few = problem.channels == 1 and problem.outputs <= ROW_TILE_OUTPUTS and problem.groups > 1
    depth, height, width = problem.kernel_size
    if spreads(problem):
        fits = depth == problem.stride[0] == 1 and bool(window_of(problem).tiles)
    else:
        few_in_a_row = width <= MOST_APART_OF_A_ROW or bool(_written_out(problem))
        short = height <= MOST_TAPS if height > 1 else few_in_a_row
        fits = short and problem.stride[2] <= MOST_STEP
    return machine.instruction_set.masks and along and few and fits


def spreads(problem: Problem) -> bool:
    """Whether the layer makes several outputs of an input element, in cells of their own."""
    return problem.operator == "conv_transpose" and problem.stride != (1, 1, 1)


@lru_cache(maxsize=256)
def window_of(problem: Problem) -> Window | Spread:
    """The taps along the height, and how many along the width read what a stride deals out among them.

    Of layers that spread their inputs, the taps along both.
    """
    if spreads(problem):
        height, width = (
            (problem.kernel_size[i], problem.stride[i], problem.padding[i], problem.dilation[i])
            for i in (1, 2)
        )
        return Spread(*zip(height, width, strict=True))
    across = _written_out(problem)
    narrow = across > _most_across(problem)
    if problem.operator == "conv":
        shared = problem.stride[2] if problem.dilation[2] == 1 else 1
        return Window(problem.kernel_size[1], problem.stride[1], problem.dilation[1], shared, across, narrow)
    return Window(problem.kernel_size[1], 1, -problem.dilation[1], 1, across, narrow)


def _written_out(problem: Problem) -> int:
    """How many taps along the width a kernel writes out, at least in its narrowest tiles: all, or none."""
    width = problem.kernel_size[2]
    most = max(_most_across(problem), MOST_ACROSS_A_VECTOR if problem.stride[2] == 1 else 0)
    return width if problem.dilation[2] == 1 and width <= most else 0


def _most_across(problem: Problem) -> int:
    """The most taps along the width that are written out in tiles of any width."""
    if problem.kernel_size[1] == 1:
        return MOST_ACROSS_OF_A_ROW
    return MOST_ACROSS if problem.stride[2] == 1 else MOST_ACROSS_OF_STEPS


def bands(problem: Problem, axes: tuple[Axis, ...], threads: int) -> Blocks:
    """How the work is cut: whole planes of all groups, or less where threads would have nothing to do."""
    images, depth, height, width = (problem.batch, *(max(1, a.cells) for a in axes))
    enough = 4 * threads if threads > 1 else 1
    columns = ceil(width / ceil(width / MOST_COLUMNS))
    boxes = images * depth * ceil(width / columns)
    parts = min(problem.groups, ceil(enough / boxes))
    groups = ceil(problem.groups / parts)
    rows = ceil(height / ceil(enough / (boxes * ceil(problem.groups / groups))))
    strip = Strip((1, 1, 1), 1, 1, 1, 1, 1, 0)
    box, stripes = (1, 1, rows, columns), ((0, columns),)
    return Blocks(groups, box, 1, 1, problem.outputs, strip, nested=False, direct=False, columns=stripes)


def most_vectors(problem: Problem, axes: tuple[Axis, ...], blocks: Blocks, lanes: int) -> int:
    """Vectors of the widest tile that a box may take.

    The vectors between the first and the last of a tile are read without masks where taps are not written
    out: all of their elements exist unless the last one is almost empty.
    """
    window, axis = window_of(problem), axes[2]
    if isinstance(window, Spread) or not window.unmasked(axis.in_step):
        return window.widest.vectors
    offsets = axis.groups[0].offsets
    starts = range(0, max(1, axis.cells), blocks.box[3])
    behind = (
        axis.input_size - start - (ceil(min(blocks.box[3], axis.cells - start) / lanes) - 1) * lanes
        for start in starts
    )
    exist = min(offsets) >= -lanes and min(behind) >= max(offsets)
    return window.widest.vectors if exist else MOST_MASKED


def band_tiles(problem: Problem, axes: tuple[Axis, ...], blocks: Blocks, lanes: int) -> Mapping[Tile, int]:
    """The tiles that cover the columns of a box, and how many of each."""
    most = most_vectors(problem, axes, blocks, lanes)
    return _covering(window_of(problem), most, ceil(blocks.box[3] / lanes))


@lru_cache(maxsize=4096)
def _covering(window: Window | Spread, most: int, vectors: int) -> Mapping[Tile, int]:
    of_size = {tile.vectors: tile for tile in window.tiles}
    found: Counter[Tile] = Counter()
    left = vectors
    while left:
        size = ceil(left / ceil(left / most))
        found[of_size[size]] += 1
        left -= size
    return found


def band_vectors(problem: Problem, axes: tuple[Axis, ...], blocks: Blocks, lanes: int) -> int:
    """Vectors that the tiles of a box compute, those of rows that do not exist included."""
    tiles = band_tiles(problem, axes, blocks, lanes).items()
    return sum(n * ceil(blocks.box[2] / tile.rows) * tile.rows * tile.vectors for tile, n in tiles)


def mask_bytes(problem: Problem, axes: tuple[Axis, ...], blocks: Blocks, lanes: int) -> int:
    """Room for the masks of a box."""
    of_vector = window_of(problem).masks(axes[2].in_step, problem.kernel_size[2]) * lanes // 8
    return ceil(blocks.box[3] / lanes) * of_vector


def band_cycles(
    problem: Problem, axes: tuple[Axis, ...], blocks: Blocks, isa: InstructionSet, lanes: int, threads: int
) -> float:  # fmt: skip
    """Cycles of the busiest thread, if its tasks are of full size."""
    window = window_of(problem)
    cycles = 0.0
    for tile, across in band_tiles(problem, axes, blocks, lanes).items():
        products, loads = window.work(tile, problem.kernel_size, axes[2].in_step)
        count = across * ceil(blocks.box[2] / tile.rows)
        cycles += count * (max(products / isa.fma_per_cycle, loads * MASKED_LOAD) + BAND_TILE_CYCLES)
    channels = blocks.box[0] * blocks.groups_per_task * problem.outputs
    cells = (problem.batch, *(a.cells for a in axes))
    tasks = boxes_over(cells, blocks.box) * ceil(problem.groups / blocks.groups_per_task)
    return (channels * cycles + problem.bytes / tasks / STREAM_BYTES) * ceil(tasks / threads)
