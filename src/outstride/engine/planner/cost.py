"""The cost model of tasks whose input is packed: it ranks plans, and nothing else.

Its constants are those of a machine (`machine.Costs`, each with its derivation); what the terms of a tile
cost is its dataflow's to say.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from math import ceil, prod
from operator import mul

from outstride.engine.planner.blocking import Blocking, boxes_over
from outstride.engine.planner.dataflow import Candidate, PackingDataflow
from outstride.engine.planner.dtypes import STORAGE_BYTES
from outstride.engine.planner.machine import CHANNEL_BLOCK, LINE_BYTES
from outstride.engine.planner.short_form import loads_of_row, vectors_of_row
from outstride.layer.algorithms import Terms

#: Weights of so many bytes come from memory for every box.
FAR_WEIGHTS_BYTES = 16 << 20
#: Results of so many bytes leave the first-level cache, which is half as large, before they are written to
#: the output.
FAR_RESULTS_BYTES = 64 << 10
#: A panel of so many bytes stays in the first-level cache.
PANEL_AT_HAND_BYTES = 24 << 10


def task_cycles(c: Candidate, flow: PackingDataflow, blocking: Blocking) -> float:
    """Cycles of a task of full size."""
    problem, axes, tile, costs = c.problem, c.axes, c.tile, c.machine.costs
    tiles = flow.tiles_over(tile, blocking, c.lanes)
    row_tiles = [r // c.tile_rows for r in c.result_rows(blocking)]
    terms = sum(t * g.taps for t, g in zip(row_tiles, c.groups, strict=True)) * problem.channels
    passes = c.passes(blocking)
    each = flow.term_cycles(c, row_tiles)
    panel = terms * c.tile_rows * c.item_bytes / passes
    if flow.lists_pixels and panel > PANEL_AT_HAND_BYTES:
        each = max(each, c.tile_rows * c.item_bytes / costs.panel_bytes_per_cycle)
    if flow.lists_pixels and panel > c.machine.panel_bytes:
        each = max(each, c.tile_rows * c.item_bytes / costs.memory_bytes_per_cycle)
    around = flow.tile_cycles(costs) + costs.tile_row * tile.rows
    around += flow.result_cycles(tile, costs) * tile.rows * tile.vectors * (1 if passes == 1 else 2)
    around *= costs.short_around if problem.short else 1.0
    share, _ = kept_terms(c, flow, blocking, each)
    micro = tiles * (terms * each * share + sum(row_tiles) * passes * around)
    # Every task streams the weights through once more; what does not fit beside the strip comes from beyond.
    streamed = terms * c.tile_rows * c.item_bytes
    far = FAR_WEIGHTS_BYTES if c.threads == 1 else c.machine.l2_bytes  # several wait for the same lines
    if problem.short and problem.weight_bytes >= far:
        micro += streamed / costs.far_bytes_per_cycle
    elif streamed * c.chunks(blocking) > c.machine.direct_bytes - c.machine.strip_bytes:
        micro += costs.stream_share * streamed / costs.memory_bytes_per_cycle
    if problem.short:
        out = _result_cycles(c, blocking) + _spilled_cycles(c, blocking) + _shared_cycles(c, blocking)
        micro *= ceil(problem.outputs / c.tile_rows) / (row_tiles[0] * c.chunks(blocking))
        return _pack_cycles(c, flow, blocking) + blocking.chunks_per_task * (micro + out)
    written = blocking.pixels * blocking.chunk_outputs * prod(a.out_step for a in axes)
    out = written * _move_cycles(c, flow, blocking) + _shared_cycles(c, blocking)
    if not blocking.direct and written * c.item_bytes > FAR_RESULTS_BYTES:
        out += costs.fill * written * c.item_bytes / LINE_BYTES
    lines = blocking.chunk_outputs * blocking.rows * axes[0].out_step * axes[1].out_step
    out += (len(blocking.ranges[2]) - 1) * lines * costs.range_row * axes[2].out_step
    return _pack_cycles(c, flow, blocking) + blocking.chunks_per_task * (micro + out)


def tasks_in_turn(c: Candidate, blocking: Blocking) -> float:
    """Full tasks that the busiest thread computes one after the other; those at the border are smaller.

    Groups that a task packs together count as tasks of their own.
    """
    cells, groups, threads = c.cells, c.problem.groups, c.threads
    chunks = c.chunks(blocking)
    full = groups * prod(n / b for n, b in zip(cells, blocking.box, strict=True))
    full *= chunks / blocking.chunks_per_task
    tasks = groups * boxes_over(cells, blocking.box) * ceil(chunks / blocking.chunks_per_task)
    whole = groups * prod(n // b for n, b in zip(cells, blocking.box, strict=True))
    whole *= chunks // blocking.chunks_per_task
    return max(full / threads, ceil(whole / threads), ceil(tasks / threads) - (tasks - full))


def _move_cycles(c: Candidate, flow: PackingDataflow, blocking: Blocking) -> float:
    """Cycles in which an element of the results is written."""
    costs, unit = c.machine.costs, c.problem.out_unit
    if blocking.direct:
        return costs.direct_move
    if unit == "any":
        return costs.scalar_move
    if unit == "width":
        return costs.vector_move * (1 if c.axes[2].out_step == 1 else 2)
    if flow.outputs_together(c.tile):
        return costs.vector_move
    # Squares hold as many outputs as a chunk has.
    return costs.transposed_move * c.lanes / min(c.lanes, blocking.chunk_outputs)


def _shared_cycles(c: Candidate, blocking: Blocking) -> float:
    """Cycles in which a chunk's results are written between those of other threads, who read them next.

    Where channels lie side by side, each page is written by all of them.
    """
    if c.problem.out_unit != "channel" or c.threads == 1 or blocking.chunks_per_task >= c.chunks(blocking):
        return 0.0
    written = blocking.pixels * blocking.chunk_outputs * prod(a.out_step for a in c.axes)
    return written * STORAGE_BYTES[c.problem.dtype] / c.machine.costs.shared_bytes_per_cycle


def kept_terms(c: Candidate, flow: PackingDataflow, blocking: Blocking, each: float) -> tuple[float, bool]:
    """The share of the terms' cycles that is left without useless taps, and whether tiles look for theirs.

    A box leaves out what none of its cells can use, a tile what none of its rows can: where that saves more
    than looking costs. `each` are the cycles of a term.
    """
    tile, costs, images = c.tile, c.machine.costs, blocking.box[0]
    look = flow.tiles_look(blocking.box) and not all(blocking.cut[:2])
    pixels = tile.pixels(c.lanes)
    kept = [_kept_ranges(c, blocking, axis) for axis in range(3)]
    regions, shares = blocking.regions, [prod(shares) for shares in product(*kept)]
    weights = [1.0]
    if len(regions) > 1:
        weights = list(map(mul, blocking.listed_tiles(tile.rows), _waits(c, blocking, each)))
        total = sum(blocking.listed_tiles(tile.rows))
        weights = [weight / total for weight in weights]
    for_box = sum(map(mul, weights, shares))
    if not look:
        return for_box, False
    for i, (_, (_, h), (_, w)) in enumerate(regions):
        for axis, cells in ((0, 1), (1, min(h, ceil(pixels / (images * w))))):
            if not blocking.cut[axis] and shares[i]:
                shares[i] *= c.axes[axis].kept(cells) / c.axes[axis].kept(blocking.box[axis + 1])
    for_tile = sum(map(mul, weights, shares))
    cycles = max(g.taps for g in c.groups) * blocking.channels_per_pass * each
    return (for_tile, True) if cycles * (for_box - for_tile) > costs.tile_search else (for_box, False)


def _kept_ranges(c: Candidate, blocking: Blocking, axis: int) -> list[float]:
    """The share of the taps that cells use: of each range of an axis that is cut, of boxes of another."""
    if blocking.cut[axis]:
        return [c.axes[axis].kept_at(first) for first, _ in blocking.ranges[axis]]
    return [c.axes[axis].kept(blocking.box[axis + 1])]


def _waits(c: Candidate, blocking: Blocking, each: float) -> list[float]:
    """Of each region so many times as many cycles a term, for its tiles wait for lines.

    The pixels of a tile in a narrow region lie in as many lines of the cache, which it cannot keep from tap
    to tap if the channels of a block fill it. Where channels lie side by side each line has sixteen of them.
    """
    if len(blocking.regions) == 1 or blocking.strip.pixel_pitch > 1:
        return [1.0] * len(blocking.regions)
    full = min(CHANNEL_BLOCK, blocking.channels_per_pass) / CHANNEL_BLOCK
    line, images, rows = c.machine.costs.line, blocking.box[0], c.tile.rows
    return [
        max(1.0, line * min(images * d * h, ceil(rows / w)) * full / each)
        for (_, d), (_, h), (_, w) in blocking.regions
    ]


def _pack_cycles(c: Candidate, flow: PackingDataflow, blocking: Blocking) -> float:
    """Cycles in which the strip is filled with all channels."""
    if not flow.packs(c.problem):
        return 0.0
    problem, axes, costs = c.problem, blocking.packed(c.input_axes), c.machine.costs
    summed = _transform_cycles(c, blocking) if problem.short else 0.0
    if problem.short and blocking.raw is None:
        return summed + _read_cycles(c, blocking)
    strip, in_step = blocking.raw or blocking.strip, axes[2].in_step
    rows = float(blocking.box[0] * problem.packed_channels)
    for axis, extent in zip(axes[:2], strip.extent, strict=False):
        rows *= sum(extent - sum(axis.unread(r)) for r in axis.residues)
    if problem.in_unit == "width" and in_step <= 4:
        across = ceil(min(strip.extent[2], ceil(axes[2].input_size / in_step)) / c.lanes)
        return rows * (costs.pack_row + costs.pack_vector * in_step * across)
    in_vectors = flow.pixel_major(problem)
    each = costs.vector_move if in_vectors else costs.scalar_move
    return summed + rows * in_step * strip.extent[2] * each


def _spilled_cycles(c: Candidate, blocking: Blocking) -> float:
    """Cycles in which a chunk's results leave and enter a second-level cache that cannot keep them."""
    passes, item = c.passes(blocking), c.item_bytes
    chunk = sum(c.result_rows(blocking)) * blocking.pixels * item
    kept = chunk * (blocking.chunks_per_task if passes > 1 else 1)
    if kept + blocking.strip.elements * item <= c.machine.kept_bytes:
        return 0.0
    return 2 * passes * chunk / c.machine.costs.memory_bytes_per_cycle


