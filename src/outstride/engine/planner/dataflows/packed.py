"""What dataflows have in common whose tiles read a packed strip: how they are cut, costed and given room."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from outstride.engine.planner import cuts
from outstride.engine.planner.blocking import UNCUT, Blocking, Cut
from outstride.engine.planner.cost import kept_terms, task_cycles, tasks_in_turn
from outstride.engine.planner.dataflow import (
    BOX_SKIPS,
    NO_SKIPS,
    ROW_SKIPS,
    Candidate,
    PackingDataflow,
)
from outstride.engine.planner.prefetch import Prefetch, prefetch_of
from outstride.engine.planner.tables import PREFETCH_TABLE_BYTES, round_up_line


class Packed(PackingDataflow):
    """A dataflow whose tiles read a packed strip."""

    def estimates(self, candidate: Candidate) -> Iterator[tuple[Blocking, float]]:
        for blocking in cuts.cuts(candidate, self):
            cycles = task_cycles(candidate, self, blocking)
            yield blocking, cycles * tasks_in_turn(candidate, blocking)

    def fitted(self, candidate: Candidate, model: Blocking) -> Blocking:
        return cuts.fitted(candidate, self, model)

    def pixels_over(self, candidate: Candidate, blocking: Blocking) -> int:
        return candidate.tile_pixels * self.tiles_over(candidate.tile, blocking, candidate.lanes)

    def prefetch(self, candidate: Candidate, blocking: Blocking) -> Prefetch:
        c = candidate
        tiles = sum(c.result_rows(blocking)) // c.tile_rows * blocking.chunks_per_task
        tiles *= self.tiles_over(c.tile, blocking, c.lanes)
        return prefetch_of(c.problem, blocking.packed(c.input_axes), blocking, tiles, c.machine)

    def skips(self, candidate: Candidate, blocking: Blocking) -> int:
        tiles = [1] * len(candidate.groups)
        _, by_tile = kept_terms(candidate, self, blocking, self.term_cycles(candidate, tiles))
        if by_tile:
            return ROW_SKIPS
        return BOX_SKIPS if _box_skips(candidate, blocking) else NO_SKIPS

    def unwritten(self, candidate: Candidate, blocking: Blocking) -> tuple[int, int]:
        c, strip, read = candidate, blocking.strip, self.pixels_over(candidate, blocking)
        if self.lists_pixels or read == blocking.extent:
            return 0, 0
        written = strip.image_pitch * blocking.box[0]
        if not c.problem.short:  # taps lie behind pixels
            return written, ceil((strip.plane_pitch - written) / c.lanes)
        if c.problem.short_axes[2].run == 1:  # the last row's last vector is written whole
            written += -blocking.box[3] % c.lanes
        return written, ceil(max(0, min(read, strip.channel_pitch) - written) / c.lanes)

    def scratch(self, candidate: Candidate, blocking: Blocking, runs: int) -> dict[str, int]:
        """The strip, the results of its chunks, an output row, the runs of taps, the table of prefetches."""
        c, item = candidate, candidate.item_bytes
        rows = sum(c.result_rows(blocking))
        reach = self.reach(c.tile, blocking, c.lanes)
        pitch = (ceil((self.results(c.tile, blocking, c.lanes) + reach) / 16) | 1) * 16
        chunk_temp = rows * pitch if c.passes(blocking) > 1 else 0
        kept = chunk_temp * blocking.chunks_per_task or rows * pitch
        # A tile may read a vector beyond the strip and write one beyond the results: both stay in scratch.
        temp_at = round_up_line(item * (blocking.strip.elements + reach + 64))
        line_at = temp_at + round_up_line(item * kept + 64)
        width = c.axes[2].out_step * (blocking.box[3] + c.lanes)
        if c.problem.short:  # a line for each of the rows of outputs that a row of cells makes
            width *= c.axes[0].out_step * c.axes[1].out_step
        runs_at = line_at + round_up_line(item * (width + 64))
        of_tile = 2 * max(g.taps for g in c.groups) + 1
        found = runs * len(blocking.regions)
        prefetch_at = runs_at + round_up_line(8 * (found + of_tile))
        raw_at = prefetch_at + PREFETCH_TABLE_BYTES
        raw_bytes = item * (blocking.raw.elements + 64) if blocking.raw else 0
        return {
            "temp_bytes_offset": temp_at, "line_bytes_offset": line_at, "runs_bytes_offset": runs_at,
            "region_runs": runs, "tile_runs_offset": found, "prefetch_bytes_offset": prefetch_at,
            "raw_bytes_offset": raw_at, "scratch_bytes": raw_at + round_up_line(raw_bytes),
            "chunk_temp": chunk_temp, "temp_pitch": pitch,
        }  # fmt: skip


#: Columns of the boxes of short algorithms, where there are more: whole vectors on every machine.
NARROW = (64, 32)


def narrow(columns: int) -> Iterator[tuple[int, Cut]]:
    """Fewer columns, so that boxes have more rows and less of their surroundings is read again."""
    for fewer in NARROW:
        if fewer < columns:
            yield fewer, UNCUT


def _box_skips(candidate: Candidate, blocking: Blocking) -> bool:
    """Whether some box, or region of one, has a tap that reads nothing but padding."""
    for axis, block, cut in zip(candidate.axes, blocking.box[1:], blocking.cut, strict=True):
        if cut and not axis.all_inside:
            return True
        if axis.cells == 0:
            continue
        offsets = [o for g in axis.groups for o in g.offsets]
        last_of_first = (min(block, axis.cells) - 1) * axis.in_step
        first_of_last = (ceil(axis.cells / block) - 1) * block * axis.in_step
        if any(last_of_first + o < 0 or first_of_last + o >= axis.input_size for o in offsets):
            return True
    return False
