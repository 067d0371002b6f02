"""Answers of several parts put together: parts that share parameters, and combinations in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush, merge
from itertools import islice
from math import prod
from typing import TypeVar, overload

from outstride.geometry.solver.choices import Choice, Question
from outstride.geometry.solver.ranking import Key, added, rank_key

Item_co = TypeVar("Item_co", covariant=True)
Row = tuple[Choice, ...]
Ask = tuple[Question, ...]
"""The questions that one axis has to answer with one choice: one, or one for each layer that is the same."""

# The entries of a key that sharing may not worsen: closeness to a scale, idle borders, holes, the centre.
_WORTH_MORE_THAN_SHARING = 4


class Ordered(Sequence[Item_co]):
    """A sequence of known length that is found item by item, and kept."""

    def __init__(self, count: int, items: Iterator[Item_co]) -> None:
        self._count = count
        self._items = items
        self._found: list[Item_co] = []

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Item_co: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item_co]: ...
    def __getitem__(self, index: int | slice) -> Item_co | list[Item_co]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(self._count))]
        number = index + self._count if index < 0 else index
        if not 0 <= number < self._count:
            raise IndexError(f"item {index} of {self._count}")
        self._found.extend(islice(self._items, max(0, number + 1 - len(self._found))))
        return self._found[number]


def combined(asks: Sequence[Ask], asked: dict[Ask, list[Choice]], isotropic: bool | None) -> Ordered[Row]:
    """All answers in order, each one choice per axis.

    A layer rounds one way on all its axes, so the two ways are combined apart and then merged.
    """
    ways = []
    for rounds_up in (False, True):
        of_one_way = {ask: [c for c in found if c.ceil_mode == rounds_up] for ask, found in asked.items()}
        ways.append(_of_one_way(asks, of_one_way, isotropic))
    count = sum(number for number, _ in ways)
    return Ordered(count, merge(*(rows for _, rows in ways), key=lambda row: row_key(asks, row)))


def row_key(asks: Sequence[Ask], row: Sequence[Choice]) -> Key:
    """What answers are ranked by: the sum over the layers that are the same."""
    layers = zip(*asks, strict=True)
    return added(rank_key(list(zip(questions, row, strict=True))) for questions in layers)


def _of_one_way(
    asks: Sequence[Ask], asked: dict[Ask, list[Choice]], isotropic: bool | None
) -> tuple[int, Iterator[Row]]:
    groups = _groups(asks, asked, isotropic)
    owner = {axis: number for number, (axes, _) in enumerate(groups) for axis in axes}

    def spread(row: Row) -> Row:
        return tuple(row[owner[axis]] for axis in range(len(asks)))

    lists = [_sorted([asks[axis] for axis in axes], shared) for axes, shared in groups]
    ordered = best_first(lists, lambda row: row_key(asks, spread(row)))
    return prod(map(len, lists)), map(spread, ordered)


def _groups(
    asks: Sequence[Ask], asked: dict[Ask, list[Choice]], isotropic: bool | None
) -> list[tuple[tuple[int, ...], list[Choice]]]:
    """Axes that share their parameters, and the choices that serve them all."""
    everything = tuple(range(len(asks)))
    if isotropic is False:
        return [((axis,), asked[asks[axis]]) for axis in everything]
    shared = in_all(list(asked.values()))
    if isotropic or len(asked) == 1 or sharing_is_free(shared, asks, asked):
        return [(everything, shared)]
    return [(tuple(axis for axis in everything if asks[axis] == ask), found) for ask, found in asked.items()]


def in_all(lists: Sequence[list[Choice]]) -> list[Choice]:
    """The choices that stand in every list."""
    others = [set(found) for found in lists[1:]]
    return [choice for choice in lists[0] if all(choice in found for found in others)]


def sharing_is_free(shared: list[Choice], asks: Sequence[Ask], asked: dict[Ask, list[Choice]]) -> bool:
    """Whether one choice for all axes is as good in what matters more than being the same everywhere."""
    if not shared or not all(asked.values()):
        return False
    together = row_key(asks, [_sorted(asks, shared)[0]] * len(asks))
    apart = row_key(asks, [_sorted([ask], asked[ask])[0] for ask in asks])
    return together[:_WORTH_MORE_THAN_SHARING] <= apart[:_WORTH_MORE_THAN_SHARING]


def _sorted(asks: Sequence[Ask], shared: list[Choice]) -> list[Choice]:
    """Choices that serve all these axes, the best first."""
    return sorted(shared, key=lambda choice: row_key(asks, [choice] * len(asks)))


def best_first(
    lists: Sequence[Sequence[Item_co]], key: Callable[[tuple[Item_co, ...]], Key]
) -> Iterator[tuple[Item_co, ...]]:
    """Every combination of one item from each list, by rising key, found as they are asked for.

    The lists are sorted, and an item further down never makes a combination's key smaller. So the next best
    is always a neighbour of one that has been given: the heap holds those, and few of them.
    """
    if not all(map(len, lists)):
        return
    start = (0,) * len(lists)
    heap = [(key(tuple(items[0] for items in lists)), start)]
    seen = {start}
    while heap:
        _, at = heappop(heap)
        yield tuple(items[index] for items, index in zip(lists, at, strict=True))
        for axis, items in enumerate(lists):
            further = (*at[:axis], at[axis] + 1, *at[axis + 1 :])
            if further[axis] < len(items) and further not in seen:
                seen.add(further)
                row = tuple(items[index] for items, index in zip(lists, further, strict=True))
                heappush(heap, (key(row), further))
