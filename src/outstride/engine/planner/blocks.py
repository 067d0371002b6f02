"""How a problem is cut: the box of cells of a task, the channels of a pass, the outputs of a chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import ceil, gcd, lcm, prod
from typing import NamedTuple

from outstride.engine.planner.axes import Axis, Group
from outstride.engine.planner.machine import CHANNEL_BLOCK, Machine
from outstride.engine.planner.problem import Problem
from outstride.engine.planner.strip import Strip, shared_border, strip_of
from outstride.engine.planner.tiles import Tile


class Stripe(NamedTuple):
    """Columns of a box whose tiles are theirs alone, as those at a border use fewer taps.

    Its first column, how many, the place of its results, and how far apart they lie from image to image,
    plane to plane and row to row.
    """

    first: int
    columns: int
    place: int
    image_pitch: int
    depth_pitch: int
    row_pitch: int


@dataclass(frozen=True)
class Blocks:
    """A task: groups, box (images, depth, height, width), channels of a pass, outputs of a chunk, chunks."""

    groups_per_task: int
    box: tuple[int, int, int, int]
    channels_per_pass: int
    chunk_outputs: int
    chunks_per_task: int
    strip: Strip
    nested: bool
    #: Whether tiles store their results where they belong in the output, row by row.
    direct: bool
    #: The first column and the number of columns of every stripe.
    columns: tuple[tuple[int, int], ...]

    @property
    def pixels(self) -> int:
        """Cells of a full box."""
        return prod(self.box)

    @property
    def rows(self) -> int:
        """Rows of a full box, those of all its planes and images."""
        return prod(self.box[:3])

    def stripe_tiles(self, tile: Tile) -> list[int]:
        """Tiles of pixels by list that cover each stripe of a full box."""
        return [ceil(self.rows * columns / tile.rows) for _, columns in self.columns]

    def stripes(self, tile: Tile) -> list[Stripe]:
        """The stripes with the places of their results; those of pixels by list fill whole tiles."""
        n, d, h, _ = self.box
        if not tile.by_pixel:  # gaps stay where vectors run over them
            s = self.strip
            return [Stripe(0, self.box[3], 0, s.image_pitch, s.extent[1] * s.extent[2], s.extent[2])]
        # Of single planes pixels come row by row, each row of all images, so that tiles of a border row are
        # full of pixels that leave out the same taps; deeper boxes keep neighbouring rows together.
        images, planes, rows = (1, n * h, n) if d == 1 else (d * h, h, 1)
        place, stripes = 0, []
        for (first, columns), tiles in zip(self.columns, self.stripe_tiles(tile), strict=True):
            stripes.append(Stripe(first, columns, place, images * columns, planes * columns, rows * columns))
            place += tiles * tile.rows
        return stripes

    @property
    def extent(self) -> int:
        """The results of a row of the box, the gaps between rows included."""
        n, d, h, w = self.box
        s = self.strip
        return (n - 1) * s.image_pitch + ((d - 1) * s.extent[1] + h - 1) * s.extent[2] + w


def boxes_over(cells: tuple[int, ...], box: tuple[int, ...]) -> int:
    """Boxes that cover the cells."""
    return prod(ceil(c / b) for c, b in zip(cells, box, strict=True))


def chunk_outputs(groups: tuple[Group, ...], outputs: int, tile_rows: int) -> int:
    """Outputs of a chunk: the fewest whose rows fill whole tiles in every phase group."""
    least = 1
    for group in groups:
        least = lcm(least, tile_rows // gcd(tile_rows, group.phases))
    return min(outputs, least)


def rows_of(groups: tuple[Group, ...], outputs: int, tile_rows: int) -> list[int]:
    """Rows of results of each phase group of a chunk, rounded up to whole tiles."""
    return [ceil(outputs * g.phases / tile_rows) * tile_rows for g in groups]


def pixel_tiles(tile: Tile, blocks: Blocks, lanes: int) -> int:
    """Register tiles that cover the pixels of a full box."""
    step = tile.pixels(lanes)
    if tile.by_pixel:
        return sum(blocks.stripe_tiles(tile))
    if tile.dataflow == "rows":
        n, d, h, w = blocks.box
        return n * d * ceil(h / tile.rows) * ceil(w / step)
    if blocks.direct:
        rows, length = blocks.strip.rows_together(blocks.box)
        return rows * ceil(length / step)
    if blocks.nested:
        plane = (blocks.box[2] - 1) * blocks.strip.extent[2] + blocks.box[3]
        return blocks.box[1] * ceil(plane / step)
    return ceil(blocks.extent / step)


def cuts(
    problem: Problem, axes: tuple[Axis, ...], groups: tuple[Group, ...], shape: Tile, machine: Machine,
    lanes: int, threads: int, item_bytes: int,
) -> Iterator[Blocks]:  # fmt: skip
    """The ways worth costing.

    All channels in one pass, or fewer so that a larger box shares the weights; in space whole planes, or
    fewer rows of more planes, so that less of a plane's surroundings is packed again for the next.
    """
    cells = (problem.batch, *(a.cells for a in axes))
    task = _Task.of(problem, axes, groups, shape, machine, lanes, item_bytes)
    chunks = ceil(problem.outputs / task.chunk)
    enough = 4 * threads if threads > 1 else 1
    gap = 0
    if shape.dataflow == "pixels":
        gap = axes[2].reach[1] - axes[2].reach[0] - shared_border(axes[2], cells[3])
    least_rows = min(shape.rows, max(1, cells[2])) if shape.dataflow == "rows" else 1
    tried: set[tuple[object, ...]] = set()
    channels, passes = problem.channels, 0
    while True:
        found = len(tried)
        sharing = (False, True) if threads > 1 and chunks > 1 else (False,)
        for choice in product(_heights(cells), _widths(axes, shape, task.tile), sharing):
            rows, (columns, striped), shared_outputs = choice
            tasks = 1 if shared_outputs else enough
            wish = _Wish(cells, task.tile, least_rows, tasks, problem.groups, chunks, gap, threads)
            packed = task.packed(channels)
            box = _box(wish, partial(task.fits, packed), rows, columns)
            strip = task.strip(box, packed)
            key = (box, channels, striped)
            if key in tried or (strip.elements > MORE_ROOM * task.room and channels > CHANNEL_BLOCK):
                continue
            if striped and (box[3] < cells[3] or prod(box[:3]) < LEAST_STRIPE):
                continue
            tried.add(key)
            per_group = boxes_over(cells, box)
            boxes = problem.groups * per_group
            # Every part packs the input again: no more of them than there are threads, all of one size,
            # unless passes would add to more results than the cache holds.
            needed = threads if shared_outputs else enough
            parts = 1 if boxes >= needed else min(chunks, ceil(needed / max(1, boxes)))
            if channels < problem.channels:
                results = prod(box) * task.of_pixel * item_bytes * chunks
                parts = max(parts, min(chunks, ceil(results / machine.results_bytes)))
            together = 1
            if problem.channels == 1 < problem.groups and parts == 1:
                together = _groups_together(strip.elements * item_bytes, problem.groups, per_group, needed)
                strip = task.strip(box, together) if together > 1 else strip
            yield task.blocks(box, strip, channels, ceil(chunks / parts), together, striped=striped)
        # Tiles of rows write beyond their rows, so they cannot take up sums of an earlier pass again.
        passes += len(tried) > found
        if channels <= CHANNEL_BLOCK or passes == 3 or shape.dataflow == "rows":
            return
        channels = ceil(ceil(channels / 2) / CHANNEL_BLOCK) * CHANNEL_BLOCK


def fitted(
    model: Blocks, problem: Problem, axes: tuple[Axis, ...], groups: tuple[Group, ...], shape: Tile,
    machine: Machine, lanes: int, item_bytes: int,
) -> Blocks:  # fmt: skip
    """The blocks of a size a little larger, for this one: boxes that cover an axis there cover it here."""
    task = _Task.of(problem, axes, groups, shape, machine, lanes, item_bytes)
    d, h, w = (min(block, max(1, a.cells)) for block, a in zip(model.box[1:], axes, strict=True))
    box, channels, together = (model.box[0], d, h, w), model.channels_per_pass, model.groups_per_task
    strip = task.strip(box, together if together > 1 else task.packed(channels))
    return task.blocks(
        box, strip, channels, model.chunks_per_task, together, striped=len(model.columns) > 1
    )  # fmt: skip


def _worth_storing(box: tuple[int, ...], strip: Strip, tile: int) -> bool:
    """Whether tiles should store their results where they belong.

    A box has enough of an output for memory to foresee what is next, and rows lose few lanes to their ends.
    Where results are stored later, tiles run on from row to row and lose lanes to the gaps alone.
    """
    if box[2] * box[3] < LEAST_STORED:
        return False
    rows, length = strip.rows_together(box)
    later = (rows - 1) * max(length, strip.extent[2]) + length
    return rows * ceil(length / tile) <= MORE_TILES * ceil(later / tile)


#: So many times as many tiles are worth it where results need no moving, and so many results of an output
#: are enough. Of 80 each store waited for memory (docs/decisions/0023).
MORE_TILES, LEAST_STORED = 1.05, 512
#: The most stripes of a box, and the fewest rows from which a stripe of one column is worth a tile.
MOST_STRIPES = 9
LEAST_STRIPE = 4
#: Groups of one channel that a task packs at once, and the bytes that their strips may take: small maps cost
#: as much to set up as to pack.
GROUPS_TOGETHER = 4
GROUPS_BYTES = 32 << 10


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


def _widths(axes: tuple[Axis, ...], shape: Tile, tile: int) -> Iterator[tuple[int, bool]]:
    """The most columns of a box, and whether they are cut into stripes.

    All; or two tiles, so that more rows fit and less of their surroundings is packed again; or all, and those
    that use the same taps on their own; or so few that boxes at a wide border leave out the taps beyond it.
    """
    axis, columns = axes[2], max(1, axes[2].cells)
    yield columns, False
    if not shape.by_pixel and columns > 2 * tile and axes[1].reach[1] > axes[1].reach[0] + 1:
        yield 2 * tile, False
    if not shape.by_pixel or len(axis.stripes) < 2:
        return
    if len(axis.stripes) <= MOST_STRIPES:
        yield columns, True
    border = max(length for _, length in (axis.stripes[0], axis.stripes[-1]))
    if shape.rows <= border < columns:
        yield ceil(columns / ceil(columns / border)), False


#: So many times the room for a strip may be taken by one together with the results of its box.
MORE_ROOM = 2


@dataclass(frozen=True)
class _Task:
    """What all tasks of a problem have in common, by whatever boxes it is cut."""

    problem: Problem
    axes: tuple[Axis, ...]
    shape: Tile
    chunk: int
    #: Pixels of a tile.
    tile: int
    #: Elements that a strip may have without the results, the most pixels, and the results of each.
    room: int
    pixels: int
    of_pixel: int
    slack: int
    #: What a box reads beyond its cells on each axis, and the planes that a stride deals the input out to.
    reach: tuple[int, ...]
    planes: int

    @classmethod
    def of(
        cls, problem: Problem, axes: tuple[Axis, ...], groups: tuple[Group, ...], shape: Tile,
        machine: Machine, lanes: int, item_bytes: int,
    ) -> _Task:  # fmt: skip
        chunk = chunk_outputs(groups, problem.outputs, shape.outputs(lanes))
        of_pixel = sum(rows_of(groups, chunk, shape.outputs(lanes)))
        room, pixels = machine.strip_bytes // item_bytes, machine.results_bytes // (of_pixel * item_bytes)
        reach = tuple(a.reach[1] - a.reach[0] for a in axes)
        planes = len(axes[0].residues) * len(axes[1].residues) * axes[2].in_step
        return cls(
            problem, axes, shape, chunk, shape.pixels(lanes), room, pixels, of_pixel,
            shape.vectors * lanes + 16, reach, planes,
        )  # fmt: skip

    def packed(self, channels: int) -> int:
        """Channels that are packed for a pass of so many."""
        return self.problem.packed_channels if self.problem.depthwise else channels

    def strip(self, box: tuple[int, ...], channels: int) -> Strip:
        shape, problem = self.shape, self.problem
        aligned = shape.dataflow == "rows" and problem.channels == 1
        by_pixel = shape.by_pixel and problem.in_unit == "channel"
        return strip_of(self.axes, box, channels, pixel_major=by_pixel, slack=self.slack, aligned=aligned)

    def fits(self, channels: int, box: tuple[int, ...]) -> bool:
        """Whether a box has few enough pixels, and about as many elements as its `strip` has have room."""
        (images, d, h, w), (reach_d, reach_h, reach_w) = box, self.reach
        pixels = images * d * h * w
        plane = images * (d + reach_d) * (h + reach_h) * (w + reach_w)
        elements = (plane + self.slack + 16) * self.planes * channels
        more = elements + pixels * self.of_pixel <= MORE_ROOM * self.room
        return pixels <= self.pixels and (elements <= self.room or more)

    def blocks(
        self, box: tuple[int, int, int, int], strip: Strip, channels: int, chunks: int, together: int, *,
        striped: bool,
    ) -> Blocks:  # fmt: skip
        """A task of this box and its strip, so many channels a pass, so many chunks of outputs and groups."""
        problem, shape = self.problem, self.shape
        plane = (box[2] - 1) * strip.extent[2] + box[3]
        nested = box[0] == 1 and box[1] > 1 and strip.extent[1] * strip.extent[2] > plane + 2 * self.tile
        may_store = shape.dataflow == "pixels" and problem.stores_directly and not problem.past_caches
        direct = may_store and channels == problem.channels and _worth_storing(box, strip, self.tile)
        columns = self.axes[2].stripes if striped else ((0, box[3]),)
        return Blocks(together, box, channels, self.chunk, chunks, strip, nested, direct, columns)


@dataclass(frozen=True)
class _Wish:
    """What a box should be like: cells, a tile's pixels and rows, enough tasks, gap between rows, threads."""

    cells: tuple[int, ...]
    tile: int
    least_rows: int
    enough: int
    groups: int
    chunks: int
    gap: int
    threads: int