def _read_cycles(c: Candidate, blocking: Blocking) -> float:
    """Cycles in which rows of the input come, from beyond the caches too, and are loaded in vectors."""
    axes, costs, problem = c.problem.short_axes, c.machine.costs, c.problem
    rows = prod(len(axis.offsets) for axis in axes[:2])
    each = 2 * rows * len(loads_of_row(axes[2], c.lanes)) - prod(len(axis.offsets) for axis in axes)
    vectors = problem.channels * blocking.rows * vectors_of_row(axes[2], blocking.box[3], c.lanes)
    box = zip(axes, blocking.box[1:], problem.input_size, strict=True)
    read = prod(min(n, a.first_input(b - 1) + a.offsets[-1] - a.offsets[0] + 1) for a, b, n in box)
    item = STORAGE_BYTES[problem.dtype]
    size = problem.batch * problem.groups * problem.channels * prod(problem.input_size) * item
    beyond = size > c.machine.l2_bytes
    waited = blocking.box[0] * problem.channels * read * item / costs.memory_bytes_per_cycle
    rows_of_runs = problem.channels * blocking.rows if axes[2].run > 1 else 0
    around = costs.pack_row * rows_of_runs
    return costs.sum_vector * vectors * each + around + (costs.stream_share * waited if beyond else 0.0)


