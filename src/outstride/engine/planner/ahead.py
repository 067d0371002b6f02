"""How much of the input that is packed next is asked for before each tile of what is packed now."""

from __future__ import annotations

from math import ceil, prod
from typing import NamedTuple

from outstride.engine.planner.axes import Axis
from outstride.engine.planner.blocks import Blocks
from outstride.engine.planner.machine import LINE_BYTES, Machine
from outstride.engine.planner.problem import Problem
from outstride.engine.planner.recipe import STORAGE_BYTES

#: Inputs that are larger than so many second-level caches come from beyond them; others are at hand, and
#: asking costs 2 to 4 % of a layer of few terms.
FAR_CACHES = 2
#: More lines at once than a core can wait for stop it.
MOST_LINES = 32


class Ahead(NamedTuple):
    """Cache lines that a box reads of a channel, its row; lines and rows asked for before a tile."""

    row: int
    lines: int
    rows: int


def lines_ahead(
    problem: Problem, axes: tuple[Axis, ...], blocks: Blocks, tiles: int, machine: Machine
) -> Ahead:  # fmt: skip
    """What a pass of so many tiles asks for: nothing where inputs are near, or a box reads here and there."""
    item = STORAGE_BYTES[problem.dtype]
    size = item * problem.batch * problem.groups * problem.channels * prod(problem.input_size)
    far = size >= FAR_CACHES * machine.l2_bytes
    elements = _together(axes, blocks.box)
    if not (far and elements and tiles) or problem.depthwise or problem.in_unit != "width":
        return Ahead(0, 0, 0)
    row = ceil(elements * item / LINE_BYTES)
    turns = max(round(tiles / blocks.channels_per_pass), ceil(row / MOST_LINES), 1)
    lines = ceil(row / turns)
    rows = round(turns * blocks.channels_per_pass / tiles)
    return Ahead(row, lines, max(1, min(rows, MOST_LINES // lines)))


def _together(axes: tuple[Axis, ...], box: tuple[int, ...]) -> int:
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
