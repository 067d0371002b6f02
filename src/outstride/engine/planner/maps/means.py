"""In which order torch adds up a map: what its code for reductions does with sizes, layouts and threads.

Torch takes the elements of a map in turn into `fold * width` chains: `width` are the lanes of its vectors,
and `fold` are vectors, or elements, side by side. A chain is a cascade: after so many steps what it has goes
to the level above it, from there to the next after as many of those, up to four of them. Vectors that do not
fill a fold go to the first one, then the folds are added up, then from +0 on what fills no vector and the
lanes, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

#: Elements from which torch wakes more than one thread, levels of a cascade, and how few steps a level has.
GRAIN, LEVELS, _LEAST_POWER = 1 << 15, 4, 4
#: Bytes of neighbouring columns that torch leaves to one thread.
_COLUMN_BYTES = 128


@dataclass(frozen=True)
class SumOrder:
    """How many chains there are: lanes of torch's vectors, and how many of those side by side."""

    fold: int
    width: int

    @property
    def chains(self) -> int:
        """How many elements a step takes."""
        return self.fold * self.width

    def level_steps(self, positions: int) -> int:
        """The steps on a level before the sum goes to the next one."""
        steps = positions // self.chains
        return 1 << max(_LEAST_POWER, (max(steps, 1) - 1).bit_length() // LEVELS)


#: Those of the columns of channels_last maps: one chain for each, and four.
ONE, FOUR = SumOrder(1, 1), SumOrder(4, 1)


def order_of_rows(positions: int, lanes: int) -> SumOrder:
    """That of maps whose elements are neighbours, where torch's vectors have so many lanes."""
    return SumOrder(4, lanes if positions >= lanes else 1)


@dataclass(frozen=True)
class SumColumns:
    """Neighbouring channels that are summed alike: [first, first + count)."""

    first: int
    count: int
    order: SumOrder


def orders_of_columns(
    images: int, channels: int, positions: int, item_bytes: int, lanes: int, threads: int
) -> list[SumColumns]:
    """Those of channels_last maps, on so many threads: four vectors at a time have a chain a channel."""
    bounds = [(0, channels)]
    if images * channels * positions >= GRAIN and threads > 1:
        split_images = images > 1 and (images >= threads or (channels < threads and images >= channels))
        if not split_images:
            bounds = list(_shares(channels, threads, _COLUMN_BYTES // item_bytes))
    found = list[SumColumns]()
    for begin, end in bounds:
        count = end - begin
        many = 4 * lanes if count >= lanes else 4
        single = count // many * many
        parts = ((begin, single, ONE), (begin + single, count - single, FOUR))
        found += [SumColumns(*part) for part in parts if part[1]]
    return found


def _shares(count: int, threads: int, multiple: int) -> Iterator[tuple[int, int]]:
    """The columns of each thread, from a multiple to a multiple."""
    share = -(-count // min(threads, count))
    for begin in range(0, count, share):
        end = min(begin + share, count)
        low, high = begin - begin % multiple, end if end == count else end - end % multiple
        if low < high:
            yield low, high


def pieces(columns: list[SumColumns], most: int) -> list[SumColumns]:
    """The same with at most so many channels each."""
    return [
        SumColumns(first, min(most, each.first + each.count - first), each.order)
        for each in columns
        for first in range(each.first, each.first + each.count, most)
    ]


def depends_on_threads(shape: tuple[int, ...]) -> bool:
    """Whether torch adds up a single map by threads, each a part of it."""
    return prod(shape[:2]) == 1 and prod(shape) >= GRAIN
