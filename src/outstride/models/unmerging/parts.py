"""Axes in parts: what becomes of them when a view merges and cuts, and in which parts tensors meet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod
from operator import mul


@dataclass(frozen=True, eq=False)
class Part:
    """A part of an axis, one and the same in all tensors that it comes to; a cut one knows where it was."""

    size: int
    whole: Part | None = None
    is_first: bool = False
    """Whether it is the outer of the two that the whole was cut into."""


Axis = tuple[Part, ...]
"""From the outermost part to the innermost."""
Axes = tuple[Axis, ...]


def plain(shape: Iterable[int]) -> Axes:
    """Axes of one part each."""
    return tuple((Part(size),) for size in shape)


def sizes_of(axes: Axes) -> tuple[int, ...]:
    """The shape of a tensor that is held in parts."""
    return tuple(part.size for axis in axes for part in axis)


def strides_of(axes: Axes, strides: Sequence[int]) -> tuple[int, ...]:
    """How the parts lie in memory where the axes lie so."""
    made: list[int] = []
    for axis, stride in zip(axes, strides, strict=True):
        steps = accumulate((part.size for part in reversed(axis[1:])), mul, initial=stride)
        made += reversed(list(steps))
    return tuple(made)


def _cut(part: Part, first: int) -> tuple[Part, Part]:
    return Part(first, part, is_first=True), Part(part.size // first, part)


def _rejoined(axis: Sequence[Part]) -> Axis:
    """Halves of one part that come beside each other are that part again."""
    made: list[Part] = []
    for part in axis:
        made.append(part)
        while len(made) > 1 and made[-1].whole is not None and made[-2].whole is made[-1].whole:
            if not made[-2].is_first or made[-1].is_first:
                break
            made[-2:] = [made[-1].whole]
    return tuple(made)


def reshaped(axes: Axes, shape: Sequence[int]) -> Axes | None:
    """The parts of a view of that shape; None where it cuts a part other than evenly."""
    if 0 in shape:
        return None
    left = deque(part for axis in axes for part in axis if part.size != 1)
    made: list[Axis] = []
    for size in shape:
        taken: list[Part] = []
        while size > 1:
            part = left.popleft()
            if part.size > size and part.size % size == 0:
                part, rest = _cut(part, size)
                left.appendleft(rest)
            if size % part.size:
                return None
            taken.append(part)
            size //= part.size
        made.append(_rejoined(taken) or (Part(1),))
    return tuple(made)


def meeting(several: Sequence[Sequence[int]], size: int) -> tuple[int, ...]:
    """Sizes of the parts in which axes of one size can meet that are parted in these ways."""
    cuts = sorted({end for sizes in several for end in accumulate(reversed(sizes), mul)} | {1, size})
    if any(b % a for a, b in pairwise(cuts)):
        return (size,)  # cut so differently that they meet whole
    found = tuple(b // a for a, b in pairwise(cuts))
    return tuple(reversed(found)) or (1,)


def parted(axis: Axis, sizes: Sequence[int]) -> Axis:
    """An axis in parts of these sizes: its own where it is."""
    if tuple(part.size for part in axis) == tuple(sizes):
        return axis
    if len(sizes) == 1:
        return _rejoined(axis) if len(_rejoined(axis)) == 1 else (Part(prod(sizes)),)
    return tuple(Part(size) for size in sizes)


def meeting_axes(several: Sequence[Axes], shape: Sequence[int], apart: Sequence[int] = ()) -> Axes:
    """The axes of a result that tensors broadcast to, in the parts in which these meet.

    ``apart``: axes of the result that are one part whatever the tensors' sizes are.
    """
    found: list[Axis] = []
    for axis, size in enumerate(shape):
        back = len(shape) - axis
        filling = [axes[-back] for axes in several if len(axes) >= back and length_of(axes[-back]) == size]
        if axis in apart or not filling:
            found.append((Part(size),))
            continue
        sizes = meeting([[part.size for part in axis] for axis in filling], size)
        own = next((axis for axis in filling if tuple(part.size for part in axis) == sizes), None)
        found.append(own or tuple(map(Part, sizes)))
    return tuple(found)


def in_parts_of(axes: Axes, wanted: Axes) -> Axes:
    """Axes in the parts that the last ones of a result have; ones where they have one element for all."""
    made = []
    for axis, goal in zip(axes, wanted[len(wanted) - len(axes) :], strict=True):
        count = length_of(axis)
        sizes = [part.size for part in goal]
        made.append(parted(axis, sizes if count == length_of(goal) else [*(1 for _ in sizes[1:]), count]))
    return tuple(made)


def length_of(axis: Axis) -> int:
    """Its elements."""
    return prod(part.size for part in axis)
