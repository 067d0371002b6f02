"""The cost model: cycles of a task, each number with its derivation. It ranks plans, and nothing else."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, prod

from outstride.engine.planner.axes import Axis, Group
from outstride.engine.planner.blocks import Blocks, pixel_tiles, rows_of
from outstride.engine.planner.machine import CHANNEL_BLOCK, InstructionSet, Machine
from outstride.engine.planner.problem import Problem
from outstride.engine.planner.tiles import Tile

#: Cycles of a load unit for a broadcast: there are two of them, whatever they load. Whole vectors are loaded
#: at the rate of multiply-adds.
BROADCAST = 0.5
#: A vector that crosses a line of 64 bytes is loaded twice, and waits: so many loads more on the average of
#: all addresses. Fitted, like the next, to every tile of 107 layers (docs/decisions/0025).
CROSSING = 1.8
#: Cycles in which a line comes from the second-level cache to the first.
FILL = 1.7
#: Micro-operations that issue in a cycle; a term has 4 beside its loads and multiply-adds
#: (offset, count, two jumps).
ISSUE = 6.0
#: Bytes that memory beyond the second-level cache delivers in a cycle, and the part of
#: that time that is not hidden.
FAR_BYTES_PER_CYCLE = 8.0
STREAM_SHARE = 0.5
#: Call, loop start and end, first loads of a tile, by what its vectors hold; addresses and stores of a row of
#: it; and a vector of its results moved, transposed where pixels lie in vectors of outputs. Fitted to 27
#: layers with each of their tiles (docs/decisions/0012): few terms make the difference.
TILE_CYCLES = {"pixels": 10.0, "outputs": 90.0}
TILE_ROW = 8.0
RESULT_MOVE = 4.0
STRAIGHT_MOVE = 2.0
#: Finding out whether a tile lies at the border: divisions by the pitches of results.
TILE_SEARCH = 100.0
#: Moving an element one at a time: a load, a store and an address each.
SCALAR_MOVE = 1.3
#: Moving it in vectors: a load and a store a vector, row starts included.
VECTOR_MOVE = 0.25
#: Storing it from a tile where it belongs: lines of the output are not at hand.
DIRECT_MOVE = 0.1
#: Moving it through a square that is transposed in registers: log2(lanes) shuffles a vector more.
TRANSPOSED_MOVE = 0.6
#: Fetching a line of 64 bytes from the second-level cache for each term; measured on columns of 8 rows.
LINE_CYCLES = 3.5
#: Writing a row of one more stripe, each phase: a vector or two under masks, or a loop that ends soon.
STRIPE_ROW = 20.0
#: Packing a vector of a row, mask and prefetch included, and what a row costs besides; 34 us were measured
#: for 64 channels of 56 x 56, which these numbers give within a tenth, and 580 us for a strided 3-d layer.
PACK_VECTOR = 5.0
PACK_ROW = 10.0


def term_cycles(
    tile: Tile, isa: InstructionSet, groups: tuple[Group, ...], in_step: int, lanes: int
) -> float:  # fmt: skip
    """Cycles of one term of a register tile: the busiest of multiply-add units, load ports, cache and issue.

    Those that are nearly as busy as each other get in each other's way.
    """
    products = tile.rows * tile.vectors
    along = tile.dataflow == "pixels"
    of_line = isa.vector_bytes / 64
    read = tile.vectors * (1 + CROSSING * of_line if along else 1)
    if tile.dataflow == "lanes":
        read += tile.rows * tile.vectors
    loads = read / isa.fma_per_cycle + BROADCAST * (tile.rows if tile.dataflow != "lanes" else 0)
    fresh = _fresh_share(groups, in_step, lanes) if along else 0.0
    fill = FILL * (tile.vectors * of_line + 1) * fresh
    # Fewer accumulators than latency times rate leave the multiply-add units waiting.
    latency = 4.0
    issue = (products + tile.rows + tile.vectors + 4) / ISSUE
    busy = products / isa.fma_per_cycle
    return max(float((busy**5 + loads**5 + fill**5) ** 0.2), issue, latency)


@lru_cache(maxsize=256)
def _fresh_share(groups: tuple[Group, ...], in_step: int, lanes: int) -> float:
    """The share of the terms whose vectors no tap before them has read: taps of one row share theirs."""
    taps = fresh = 0
    for group in groups:
        depth, height, width = group.axes
        latest: dict[int, int] = {}
        of_row = 0
        for offset in width.offsets:
            place, residue = divmod(offset, in_step)
            of_row += residue not in latest or abs(place - latest[residue]) >= lanes
            latest[residue] = place
        fresh += of_row * len(depth.offsets) * len(height.offsets)
        taps += group.taps
    return fresh / max(taps, 1)


def row_term_cycles(tile: Tile, isa: InstructionSet, taps_h: int) -> float:
    """Cycles of one tap of a tile of rows: an input row is loaded once for all rows that it reaches."""
    total = 0.0
    for t in range(taps_h + tile.rows - 1):
        rows = min(t, tile.rows - 1) - max(0, t - taps_h + 1) + 1
        read = tile.vectors * (1 + CROSSING * isa.vector_bytes / 64)
        loads = read / isa.fma_per_cycle + BROADCAST * rows
        total += max(rows * tile.vectors / isa.fma_per_cycle, loads)
    return total / taps_h


def task_cycles(
    problem: Problem, axes: tuple[Axis, ...], groups: tuple[Group, ...], tile: Tile, blocks: Blocks,
    machine: Machine, lanes: int, item_bytes: int,
) -> float:  # fmt: skip
    """Cycles of a task of full size."""
    isa = machine.instruction_set
    tile_rows = tile.outputs(lanes)
    tiles = pixel_tiles(tile, blocks, lanes)
    rows = rows_of(groups, blocks.chunk_outputs, tile_rows)
    row_tiles = [r // tile_rows for r in rows]
    terms = sum(t * g.taps for t, g in zip(row_tiles, groups, strict=True)) * problem.channels
    passes = ceil(problem.channels / blocks.channels_per_pass)
    if tile.dataflow == "rows":
        sums = zip(row_tiles, groups, strict=True)
        busy = sum(t * g.taps * row_term_cycles(tile, isa, g.extent[1]) for t, g in sums if g.taps)
        each = busy * problem.channels / max(terms, 1)
    else:
        each = term_cycles(tile, isa, groups, axes[2].in_step, lanes)
    panel = terms * tile_rows * item_bytes / passes
    if tile.by_pixel and panel > machine.panel_bytes:
        each = max(each, tile_rows * item_bytes / FAR_BYTES_PER_CYCLE)
    move = STRAIGHT_MOVE if tile.outputs_together else RESULT_MOVE
    around = TILE_CYCLES["outputs" if tile.by_pixel else "pixels"] + TILE_ROW * tile.rows
    around += move * tile.rows * tile.vectors * (1 if passes == 1 else 2)
    share, _ = kept_terms(axes, groups, tile, blocks, lanes, each)
    micro = tiles * (terms * each * share + sum(row_tiles) * passes * around)
    # Every task streams the weights through once more; what does not fit beside the strip comes from far.
    streamed = terms * tile_rows * item_bytes
    if streamed * ceil(problem.outputs / blocks.chunk_outputs) > machine.l2_bytes - machine.strip_bytes:
        micro += STREAM_SHARE * streamed / FAR_BYTES_PER_CYCLE
    pack = _pack_cycles(problem, axes, tile, blocks, lanes)
    written = blocks.pixels * blocks.chunk_outputs * prod(a.out_step for a in axes)
    out = written * _move_cycles(problem, axes, tile, blocks, lanes)
    lines = blocks.chunk_outputs * blocks.rows * axes[0].out_step * axes[1].out_step
    out += (len(blocks.columns) - 1) * lines * STRIPE_ROW * axes[2].out_step
    return pack + blocks.chunks_per_task * (micro + out)


def _move_cycles(
    problem: Problem, axes: tuple[Axis, ...], tile: Tile, blocks: Blocks, lanes: int
) -> float:  # fmt: skip
    """Cycles in which an element of the results is written."""
    if blocks.direct:
        return DIRECT_MOVE
    if problem.out_unit == "any":
        return SCALAR_MOVE
    if problem.out_unit == "width":
        return VECTOR_MOVE * (1 if axes[2].out_step == 1 else 2)
    if tile.outputs_together:
        return VECTOR_MOVE
    # Squares hold as many outputs as a chunk has.
    return TRANSPOSED_MOVE * lanes / min(lanes, blocks.chunk_outputs)


def kept_terms(
    axes: tuple[Axis, ...], groups: tuple[Group, ...], tile: Tile, blocks: Blocks, lanes: int, each: float
) -> tuple[float, bool]:  # fmt: skip
    """The share of the terms' cycles that is left without useless taps, and whether tiles look for theirs.

    A box leaves out what none of its cells can use, a tile what none of its rows can: where that saves more
    than looking costs. `each` are the cycles of a term.
    """
    images, depth, height, _ = blocks.box
    tiles = blocks.stripe_tiles(tile) if len(blocks.columns) > 1 else [1]
    columns = _stripe_shares(axes[2], tile, blocks, each)
    for_box = axes[0].kept(depth) * axes[1].kept(height)
    for_box *= sum(n * kept for n, kept in zip(tiles, columns, strict=True)) / sum(tiles)
    if tile.by_row or not (images == depth == 1 or (tile.by_pixel and 1 in (images, depth))):
        return for_box, False
    rows = (min(height, ceil(tile.pixels(lanes) / (images * width))) for _, width in blocks.columns)
    kept = (n * axes[1].kept(r) * share for n, r, share in zip(tiles, rows, columns, strict=True))
    for_tile = axes[0].kept(1) * sum(kept) / sum(tiles)
    cycles = max(g.taps for g in groups) * blocks.channels_per_pass * each
    return (for_tile, True) if cycles * (for_box - for_tile) > TILE_SEARCH else (for_box, False)


def _stripe_shares(axis: Axis, tile: Tile, blocks: Blocks, each: float) -> list[float]:
    """Of each stripe the share of its terms' cycles that is left, in the taps along the width.

    The pixels of a tile in a narrow stripe lie in as many lines of the cache, which it cannot keep from tap
    to tap if the channels of a block fill it.
    """
    if len(blocks.columns) == 1:
        return [axis.kept(blocks.box[3])]
    rows, channels = blocks.rows, min(CHANNEL_BLOCK, blocks.channels_per_pass)
    lines = (min(rows, ceil(tile.rows / columns)) * channels / CHANNEL_BLOCK for _, columns in blocks.columns)
    return [
        axis.kept_at(first) * max(1.0, LINE_CYCLES * n / each)
        for n, (first, _) in zip(lines, blocks.columns, strict=True)
    ]


def _pack_cycles(
    problem: Problem, axes: tuple[Axis, ...], tile: Tile, blocks: Blocks, lanes: int
) -> float:  # fmt: skip
    """Cycles in which the strip is filled with all channels."""
    strip, in_step = blocks.strip, axes[2].in_step
    rows = float(blocks.box[0] * problem.packed_channels)
    for axis, extent in zip(axes[:2], strip.extent, strict=False):
        rows *= sum(extent - sum(axis.unread(r)) for r in axis.residues)
    if problem.in_unit == "width" and in_step <= 4:
        across = ceil(min(strip.extent[2], ceil(axes[2].input_size / in_step)) / lanes)
        return rows * (PACK_ROW + PACK_VECTOR * in_step * across)
    in_vectors = problem.in_unit == "channel" and tile.by_pixel
    return rows * in_step * strip.extent[2] * (VECTOR_MOVE if in_vectors else SCALAR_MOVE)
