"""How much of the input that is packed next is prefetched before each tile of what is packed now."""

from __future__ import annotations

from math import ceil, prod
from typing import NamedTuple

from outstride.engine.planner.blocking import Blocking
from outstride.engine.planner.dtypes import STORAGE_BYTES
from outstride.engine.planner.gather_form import GatherAxis
from outstride.engine.planner.machine import LINE_BYTES, Machine
from outstride.engine.planner.problem import Problem
from outstride.engine.planner.short_form import box_of_inputs

#: Inputs that are larger than so many second-level caches come from beyond them; others are at hand, and
#: prefetching costs 2 to 4 % of a layer of few terms.
CACHES_AT_HAND = 2
#: More lines at once than a core can wait for stop it.
MOST_LINES = 32


class Prefetch(NamedTuple):
    """Cache lines that a box reads of a channel, its row; lines and rows prefetched before a tile."""

    row: int
    lines: int
    rows: int


#: Nothing is prefetched.
NO_PREFETCH = Prefetch(0, 0, 0)


def prefetch_of(
    problem: Problem, axes: tuple[GatherAxis, ...], blocking: Blocking, tiles: int, machine: Machine
) -> Prefetch:  # fmt: skip
    """What a pass of so many tiles prefetches: nothing where inputs are near or lie here and there."""
    item = STORAGE_BYTES[problem.dtype]
    size = item * problem.batch * problem.groups * problem.channels * prod(problem.input_size)
    beyond = size >= CACHES_AT_HAND * machine.l2_bytes
    box = box_of_inputs(problem.short_axes, blocking.box) if problem.short else blocking.box
    elements = _together(axes, box)
    if not (beyond and elements and tiles) or problem.depthwise or problem.in_unit != "width":
        return NO_PREFETCH
    row = ceil(elements * item / LINE_BYTES)
    turns = max(round(tiles / blocking.channels_per_pass), ceil(row / MOST_LINES), 1)
    lines = ceil(row / turns)
    rows = round(turns * blocking.channels_per_pass / tiles)
    return Prefetch(row, lines, max(1, min(rows, MOST_LINES // lines)))


def _together(axes: tuple[GatherAxis, ...], box: tuple[int, ...]) -> int:
    """Elements of a channel that a box reads, if they lie together in the input, else 0."""
    read = [
        min((count - 1) * axis.in_step + axis.reach[1] - axis.reach[0] + 1, axis.input_size)
        for axis, count in zip(axes, box[1:], strict=True)
    ]
    outside = box[0]
    for extent, axis in zip(read, axes, strict=True):
        if extent < axis.input_size and outside > 1:
            return 0
        outside *= extent
    return prod(read) if box[0] == 1 else 0