def _box(
    wish: _Wish, fits: Callable[[tuple[int, ...]], bool], most_rows: int, most_columns: int
) -> tuple[int, int, int, int]:
    """Whole rows if they fit, then as many rows, planes and images as fit and leave work for every thread."""
    cells, tile = wish.cells, wish.tile
    width = max(1, min(most_columns, max(4 * tile, 1024)))
    while width > 2 * tile and not fits((1, 1, wish.least_rows, width)):
        width = max(2 * tile, ceil(width / 2 / tile) * tile)
    # Where there is nothing else to share, threads share the columns.
    others = wish.groups * wish.chunks * prod(max(1, c) for c in cells[:3])
    if others * ceil(cells[3] / width) < wish.threads:
        width = min(width, max(tile, ceil(cells[3] * others / wish.threads)))
    width = ceil(cells[3] / ceil(cells[3] / width)) if cells[3] else 1
    box = [1, 1, 1, width]
    boxes = wish.groups * ceil(max(1, cells[3]) / width)
    for axis in (2, 1, 0):
        limit = max(1, cells[axis])
        if axis < 2 and box[axis + 1] < (most_rows if axis == 1 else cells[axis + 1]):
            break
        outer = boxes * prod(max(1, c) for c in cells[:axis])
        low, high = 1, min(limit, most_rows) if axis == 2 else limit
        while low < high:
            middle = (low + high + 1) // 2
            trial = [*box]
            trial[axis] = middle
            tasks = outer * ceil(limit / middle)
            # Splitting outputs among threads packs the same input twice: only boxes
            # that are small anyway may do it.
            scarce = tasks < wish.enough and (tasks * wish.chunks < wish.enough or prod(trial) >= 4 * tile)
            if scarce or not fits(tuple(trial)):
                high = middle - 1
            else:
                low = middle
        box[axis] = _rows(limit, low, width, wish) if axis == 2 else ceil(limit / ceil(limit / low))
        boxes *= ceil(limit / box[axis])
    return box[0], box[1], box[2], box[3]


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
