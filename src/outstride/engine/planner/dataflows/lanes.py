"""The dataflow of depthwise layers that are contiguous along the channels: vectors hold inputs and weights.

Each output has an input channel of its own, so a term is a product of vectors, lane by lane. Neighbouring
outputs share inputs: a tile loads each of a row once for all taps that read it. It reads the input where it
lies and writes the output. Tasks are bands of rows of some channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, prod

from outstride.engine.planner.blocking import UNCUT, Blocking, boxes_over, ranges_of
from outstride.engine.planner.dataflow import Candidate, ReadingDataflow, Tile
from outstride.engine.planner.machine import Machine
from outstride.engine.planner.problem import Problem
from outstride.engine.planner.strip import Strip
from outstride.engine.planner.tables import round_up_line
from outstride.engine.planner.unrolled import RowTaps

#: Where channels take several tiles, a task reads so much of an input that is larger: what one vector of
#: channels has read of a line, the next finds in the second-level cache.
BAND_BYTES, LEAST_BANDED_BYTES = 256 << 10, 1 << 20
#: Taps of a kernel row, at most, that are written out: their weights lie in registers beside the sums.
MOST_TAPS = 9


class Lanes(ReadingDataflow):
    """Vectors hold neighbouring channels of inputs, and their weights."""

    name = "lanes"
    operands = "inputs and weights in lanes"

    def tiles(self, problem: Problem, machine: Machine) -> tuple[Tile, ...]:
        return (TILES[machine.instruction_set.name],) if problem.depthwise else ()

    def outputs(self, tile: Tile, lanes: int) -> int:
        return tile.vectors * lanes

    def pixels(self, tile: Tile, lanes: int) -> int:
        del lanes
        return tile.rows

    def outputs_together(self, tile: Tile) -> bool:
        del tile
        return True

    def unrolled(self, problem: Problem) -> RowTaps | None:
        """The taps of a kernel row; none where the outputs of a row have several phases, or it is long."""
        taps, step, dilation = (n[2] for n in (problem.kernel_size, problem.stride, problem.dilation))
        if taps > MOST_TAPS or (problem.operator == "conv_transpose" and step > 1):
            return None
        return RowTaps(taps, step, dilation if problem.operator == "conv" else -dilation)

    def estimates(self, candidate: Candidate) -> Iterator[tuple[Blocking, float]]:
        blocking = _bands(candidate)
        yield blocking, _cycles(candidate, blocking)

    def fitted(self, candidate: Candidate, model: Blocking) -> Blocking:
        del model
        return _bands(candidate)

    def pixels_over(self, candidate: Candidate, blocking: Blocking) -> int:
        tile = candidate.tile.rows
        return blocking.rows * ceil(blocking.box[3] / tile) * tile

    def scratch(self, candidate: Candidate, blocking: Blocking, runs: int) -> dict[str, int]:
        """Zeros, which stand for the elements of a pixel beyond the input."""
        del blocking, runs
        absent = (
            "temp_bytes_offset", "line_bytes_offset", "runs_bytes_offset", "region_runs", "tile_runs_offset",
            "chunk_temp", "temp_pitch", "prefetch_bytes_offset",
        )  # fmt: skip
        return dict.fromkeys(absent, 0) | {
            "scratch_bytes": round_up_line(candidate.tile_rows * candidate.item_bytes)
        }


LANES = Lanes()
#: The tile of each instruction set; of channels that fill fewer of its vectors there are narrower ones.
TILES: dict[str, Tile] = {
    "avx512": Tile(LANES, 7, 3),
    "avx2": Tile(LANES, 5, 2),
    "generic": Tile(LANES, 5, 2),
    "neon": Tile(LANES, 7, 3),
}


def _bands(candidate: Candidate) -> Blocking:
    """Whole planes of the channels of a group, or bands of rows where threads would have nothing to do."""
    problem, threads = candidate.problem, candidate.threads
    images, depth, height, width = (max(1, n) for n in candidate.cells)
    # A band for each thread, more where groups are few: a thread has neighbours in the order of tasks.
    enough = max(threads, ceil(4 * threads / problem.groups)) if threads > 1 else 1
    rows = ceil(height / ceil(enough / (images * depth)))
    read = problem.outputs * problem.input_size[2] * candidate.item_bytes
    if problem.outputs > candidate.tile_rows and read * problem.input_size[1] > LEAST_BANDED_BYTES:
        rows = min(rows, max(1, BAND_BYTES // (read * candidate.axes[1].in_step)))
    strip = Strip((1, 1, 1), 1, 1, 1, 1, 1, 0)
    box = (1, 1, rows, width)
    ranges = ranges_of(candidate.axes, box[1:], UNCUT)
    return Blocking(1, box, 1, problem.outputs, 1, strip, nested=False, direct=True, ranges=ranges)


def _cycles(candidate: Candidate, blocking: Blocking) -> float:
    """Cycles of the busiest thread, if its tasks are of full size."""
    problem, tile, costs = candidate.problem, candidate.tile, candidate.machine.costs
    rate = candidate.machine.instruction_set.fma_per_cycle
    vectors = ceil(problem.outputs / candidate.lanes)
    across = blocking.rows * ceil(blocking.box[3] / tile.rows)
    tiles = ceil(vectors / tile.vectors)
    unrolled = LANES.unrolled(problem)
    taps = 1 if unrolled is None else unrolled.taps
    loaded = taps + (tile.rows if unrolled is None else len(unrolled.reads(tile.rows)))
    # Of a row of taps there are so many products, or loads where these are more.
    row = max(tile.rows * taps, loaded) * vectors / rate
    each = sum(g.taps // taps * (row + tiles) + tiles * costs.in_place_tile for g in candidate.groups)
    out = blocking.rows * blocking.box[3] * prod(a.out_step for a in candidate.axes)
    moved = out * problem.outputs * costs.direct_move
    tasks = boxes_over(candidate.cells, blocking.box) * problem.groups
    streamed = problem.bytes / tasks / costs.stream_bytes_per_cycle
    return (across * each + moved + streamed) * ceil(tasks / candidate.threads)
