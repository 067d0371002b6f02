"""The cost model of tasks whose input is packed: it ranks plans, and nothing else.

Its constants are those of a machine (`machine.Costs`, each with its derivation); what the terms of a tile
cost is its dataflow's to say.
"""

from __future__ import annotations

from math import ceil, prod

from outstride.engine.planner.blocking import Blocking, boxes_over
from outstride.engine.planner.dataflow import Candidate, PackingDataflow
from outstride.engine.planner.gather_form import GatherAxis
from outstride.engine.planner.machine import CHANNEL_BLOCK


def task_cycles(c: Candidate, flow: PackingDataflow, blocking: Blocking) -> float:
    """Cycles of a task of full size."""
    problem, axes, tile, costs = c.problem, c.axes, c.tile, c.machine.costs
    tiles = flow.tiles_over(tile, blocking, c.lanes)
    row_tiles = [r // c.tile_rows for r in c.result_rows(blocking)]
    terms = sum(t * g.taps for t, g in zip(row_tiles, c.groups, strict=True)) * problem.channels
    passes = c.passes(blocking)
    each = flow.term_cycles(c, row_tiles)
    panel = terms * c.tile_rows * c.item_bytes / passes
    if flow.lists_pixels and panel > c.machine.panel_bytes:
        each = max(each, c.tile_rows * c.item_bytes / costs.memory_bytes_per_cycle)
    around = flow.tile_cycles(costs) + costs.tile_row * tile.rows
    around += flow.result_cycles(tile, costs) * tile.rows * tile.vectors * (1 if passes == 1 else 2)
    share, _ = kept_terms(c, flow, blocking, each)
    micro = tiles * (terms * each * share + sum(row_tiles) * passes * around)
    # Every task streams the weights through once more; what does not fit beside the strip comes from beyond.
    streamed = terms * c.tile_rows * c.item_bytes
    if streamed * c.chunks(blocking) > c.machine.l2_bytes - c.machine.strip_bytes:
        micro += costs.stream_share * streamed / costs.memory_bytes_per_cycle
    written = blocking.pixels * blocking.chunk_outputs * prod(a.out_step for a in axes)
    out = written * _move_cycles(c, flow, blocking)
    lines = blocking.chunk_outputs * blocking.rows * axes[0].out_step * axes[1].out_step
    out += (len(blocking.columns) - 1) * lines * costs.range_row * axes[2].out_step
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


def kept_terms(c: Candidate, flow: PackingDataflow, blocking: Blocking, each: float) -> tuple[float, bool]:
    """The share of the terms' cycles that is left without useless taps, and whether tiles look for theirs.

    A box leaves out what none of its cells can use, a tile what none of its rows can: where that saves more
    than looking costs. `each` are the cycles of a term.
    """
    axes, tile, costs = c.axes, c.tile, c.machine.costs
    images, depth, height, _ = blocking.box
    tiles = blocking.listed_tiles(tile.rows) if len(blocking.columns) > 1 else [1]
    columns = _range_shares(c, blocking, each)
    for_box = axes[0].kept(depth) * axes[1].kept(height)
    for_box *= sum(n * kept for n, kept in zip(tiles, columns, strict=True)) / sum(tiles)
    if not flow.tiles_look(blocking.box):
        return for_box, False
    pixels = tile.pixels(c.lanes)
    rows = (min(height, ceil(pixels / (images * width))) for _, width in blocking.columns)
    kept = (n * axes[1].kept(r) * share for n, r, share in zip(tiles, rows, columns, strict=True))
    for_tile = axes[0].kept(1) * sum(kept) / sum(tiles)
    cycles = max(g.taps for g in c.groups) * blocking.channels_per_pass * each
    return (for_tile, True) if cycles * (for_box - for_tile) > costs.tile_search else (for_box, False)


def _range_shares(c: Candidate, blocking: Blocking, each: float) -> list[float]:
    """Of each range of columns the share of its terms' cycles that is left, in the taps along the width.

    The pixels of a tile in a narrow range lie in as many lines of the cache, which it cannot keep from tap
    to tap if the channels of a block fill it.
    """
    axis: GatherAxis = c.axes[2]
    if len(blocking.columns) == 1:
        return [axis.kept(blocking.box[3])]
    rows, channels = blocking.rows, min(CHANNEL_BLOCK, blocking.channels_per_pass)
    lines = (
        min(rows, ceil(c.tile.rows / columns)) * channels / CHANNEL_BLOCK for _, columns in blocking.columns
    )
    return [
        axis.kept_at(first) * max(1.0, c.machine.costs.line * n / each)
        for n, (first, _) in zip(lines, blocking.columns, strict=True)
    ]


def _pack_cycles(c: Candidate, flow: PackingDataflow, blocking: Blocking) -> float:
    """Cycles in which the strip is filled with all channels."""
    problem, axes, costs = c.problem, c.axes, c.machine.costs
    strip, in_step = blocking.strip, axes[2].in_step
    rows = float(blocking.box[0] * problem.packed_channels)
    for axis, extent in zip(axes[:2], strip.extent, strict=False):
        rows *= sum(extent - sum(axis.unread(r)) for r in axis.residues)
    if problem.in_unit == "width" and in_step <= 4:
        across = ceil(min(strip.extent[2], ceil(axes[2].input_size / in_step)) / c.lanes)
        return rows * (costs.pack_row + costs.pack_vector * in_step * across)
    in_vectors = flow.pixel_major(problem)
    return rows * in_step * strip.extent[2] * (costs.vector_move if in_vectors else costs.scalar_move)
