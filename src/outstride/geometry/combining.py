"""Answers of several parts put together: axes that share parameters, combinations in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush, merge
from math import prod
from typing import TypeVar

from outstride.geometry.choices import Choice, Question
from outstride.geometry.ranking import Key, rank_key

Item = TypeVar("Item")
Row = tuple[Choice, ...]
Group = tuple[tuple[int, ...], list[Choice]]
"""Axes that share their parameters, and the choices that serve them all."""

# The entries of a key that sharing may not worsen: closeness to a scale, borders without use, holes.
_WORTH_MORE_THAN_SHARING = 3


def combined(
    questions: tuple[Question, ...], asked: dict[Question, list[Choice]], isotropic: bool | None
) -> tuple[int, Iterator[Row]]:
    """How many answers there are, and all of them in order: each one choice per axis.

    A layer rounds one way on all its axes, so the two ways are combined apart and then merged.
    """
    count, ordered = 0, []
    for rounds_up in (False, True):
        of_one_way = {q: [c for c in found if c.ceil_mode == rounds_up] for q, found in asked.items()}
        number, rows = _of_one_way(questions, of_one_way, isotropic)
        count += number
        ordered.append(rows)
    return count, merge(*ordered, key=lambda row: _key(questions, row))


def _of_one_way(
    questions: tuple[Question, ...], asked: dict[Question, list[Choice]], isotropic: bool | None
) -> tuple[int, Iterator[Row]]:
    groups = _groups(questions, asked, isotropic)
    owner = {axis: number for number, (axes, _) in enumerate(groups) for axis in axes}

    def spread(row: Row) -> Row:
        return tuple(row[owner[axis]] for axis in range(len(questions)))

    lists = [_sorted([questions[axis] for axis in axes], shared) for axes, shared in groups]
    ordered = best_first(lists, lambda row: _key(questions, spread(row)))
    return prod(map(len, lists)), map(spread, ordered)


def _groups(
    questions: tuple[Question, ...], asked: dict[Question, list[Choice]], isotropic: bool | None
) -> list[Group]:
    everything = tuple(range(len(questions)))
    if isotropic is False:
        return [((axis,), asked[questions[axis]]) for axis in everything]
    others = [set(found) for found in asked.values()]
    shared = [choice for choice in asked[questions[0]] if all(choice in found for found in others)]
    if isotropic or len(asked) == 1 or _costs_nothing(shared, questions, asked):
        return [(everything, shared)]
    return [
        (tuple(axis for axis in everything if questions[axis] == question), found)
        for question, found in asked.items()
    ]


def _costs_nothing(
    shared: list[Choice], questions: tuple[Question, ...], asked: dict[Question, list[Choice]]
) -> bool:
    if not shared or not all(asked.values()):
        return False
    together = _key(questions, [_sorted(questions, shared)[0]] * len(questions))
    apart = _key(questions, [_sorted([q], asked[q])[0] for q in questions])
    return together[:_WORTH_MORE_THAN_SHARING] <= apart[:_WORTH_MORE_THAN_SHARING]


def _sorted(questions: Sequence[Question], shared: list[Choice]) -> list[Choice]:
    """Choices that serve all these axes, the best first."""
    return sorted(shared, key=lambda choice: _key(questions, [choice] * len(questions)))


def _key(questions: Sequence[Question], row: Sequence[Choice]) -> Key:
    return rank_key(list(zip(questions, row, strict=True)))


def best_first(
    lists: Sequence[Sequence[Item]], key: Callable[[tuple[Item, ...]], Key]
) -> Iterator[tuple[Item, ...]]:
    """Every combination of one item from each list, by rising key, found as they are asked for.

    The lists are sorted, and an item further down never makes a combination's key smaller. So the next best
    is always a neighbour of one that has been given: the heap holds those, and few of them.
    """
    if not all(lists):
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
