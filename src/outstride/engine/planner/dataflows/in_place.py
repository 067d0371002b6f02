"""The dataflow of layers of one channel a group: tiles read the input where it lies and write the output.

There is little to sum and nothing to share between outputs but input rows, so to pack the input would cost as
much as the sums. Tasks are bands of rows of some groups. Tiles are rows of the output by vectors along the
width; their code is unrolled over the taps along the height (`UnrolledTaps`), or over both axes of a layer
that makes several outputs of an input (`UnrolledPhases`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from math import ceil

from outstride.engine.planner.blocking import UNCUT, Blocking, boxes_over, ranges_of
from outstride.engine.planner.dataflow import Candidate, ReadingDataflow, Tile
from outstride.engine.planner.dataflows.rows import FEW_OUTPUTS
from outstride.engine.planner.dtypes import STORAGE_BYTES
from outstride.engine.planner.machine import Machine
from outstride.engine.planner.problem import Problem
from outstride.engine.planner.strip import Strip
from outstride.engine.planner.tables import round_up_line
from outstride.engine.planner.unrolled import Shape, Unrolled, UnrolledPhases, UnrolledTaps

#: Taps along the height that a kernel writes out.
MOST_TAPS = 7
#: Taps along the width that it writes out, if they are next to each other: in maps, in maps whose stride
#: deals each vector out, and where the kernel has one row; in maps of one vector a row more of them.
MOST_ACROSS, MOST_ACROSS_OF_STEPS, MOST_ACROSS_OF_A_ROW = 3, 5, 7
MOST_ACROSS_A_VECTOR = 7
#: Where the kernel has one row and its taps are apart a loaded vector serves one product, and where it steps
#: along the width several are loaded for one: with more taps, or wider steps, a strip that deals the input
#: out once is faster.
MOST_APART_OF_A_ROW = 4
MOST_STEP = 3
#: The widest tile without a vector between its first and its last.
MOST_MASKED = 2
#: Columns of a task: it keeps some bits for each.
MOST_COLUMNS = 4096


class InPlace(ReadingDataflow):
    """Vectors of pixels run along the rows of the input itself, under masks at their ends."""

    name = "in_place"
    of_rows = True

    def tiles(self, problem: Problem, machine: Machine) -> tuple[Tile, ...]:
        return self.tiles_of(unrolled_of(problem)) if _fits(problem, machine) else ()

    def tiles_of(self, unrolled: Unrolled) -> tuple[Tile, ...]:
        """The register tiles of a kernel that is written for these taps."""
        return tuple(Tile(self, *shape) for shape in unrolled.shapes)

    def outputs(self, tile: Tile, lanes: int) -> int:
        del tile, lanes
        return 1

    def pixels(self, tile: Tile, lanes: int) -> int:
        return tile.vectors * lanes

    def unrolled(self, problem: Problem) -> Unrolled:
        return unrolled_of(problem)

    def croppings(self, problem: Problem) -> tuple[bool, ...]:
        """Kernels that make several outputs of an input count them from output 0."""
        return (True,) if _upsamples(problem) else super().croppings(problem)

    def estimates(self, candidate: Candidate) -> Iterator[tuple[Blocking, float]]:
        blocking = bands(candidate)
        widest = max(band_tiles(candidate, blocking), key=lambda shape: shape.vectors)
        if (candidate.tile.rows, candidate.tile.vectors) == widest:  # it stands for all of a box
            yield blocking, _cycles(candidate, blocking)

    def fitted(self, candidate: Candidate, model: Blocking) -> Blocking:
        del model
        return bands(candidate)

    def pixels_over(self, candidate: Candidate, blocking: Blocking) -> int:
        tiles = band_tiles(candidate, blocking).items()
        vectors = sum(n * ceil(blocking.box[2] / t.rows) * t.rows * t.vectors for t, n in tiles)
        return blocking.box[0] * vectors * candidate.lanes

    def widest(self, candidate: Candidate, blocking: Blocking) -> int:
        """Vectors of the widest tile that a box may take.

        The vectors between the first and the last of a tile are read without masks where taps are not written
        out: all of their elements exist unless the last one is almost empty.
        """
        unrolled, axis = unrolled_of(candidate.problem), candidate.axes[2]
        if isinstance(unrolled, UnrolledPhases) or not unrolled.unmasked(axis.in_step):
            return unrolled.widest.vectors
        offsets, lanes, columns = axis.groups[0].offsets, candidate.lanes, blocking.box[3]
        behind = (
            axis.input_size - start - (ceil(min(columns, axis.cells - start) / lanes) - 1) * lanes
            for start in range(0, max(1, axis.cells), columns)
        )
        exist = min(offsets) >= -lanes and min(behind) >= max(offsets)
        return unrolled.widest.vectors if exist else MOST_MASKED

    def scratch(self, candidate: Candidate, blocking: Blocking, runs: int) -> dict[str, int]:
        """Masks, and an output row where planes are single rows."""
        del runs
        problem, unrolled, width = candidate.problem, unrolled_of(candidate.problem), 0
        absent = (
            "temp_bytes_offset", "runs_bytes_offset", "region_runs", "tile_runs_offset",
            "chunk_temp", "temp_pitch", "prefetch_bytes_offset",
        )  # fmt: skip
        masks = unrolled.masks(candidate.axes[2].in_step, problem.kernel_size[2]) * candidate.lanes // 8
        line_at = round_up_line(ceil(blocking.box[3] / candidate.lanes) * masks)
        if unrolled.alone:
            width = round_up_line(blocking.box[3] * STORAGE_BYTES[problem.dtype])
        room = width * candidate.axes[2].out_step
        return dict.fromkeys(absent, 0) | {"line_bytes_offset": line_at, "scratch_bytes": line_at + room}


IN_PLACE = InPlace()


def _fits(problem: Problem, machine: Machine) -> bool:
    """Whether the layer, at any size, is one whose outputs are summed from the input where it lies."""
    along = problem.in_unit == problem.out_unit == "width"
    few = problem.channels == 1 and problem.outputs <= FEW_OUTPUTS and problem.groups > 1
    depth, height, width = problem.kernel_size
    if _upsamples(problem):
        fits = depth == problem.stride[0] == 1 and bool(unrolled_of(problem).shapes)
    else:
        few_in_a_row = width <= MOST_APART_OF_A_ROW or bool(_written_out(problem))
        short = height <= MOST_TAPS if height > 1 else few_in_a_row
        fits = short and problem.stride[2] <= MOST_STEP
    return machine.instruction_set.masks and along and few and fits and not problem.short


def _upsamples(problem: Problem) -> bool:
    """Whether the layer makes several outputs of an input element, in cells of their own."""
    return problem.operator == "conv_transpose" and problem.stride != (1, 1, 1)


@lru_cache(maxsize=256)
def unrolled_of(problem: Problem) -> Unrolled:
    """The taps along the height, and how many along the width read what a stride deals out among them.

    Of layers that make several outputs of an input, the taps along both.
    """
    if _upsamples(problem):
        height, width = (
            (problem.kernel_size[i], problem.stride[i], problem.padding[i], problem.dilation[i])
            for i in (1, 2)
        )
        return UnrolledPhases(*zip(height, width, strict=True))
    across = _written_out(problem)
    narrow = across > _most_across(problem)
    if problem.operator == "conv":
        shared = problem.stride[2] if problem.dilation[2] == 1 else 1
        return UnrolledTaps(
            problem.kernel_size[1], problem.stride[1], problem.dilation[1], shared, across, narrow
        )
    return UnrolledTaps(problem.kernel_size[1], 1, -problem.dilation[1], 1, across, narrow)


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


def bands(candidate: Candidate) -> Blocking:
    """How the work is cut: whole planes of all groups, or less where threads would have nothing to do."""
    problem, threads = candidate.problem, candidate.threads
    images, depth, height, width = (problem.batch, *(max(1, a.cells) for a in candidate.axes))
    enough = 4 * threads if threads > 1 else 1
    columns = ceil(width / ceil(width / MOST_COLUMNS))
    boxes = images * depth * ceil(width / columns)
    parts = min(problem.groups, ceil(enough / boxes))
    groups = ceil(problem.groups / parts)
    rows = ceil(height / ceil(enough / (boxes * ceil(problem.groups / groups))))
    strip = Strip((1, 1, 1), 1, 1, 1, 1, 1, 0)
    box = (1, 1, rows, columns)
    ranges = ranges_of(candidate.axes, box[1:], UNCUT)
    return Blocking(groups, box, 1, 1, problem.outputs, strip, nested=False, direct=False, ranges=ranges)


def band_tiles(candidate: Candidate, blocking: Blocking) -> Mapping[Shape, int]:
    """The tiles that cover the columns of a box, and how many of each."""
    most = IN_PLACE.widest(candidate, blocking)
    return _covering(unrolled_of(candidate.problem), most, ceil(blocking.box[3] / candidate.lanes))


@lru_cache(maxsize=4096)
def _covering(unrolled: Unrolled, most: int, vectors: int) -> Mapping[Shape, int]:
    of_size = {shape.vectors: shape for shape in unrolled.shapes}
    found: Counter[Shape] = Counter()
    left = vectors
    while left:
        size = ceil(left / ceil(left / most))
        found[of_size[size]] += 1
        left -= size
    return found


def _cycles(candidate: Candidate, blocking: Blocking) -> float:
    """Cycles of the busiest thread, if its tasks are of full size."""
    problem, isa, costs = candidate.problem, candidate.machine.instruction_set, candidate.machine.costs
    unrolled, cycles = unrolled_of(problem), 0.0
    for tile, across in band_tiles(candidate, blocking).items():
        products, loads = unrolled.work(tile, problem.kernel_size, candidate.axes[2].in_step)
        count = across * ceil(blocking.box[2] / tile.rows)
        cycles += count * (max(products / isa.fma_per_cycle, loads * costs.masked_load) + costs.in_place_tile)
    channels = blocking.box[0] * blocking.groups_per_task * problem.outputs
    tasks = boxes_over(candidate.cells, blocking.box) * ceil(problem.groups / blocking.groups_per_task)
    streamed = problem.bytes / tasks / costs.stream_bytes_per_cycle
    return (channels * cycles + streamed) * ceil(tasks / candidate.threads)
