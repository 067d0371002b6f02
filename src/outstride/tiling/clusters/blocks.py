"""Blocks: what one task makes of a result, many tiles at once, so that tasks and their graph stay few.

A tile is what is computed at once, and small for the caches' sake. A task costs a scheduler about a
millisecond whatever it does, and reads whole chunks of its source, so it takes about a hundred megabytes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, product
from math import ceil, prod
from typing import Any

from outstride.tiling.box import Box
from outstride.tiling.planning import TilePlan

#: Bytes that a block reads and makes, about Dask's own size of a chunk.
BLOCK_BYTES = 128 * 10**6
#: Blocks of what has no chunks of its own, and tiles in a block, have multiples of this as sizes.
_USUAL_CHUNK, _ALIGNMENT = 256, 16

#: Sizes of stored chunks, between files without number and reading much for little.
_SMALLEST_CHUNK, _LARGEST_CHUNK = 64, 512

Chunks = tuple[tuple[int, ...], ...]
"""Sizes of the chunks along each axis, as Dask says them."""


def block_of(
    plan: TilePlan, chunks: Sequence[int] | None, element_bytes: tuple[int, int], most: int
) -> tuple[int, ...]:
    """Size of a block on the last axes of the result.

    A multiple of the source's chunks, brought to the result's scale, so that few are read by several tasks;
    or a part of one, where one is too large.

    Args:
        plan: the tiles.
        chunks: of the source, on its last axes.
        element_bytes: of the source and of the result.
        most: bytes that a block's source and result may take.
    """
    nd = len(plan.tile)
    sizes = tuple(max(n, 1) for n in plan.output_shape[-nd:])
    sources = tuple(max(n, 1) for n in plan.input_shape[-nd:])
    if len(sources) < nd:  # no axes of the source are those of the result
        sources, chunks = sizes, None
    unit = [
        min(max(round(c * n / m), 1), n)
        for c, n, m in zip(chunks or (_USUAL_CHUNK,) * nd, sizes, sources, strict=True)
    ]
    leading = [prod(shape[_images(shape, nd) : -nd]) for shape in (plan.input_shape, plan.output_shape)]
    scale = prod(m / n for n, m in zip(sizes, sources, strict=True))
    position_bytes = leading[0] * element_bytes[0] * scale + leading[1] * element_bytes[1]

    while prod(unit) * position_bytes > most and max(unit) > _ALIGNMENT:
        axis = unit.index(max(unit))
        unit[axis] = ceil(unit[axis] / 2 / _ALIGNMENT) * _ALIGNMENT
    block = [min(ceil(t / u) * u, n) for t, u, n in zip(plan.tile, unit, sizes, strict=True)]
    while growing := [axis for axis in range(nd) if block[axis] < sizes[axis]]:
        axis = min(growing, key=block.__getitem__)
        larger = min(block[axis] + unit[axis], sizes[axis])
        if prod(block) // block[axis] * larger * position_bytes > most:
            break
        block[axis] = larger
    return tuple(block)


def even(tile: Sequence[int], block: Sequence[int]) -> tuple[int, ...]:
    """The tiles of a block, all of about one size and not larger."""
    found = []
    for t, b in zip(tile, block, strict=True):
        part = ceil(b / ceil(b / t))
        found.append(min(ceil(part / _ALIGNMENT) * _ALIGNMENT, max(t, part)))
    return tuple(found)


def grid(plan: TilePlan) -> Chunks:
    """Where a plan cuts the result: the sizes along each axis."""
    shape, nd = plan.output_shape, len(plan.tile)
    images = _images(shape, nd)
    parts = (*(1 for _ in shape[:images]), *shape[images:-nd], *plan.tile)
    return tuple(
        tuple(min(part, n - a) for a in range(0, n, part)) or (0,)
        for n, part in zip(shape, (max(part, 1) for part in parts), strict=True)
    )


def _images(shape: Sequence[int], nd: int) -> int:
    """Leading axes that are cut one by one, as a plan does: that of images, where there is one."""
    return 1 if len(shape) > nd + 1 else 0


def count(chunks: Chunks) -> int:
    """How many there are."""
    return prod(len(sizes) for sizes in chunks)


def stored(chunks: Chunks, axes: int) -> tuple[int, ...]:
    """Sizes in which a result is stored: parts of its blocks, so that no two of them write one.

    ``axes``: how many of the last ones blocks lie along.
    """
    leading = [max(sizes[0], 1) for sizes in chunks[:-axes]]
    return (*leading, *(_part(sizes[0], len(sizes) > 1) for sizes in chunks[-axes:]))


def _part(block: int, several: bool) -> int:
    """The largest usual size of a chunk, which divides a block if there are several; else a block."""
    if not several:
        return max(min(block, _LARGEST_CHUNK), 1)
    fitting = (n for n in range(min(block, _LARGEST_CHUNK), _SMALLEST_CHUNK - 1, -1) if block % n == 0)
    return next(fitting, block)


def box_at(chunks: Chunks, place: Sequence[int]) -> Box:
    """The box of one chunk."""
    starts = [sum(sizes[:index]) for sizes, index in zip(chunks, place, strict=True)]
    return tuple((a, a + sizes[i]) for a, sizes, i in zip(starts, chunks, place, strict=True))


def places(chunks: Chunks) -> Iterator[tuple[int, ...]]:
    """All of them, the last axis running fastest."""
    return product(*(range(len(sizes)) for sizes in chunks))


def overlapping(chunks: Chunks, box: Box) -> list[tuple[int, ...]]:
    """The chunks that hold any element of a box."""
    found = []
    for sizes, (start, stop) in zip(chunks, box, strict=True):
        ends = list(accumulate(sizes))
        first = bisect_right(ends, start)
        found.append(range(first, bisect_left(ends, stop) + 1) if stop > start else range(0))
    return list(product(*found))


def cut(box: Box, tile: Sequence[int]) -> Iterator[Box]:
    """A box in tiles along its last axes."""
    leading = len(box) - len(tile)
    axes: list[list[Any]] = [[interval] for interval in box[:leading]]
    for (start, stop), size in zip(box[leading:], tile, strict=True):
        axes.append([(a, min(a + size, stop)) for a in range(start, stop, size)] or [(start, stop)])
    yield from product(*axes)