def _transform_cycles(c: Candidate, blocking: Blocking) -> float:
    """Cycles in which the input of all channels is summed into planes."""
    axes = c.problem.short_axes
    each = _operations(tuple(a.data for a in axes), tuple(len(a.offsets) for a in axes), (2, 1, 0))
    vectors = c.problem.channels * blocking.rows * vectors_of_row(axes[2], blocking.box[3], c.lanes)
    return c.machine.costs.sum_vector * vectors * each


def _result_cycles(c: Candidate, blocking: Blocking) -> float:
    """Cycles in which the products of a chunk are summed and written."""
    axes = c.problem.short_axes
    each = _operations(tuple(a.results for a in axes), tuple(len(a.products) for a in axes), (0, 1, 2))
    rows, costs = blocking.chunk_outputs * blocking.rows, c.machine.costs
    vectors = rows * vectors_of_row(axes[2], blocking.box[3], c.lanes)
    around = costs.pack_row * rows if axes[2].run > 1 else 0.0
    return costs.sum_vector * vectors * each + around


@lru_cache(maxsize=256)
def _operations(rows: tuple[tuple[Terms, ...], ...], sizes: tuple[int, ...], order: tuple[int, ...]) -> int:
    """Loads, additions and stores of a vector that is summed along all axes, one after the other."""
    left = list(sizes)
    count = prod(sizes)
    for axis in order:
        others = prod(n for i, n in enumerate(left) if i != axis)
        count += others * sum(max(0, len(terms) - 1) for terms in rows[axis])
        left[axis] = len(rows[axis])
    return count + prod(left)
