"""The dataflow of few rows times a matrix: vectors hold its weights, which are read once, where they lie.

Weights that serve few rows are not worth packing: that reads and writes all of them, and so long as they are
kept packed each call looks whether they are still the same. Here a task is some outputs of all rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, log2

from outstride.engine.planner.blocking import UNCUT, Blocking, ranges_of, shared_out
from outstride.engine.planner.dataflow import Candidate, ReadingDataflow, Tile
from outstride.engine.planner.machine import Machine
from outstride.engine.planner.problem import Problem
from outstride.engine.planner.strip import Strip
from outstride.engine.planner.tables import round_up_line

#: Rows up to which weights are read unpacked, by how often they are written to: as fast as packed ones are,
#: and looking at these, and packing them in each call. Squares are transposed for each tile of rows.
MOST_ROWS = {"never": 1, "seldom": 8, "always": 64}
#: Weights of more bytes come from memory in one stream, in large pages, where they are packed for ever.
MOST_FROZEN_BYTES = 1 << 20
#: Outputs of a task, at most, and channels that are added at a time where outputs lie side by side: weights
#: of so many fill half of the first-level cache, from where all rows read them.
TASK_OUTPUTS, CHANNELS = 512, 8


class Unpacked(ReadingDataflow):
    """Vectors hold the weights of neighbouring outputs, read where they lie, and rows are broadcast."""

    name = "unpacked"
    packs_weights = False
    operands = "weights in lanes as they lie, inputs broadcast"

    def tiles(self, problem: Problem, machine: Machine) -> tuple[Tile, ...]:
        return TILES[machine.instruction_set.name] if problem.unpacked else ()

    def outputs(self, tile: Tile, lanes: int) -> int:
        return tile.vectors * lanes

    def pixels(self, tile: Tile, lanes: int) -> int:
        del lanes
        return tile.rows

    def outputs_together(self, tile: Tile) -> bool:
        del tile
        return True

    def estimates(self, candidate: Candidate) -> Iterator[tuple[Blocking, float]]:
        blocking = _parts(candidate)
        yield blocking, _cycles(candidate, blocking)

    def fitted(self, candidate: Candidate, model: Blocking) -> Blocking:
        del model
        return _parts(candidate)

    def pixels_over(self, candidate: Candidate, blocking: Blocking) -> int:
        rows = candidate.tile.rows
        return ceil(blocking.pixels / rows) * rows

    def scratch(self, candidate: Candidate, blocking: Blocking, runs: int) -> dict[str, int]:
        """Sums of whole tiles."""
        del runs
        absent = (
            "temp_bytes_offset", "line_bytes_offset", "runs_bytes_offset", "region_runs", "tile_runs_offset",
            "chunk_temp", "prefetch_bytes_offset",
        )  # fmt: skip
        pitch = ceil(blocking.chunk_outputs / candidate.tile_rows) * candidate.tile_rows
        sums = pitch * self.pixels_over(candidate, blocking)
        return dict.fromkeys(absent, 0) | {
            "temp_pitch": pitch, "scratch_bytes": round_up_line(sums * candidate.item_bytes)
        }  # fmt: skip


UNPACKED = Unpacked()


def _tiles(*rows: int) -> tuple[Tile, ...]:
    return tuple(Tile(UNPACKED, n, 1) for n in rows)


#: The tiles of each instruction set, of one vector: a square of weights is in registers beside the sums.
TILES: dict[str, tuple[Tile, ...]] = {
    "avx512": _tiles(1, 2, 4, 8),
    "avx2": _tiles(1, 2, 4),
    "generic": _tiles(1, 2, 4, 8),
    "neon": _tiles(1, 2, 4, 8),
}


def _parts(candidate: Candidate) -> Blocking:
    """All rows of some outputs: of as many as there is room for, or fewer, so that threads have tasks."""
    problem, threads = candidate.problem, candidate.threads
    parts = 4 * threads if threads > 1 else 1
    most = min(TASK_OUTPUTS, max(candidate.tile_rows, ceil(problem.outputs / parts)))
    outputs = shared_out(problem.outputs, most, candidate.tile_rows)
    images, depth, height, width = (max(1, n) for n in candidate.cells)
    box = (images, depth, height, width)
    strip = Strip((1, 1, 1), 1, 1, 1, 1, 1, 0)
    ranges = ranges_of(candidate.axes, box[1:], UNCUT)
    return Blocking(1, box, problem.channels, outputs, 1, strip, nested=False, direct=False, ranges=ranges)


def _cycles(candidate: Candidate, blocking: Blocking) -> float:
    """Cycles of the busiest thread: products, shuffles, waiting for sums, or memory, whichever takes most."""
    problem, tile, costs = candidate.problem, candidate.tile, candidate.machine.costs
    rate, lanes = candidate.machine.instruction_set.fma_per_cycle, candidate.lanes
    shuffles = log2(lanes) if problem.unpacked == "channel" else 0.0
    each = max(tile.rows / rate, shuffles, costs.latency)
    tasks = candidate.chunks(blocking)
    weights = problem.channels * ceil(problem.outputs / tasks / candidate.tile_rows) * candidate.tile_rows
    products = each * weights / lanes * ceil(blocking.pixels / tile.rows)
    streamed = weights * candidate.item_bytes / costs.memory_bytes_per_cycle
    return (max(products, streamed) + costs.in_place_tile) * ceil(tasks / candidate.threads)
