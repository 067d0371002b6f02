"""Boxes: a half-open interval on every axis of a tensor. A tile is a box of the output."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

#: How much larger than two boxes one around them may be to be made in their place; and than all pieces one
#: has to be for these to be made apart, as each takes its calls and its borders.
_NEAR, _FAR = 1.25, 1.5

Interval = tuple[int, int]
Box = tuple[Interval, ...]


def whole(shape: Sequence[int]) -> Box:
    """The box of a tensor."""
    return tuple((0, size) for size in shape)


def shape_of(box: Box) -> tuple[int, ...]:
    """Its size on every axis."""
    return tuple(stop - start for start, stop in box)


def slices(box: Box) -> tuple[slice, ...]:
    """What cuts it out of an array."""
    return tuple(slice(start, stop) for start, stop in box)


def elements(box: Box) -> int:
    """How many elements it has."""
    return prod(max(stop - start, 0) for start, stop in box)


def hull(boxes: Sequence[Box]) -> Box:
    """The least box that holds them all; those without elements ask for nothing."""
    asking = [box for box in boxes if elements(box)] or boxes[:1]
    return tuple((min(a for a, _ in axis), max(b for _, b in axis)) for axis in zip(*asking, strict=True))


def apart(boxes: Sequence[Box]) -> tuple[Box, ...]:
    """Boxes that hold them all: one, or several where one would be much larger than what is asked for."""
    asking = list(dict.fromkeys(box for box in boxes if elements(box)))
    if len(asking) < 2:
        return tuple(asking or boxes[:1])
    everything = hull(asking)
    if elements(everything) <= _FAR * max(map(elements, asking)):
        return (everything,)
    pieces = list[Box]()
    for box in asking:
        joined, near = box, True
        while near:
            near = False
            for piece in pieces:
                if elements(hull([piece, joined])) <= _NEAR * _together(piece, joined):
                    joined, near = hull([piece, joined]), True
                    pieces.remove(piece)
                    break
        pieces.append(joined)
    return tuple(pieces) if elements(everything) > _FAR * sum(map(elements, pieces)) else (everything,)


def _together(a: Box, b: Box) -> int:
    """How many elements are in one of two boxes."""
    shared = tuple((max(i, k), min(j, m)) for (i, j), (k, m) in zip(a, b, strict=True))
    return elements(a) + elements(b) - elements(shared)


def holds(outer: Box, box: Box) -> bool:
    """Whether a box lies in another."""
    return all(start <= a and b <= stop for (a, b), (start, stop) in zip(box, outer, strict=True))


def complete_but(box: Box, shape: Sequence[int], axis: int | None) -> Box:
    """The box of a tensor that goes as far as this one on one axis; all of it without an axis."""
    return whole(shape) if axis is None else replaced(whole(shape), axis, box[axis])


def begun(box: Box, alignment: Sequence[int]) -> Box:
    """The same from the last multiple before its start on every axis."""
    return tuple((a - a % n, b) for (a, b), n in zip(box, alignment, strict=True))


def within(box: Box, outer: Box) -> tuple[slice, ...]:
    """Where a box lies in an array that holds the outer one."""
    return tuple(slice(a - start, b - start) for (a, b), (start, _) in zip(box, outer, strict=True))


def clamped(start: int, stop: int, size: int) -> Interval:
    """The part of an interval that exists; where none does, none at all."""
    first = min(max(start, 0), size)
    return first, max(min(stop, size), first)


def replaced(box: Box, axis: int, interval: Interval) -> Box:
    """The same with another interval on one axis."""
    axis %= len(box)
    return (*box[:axis], interval, *box[axis + 1 :])
