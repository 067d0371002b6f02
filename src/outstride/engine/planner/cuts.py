"""How a problem is cut where its input is packed: the box of a task, the channels of a pass, the outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import ceil, prod

from outstride.engine.planner.blocking import (
    UNCUT,
    Blocking,
    Cut,
    boxes_over,
    chunk_outputs,
    ranges_of,
    rows_of,
    shared_out,
)
from outstride.engine.planner.dataflow import Candidate, PackingDataflow
from outstride.engine.planner.machine import CHANNEL_BLOCK
from outstride.engine.planner.short_form import box_of_inputs
from outstride.engine.planner.strip import Strip, planes_strip, strip_of

#: The fewest tiles of a box whose width is made to fit them.
LEAST_TILES = 4
#: The fewest rows from which a range of one column is worth a tile.
LEAST_RANGE = 4
#: Outputs of a chunk, about, of short algorithms.
SHORT_CHUNK = 32
#: Cuts of the columns alone.
COLUMNS: Cut = (False, False, True)
#: How often the channels of a pass are halved.
MOST_HALVINGS, MOST_HALVINGS_SHORT = 3, 8
#: Boxes for each thread, so that one may help another in the end.
BOXES_OF_THREAD = 4
#: Groups of one channel that a task packs at once, and the bytes that their strips may take: small maps cost
#: as much to set up as to pack.
GROUPS_TOGETHER = 4
GROUPS_BYTES = 32 << 10
#: Channels whose input is packed as it lies at a time, where it is summed into planes.
CHANNELS_SUMMED = 4
#: So many times the room for a strip may be taken by one together with the results of its box; and by that of
#: one whole map, of which every tap that reads padding is left out, though it leaves the second-level cache.
MORE_ROOM, ROOM_FOR_MAPS = 2, 8


def cuts(candidate: Candidate, flow: PackingDataflow) -> Iterator[Blocking]:
    """The ways worth costing.

    All channels in one pass, or fewer so that a larger box shares the weights; in space whole planes, or
    fewer rows of more planes, so that less of a plane's surroundings is packed again for the next.
    """
    problem, threads = candidate.problem, candidate.threads
    cells = candidate.cells
    task = _Task.of(candidate, flow)
    chunks = ceil(problem.outputs / task.chunk)
    gap = flow.gap(candidate.axes[2])
    least_rows = min(flow.rows_together(candidate.tile), max(1, cells[2]))
    runs = tuple(axis.run for axis in problem.short_axes) if problem.short else (1, 1, 1)
    tried: set[tuple[object, ...]] = set()
    channels, passes = problem.channels, 0
    most_passes = MOST_HALVINGS_SHORT if problem.short else MOST_HALVINGS
    while True:
        found = len(tried)
        for choice in product(_heights(cells), flow.widths(candidate), _sharings(threads, chunks)):
            rows, (columns, cut), sharing = choice
            wish = _Wish(
                cells, task.tile, least_rows, sharing.boxes, problem.groups, sharing.chunks, gap,
                threads, runs, cut,
            )  # fmt: skip
            packed = task.packed(channels)
            box = _box(wish, partial(task.fits, packed, cut), rows, columns)
            if box is None:
                continue
            strip = task.strip(box, packed, cut)
            per_group = boxes_over(cells, box)
            boxes = problem.groups * per_group
            # Every part packs the input again: no more of them than make the tasks, all of one size,
            # unless passes would add to more results than the cache holds.
            parts = 1 if boxes >= sharing.tasks else min(chunks, ceil(sharing.tasks / max(1, boxes)))
            if channels < problem.channels:
                results = prod(box) * task.of_pixel * candidate.item_bytes * chunks
                parts = max(parts, min(chunks, ceil(results / candidate.machine.results_bytes)))
            key = (box, channels, cut, parts)
            if key in tried or (strip.elements > MORE_ROOM * task.room and channels > task.block):
                continue
            if cut == COLUMNS and len(candidate.axes[2].ranges) > 1 and prod(box[:3]) < LEAST_RANGE:
                continue
            tried.add(key)
            together = 1
            if problem.channels == 1 < problem.groups and parts == 1:
                strip_bytes = strip.elements * candidate.item_bytes
                together = _groups_together(strip_bytes, problem.groups, per_group, sharing.tasks)
                strip = task.strip(box, together, cut) if together > 1 else strip
            yield task.blocking(box, strip, channels, ceil(chunks / parts), together, cut)
        passes += len(tried) > found
        if channels <= task.block or passes == most_passes or not flow.resumes:
            return
        channels = ceil(ceil(channels / 2) / task.block) * task.block


@dataclass(frozen=True)
class _Sharing:
    """What threads share: so many tasks, so many of them boxes, and chunks that may be shared besides."""

    tasks: int
    boxes: int
    chunks: int


def _sharings(threads: int, chunks: int) -> Iterator[_Sharing]:
    """Boxes for each thread, several or one, so that cores read what they wrote; or chunks of outputs."""
    if threads == 1:
        yield _Sharing(1, 1, chunks)
        return
    yield _Sharing(BOXES_OF_THREAD * threads, BOXES_OF_THREAD * threads, chunks)
    yield _Sharing(threads, threads, 1)
    if chunks > 1:
        yield _Sharing(threads, 1, chunks)


def fitted(candidate: Candidate, flow: PackingDataflow, model: Blocking) -> Blocking:
    """The blocking of a size a little larger, for this one: boxes that cover an axis there cover it here."""
    task = _Task.of(candidate, flow)
    d, h, w = (min(block, max(1, n)) for block, n in zip(model.box[1:], candidate.cells[1:], strict=True))
    box, channels, together = (model.box[0], d, h, w), model.channels_per_pass, model.groups_per_task
    strip = task.strip(box, together if together > 1 else task.packed(channels), model.cut)
    return task.blocking(box, strip, channels, model.chunks_per_task, together, model.cut)


def _groups_together(strip_bytes: int, groups: int, boxes: int, tasks: int) -> int:
    """Groups of a task, so that `tasks` are left, all of about one size."""
    most = min(GROUPS_TOGETHER, GROUPS_BYTES // max(1, strip_bytes), groups * boxes // tasks)
    return ceil(groups / ceil(groups / most)) if most > 1 else 1


def _heights(cells: tuple[int, ...]) -> Iterator[int]:
    """The most rows of a box: as many as there are, and where planes lie behind planes, ever fewer."""
    rows = max(1, cells[2])
    yield rows
    while cells[1] > 1 and rows > max(2, cells[2] // 4):
        rows = ceil(rows / 2)
        yield rows


@dataclass(frozen=True)
class _Task:
    """What all tasks of a problem have in common, by whatever boxes it is cut."""

    candidate: Candidate
    flow: PackingDataflow
    chunk: int
    #: Pixels of a tile.
    tile: int
    #: Elements that a strip may have without the results, the most pixels, and the results of each.
    room: int
    pixels: int
    of_pixel: int
    slack: int
    #: Channels of which a pass takes whole ones: a sum of one tap may be parted anywhere.
    block: int
    #: What a box reads beyond its cells on each axis, and the planes that a stride deals the input out to.
    reach: tuple[int, ...]
    planes: int

    @classmethod
    def of(cls, candidate: Candidate, flow: PackingDataflow) -> _Task:
        machine, axes, groups, lanes = candidate.machine, candidate.axes, candidate.groups, candidate.lanes
        item, tile, short = candidate.item_bytes, candidate.tile, candidate.problem.short
        chunk = chunk_outputs(groups, candidate.problem.outputs, candidate.tile_rows)
        if short:  # planes are read once for each chunk
            parts = ceil(candidate.problem.outputs / SHORT_CHUNK)
            chunk = min(candidate.problem.outputs, ceil(candidate.problem.outputs / parts / chunk) * chunk)
        of_pixel = sum(rows_of(groups, chunk, candidate.tile_rows))
        strip_bytes = machine.planes_bytes if short else machine.strip_bytes
        room, pixels = strip_bytes // item, machine.results_bytes // (of_pixel * item)
        reach = tuple(a.reach[1] - a.reach[0] for a in axes)
        planes = len(axes[0].residues) * len(axes[1].residues) * axes[2].in_step
        # Vectors of sums are written over the end of a row, of products over all that is written.
        slack = lanes if short else tile.vectors * lanes + 16
        return cls(
            candidate, flow, chunk, tile.pixels(lanes), room, pixels, of_pixel, slack,
            CHANNEL_BLOCK // 2 if short else CHANNEL_BLOCK, reach, planes,
        )  # fmt: skip

    def packed(self, channels: int) -> int:
        """Channels that are packed for a pass of so many."""
        problem = self.candidate.problem
        return problem.packed_channels if problem.depthwise else channels

    def strip(self, box: tuple[int, ...], channels: int, cut: Cut) -> Strip:
        """The strip of a box and so many channels, without padding along axes that are cut."""
        problem, flow = self.candidate.problem, self.flow
        dense = not flow.packs(problem)
        channels = problem.channels if dense else channels  # a pass over some of them steps over all
        if problem.short:
            return planes_strip(self.candidate.axes, box, channels, self.slack)
        axes = tuple(a.unpadded if c else a for a, c in zip(self.candidate.axes, cut, strict=True))
        return strip_of(
            axes, box, channels, pixel_major=flow.pixel_major(problem), slack=self.slack,
            aligned=flow.aligned(problem), dense=dense,
        )  # fmt: skip

    def fits(self, channels: int, cut: Cut, box: tuple[int, ...]) -> bool:
        """Whether a box has few enough pixels, and about as many elements as its `strip` has have room."""
        (images, d, h, w), (reach_d, reach_h, reach_w) = box, self.reach
        room, axes = MORE_ROOM, self.candidate.axes
        if cut != UNCUT:  # where a box has all cells, it reads the input and no more
            reach_d, reach_h, reach_w = (
                min(reach, a.unpadded.reach[1]) if c else reach
                for reach, a, c in zip(self.reach, axes, cut, strict=True)
            )
            if images == 1 and all(c or a.all_inside for a, c in zip(axes, cut, strict=True)):
                room = ROOM_FOR_MAPS
        pixels = images * d * h * w
        plane = images * (d + reach_d) * (h + reach_h) * (w + reach_w)
        elements = (plane + self.slack + 16) * self.planes * channels
        if self.candidate.problem.short:
            return elements <= self.room and elements + pixels * self.of_pixel <= self.room * 14 // 9
        more = elements + pixels * self.of_pixel <= room * self.room
        return pixels <= self.pixels and (elements <= self.room or more)

    def blocking(
        self, box: tuple[int, int, int, int], strip: Strip, channels: int, chunks: int, together: int,
        cut: Cut,
    ) -> Blocking:  # fmt: skip
        """A task of this box and its strip, so many channels a pass, so many chunks of outputs and groups."""
        problem = self.candidate.problem
        plane = (box[2] - 1) * strip.extent[2] + box[3]
        nested = box[0] == 1 and box[1] > 1 and strip.extent[1] * strip.extent[2] > plane + 2 * self.tile
        may_store = self.flow.may_store(problem) and channels == problem.channels
        ranges = ranges_of(self.candidate.axes, box[1:], cut)
        direct = may_store and not any(cut) and self.flow.worth_storing(self.candidate, box, strip)
        raw = self.raw(box, channels) if problem.short and problem.in_unit != "width" else None
        return Blocking(together, box, channels, self.chunk, chunks, strip, nested, direct, ranges, cut, raw)

    def raw(self, box: tuple[int, ...], channels: int) -> Strip:
        """The input of a few channels as it lies, which the strip of a short problem is summed from."""
        few, lanes = min(channels, CHANNELS_SUMMED), self.candidate.lanes
        box = box_of_inputs(self.candidate.problem.short_axes, box)
        # A vector of cells in runs is taken from two.
        return strip_of(self.candidate.input_axes, box, few, pixel_major=False, slack=2 * lanes)


@dataclass(frozen=True)
class _Wish:
    """What a box should be like: cells, a tile's pixels and rows, enough tasks, gap between rows, threads.

    And of how many cells it has whole `runs` along each axis.
    """

    cells: tuple[int, ...]
    tile: int
    least_rows: int
    enough: int
    groups: int
    chunks: int
    gap: int
    threads: int
    runs: tuple[int, ...]
    #: Axes of which a box has all cells.
    whole: Cut


def _box(
    wish: _Wish, fits: Callable[[tuple[int, ...]], bool], most_rows: int, most_columns: int
) -> tuple[int, int, int, int] | None:
    """Whole rows if they fit, then as many rows, planes and images as fit and leave work for every thread.

    None if what must be whole does not fit.
    """
    cells, tile, runs = wish.cells, wish.tile, (1, *wish.runs)
    if any(wish.whole):
        return _whole_box(wish, fits, most_rows)
    width = max(1, min(most_columns, max(4 * tile, 1024)))
    while width > 2 * tile and not fits((1, runs[1], max(runs[2], wish.least_rows), width)):
        width = max(2 * tile, ceil(width / 2 / tile) * tile)
    # Where there is nothing else to share, threads share the columns.
    others = wish.groups * wish.chunks * prod(max(1, c) for c in cells[:3])
    if others * ceil(cells[3] / width) < wish.threads:
        width = min(width, max(tile, ceil(cells[3] * others / wish.threads)))
    width = _columns(cells[3], width, runs[3], tile) if cells[3] else 1
    return _grown([1, runs[1], runs[2], width], wish, fits, most_rows)


def _whole_box(
    wish: _Wish, fits: Callable[[tuple[int, ...]], bool], most_rows: int
) -> tuple[int, int, int, int] | None:
    """All cells of some axes, and as many of the others as fit."""
    axes = wish.cells[1:]
    box = [1, *(max(1, n) if whole else 1 for n, whole in zip(axes, wish.whole, strict=True))]
    if not fits(tuple(box)) or (wish.whole[1] and most_rows < axes[1]):
        return None
    return _grown(box, wish, fits, most_rows)


def _grown(
    box: list[int], wish: _Wish, fits: Callable[[tuple[int, ...]], bool], most_rows: int
) -> tuple[int, int, int, int]:
    """A box of a width with as many rows, planes and images as fit and leave work for every thread."""
    cells, tile, width, runs = wish.cells, wish.tile, box[3], (1, *wish.runs)
    boxes = wish.groups * ceil(max(1, cells[3]) / width)
    for axis in (2, 1, 0):
        if axis and wish.whole[axis - 1]:
            continue
        run, limit = runs[axis], max(1, cells[axis])
        if axis < 2 and box[axis + 1] < (most_rows if axis == 1 else cells[axis + 1]):
            break
        outer = boxes * prod(max(1, c) for c in cells[:axis])
        low, high = 1, max(1, (min(limit, most_rows) if axis == 2 else limit) // run)
        while low < high:
            middle = (low + high + 1) // 2
            trial = [*box]
            trial[axis] = middle * run
            tasks = outer * ceil(limit / trial[axis])
            # Splitting outputs among threads packs the same input twice: only boxes
            # that are small anyway may do it.
            scarce = tasks < wish.enough and (tasks * wish.chunks < wish.enough or prod(trial) >= 4 * tile)
            if scarce or not fits(tuple(trial)):
                high = middle - 1
            else:
                low = middle
        # Ranges of columns fill tiles of their own, so that rows which are left over would be costly.
        uneven = axis == 2 and run == 1 and not any(wish.whole)
        box[axis] = _rows(limit, low, width, wish) if uneven else shared_out(limit, low * run, run)
        boxes *= ceil(limit / box[axis])
    return box[0], box[1], box[2], box[3]


def _columns(cells: int, most: int, run: int, tile: int) -> int:
    """The width of a box, at most `most`; of whole runs that which covers the cells in the fewest tiles.

    Narrow boxes have few tiles for each panel of weights: none should look good for being as wide as one.
    """
    if run == 1 or not LEAST_TILES * tile <= most < cells:
        return shared_out(cells, most, run)

    def total(width: int) -> int:
        return cells // width * ceil(width / tile) + ceil(cells % width / tile)

    even, most = shared_out(cells, most, run), max(run, most // run * run)
    widths: list[int] = [even, *range(most, max(1, most * 2 // 3) - 1, -run)[:64]]
    return min(widths, key=total)


def _rows(limit: int, most: int, width: int, wish: _Wish) -> int:
    """The height of a box, at most `most` and not much less, that covers `limit` rows in the fewest tiles."""
    if most >= limit:
        return limit
    tile, together, gap = wish.tile, wish.least_rows, wish.gap
    across, pitch = -(-width // tile), width + gap

    def tiles(rows: int) -> int:
        if together > 1:
            return -(-rows // together) * across
        return -((gap - rows * pitch) // tile) if rows else 0

    def total(rows: int) -> int:
        return limit // rows * tiles(rows) + tiles(limit % rows)

    even = ceil(limit / ceil(limit / most))
    choices = range(most, max(1, most * 2 // 3) - 1, -1)
    best = min(choices[:64], key=total)
    # Boxes of one size share the work best; uneven ones must be worth it.
    return best if total(best) < 0.985 * total(even) else even
