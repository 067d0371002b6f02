"""Means of the few large windows of an adaptive pooling: each a chain of additions over its rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from outstride.tiling.box import Box, Interval
from outstride.tiling.folds.interface import Fold
from outstride.tiling.folds.sequences import added


def windows(inputs: int, outputs: int) -> list[Interval]:
    """What each output of an adaptive pooling covers along an axis."""
    return [(q * inputs // outputs, -((q + 1) * -inputs // outputs)) for q in range(outputs)]


def cells(shape: Sequence[int], made: Sequence[int]) -> list[tuple[tuple[int, ...], tuple[Interval, ...]]]:
    """Each position of the result with the window that it covers."""
    axes = [windows(n, m) for n, m in zip(shape, made, strict=True)]
    return [
        (place, tuple(axis[at] for axis, at in zip(axes, place, strict=True)))
        for place in product(*map(range, made))
    ]


def met(window: Sequence[Interval], box: Box) -> tuple[slice, ...] | None:
    """The part of a window that lies in a box, counted from the box's start; None where none does."""
    found = []
    for (a, b), (start, stop) in zip(window, box[2:], strict=True):
        if max(a, start) >= min(b, stop):
            return None
        found.append(slice(max(a, start) - start, min(b, stop) - start))
    return tuple(found)


class _Windows(Fold):
    """Of (N, C, *size) what is known of each window."""

    def __init__(self, shape: tuple[int, ...], made: tuple[int, ...]) -> None:
        self._cells = cells(shape[2:], made[2:])

    def _inside(self, box: Box, part: Tensor) -> Iterator[tuple[Any, Tensor]]:
        """Where in the result a window stands of which there is a part, and its elements of all channels."""
        for image, number in enumerate(range(*box[0])):
            for place, window in self._cells:
                inside = met(window, box)
                if inside is not None:
                    there: Any = (image, slice(None), *inside)
                    yield (number, slice(None), *place), part[there].flatten(1)


class WindowMeans(_Windows):
    """Of (N, C, *size) the mean of each window."""

    def __init__(self, shape: tuple[int, ...], made: tuple[int, ...], dtype: torch.dtype) -> None:
        super().__init__(shape, made)
        self._sums: Any = torch.zeros(made, dtype=dtype).numpy()

    def take(self, walk: int, box: Box, part: Tensor) -> None:
        """The next rows of all channels."""
        del walk
        for at, elements in self._inside(box, part):
            self._sums[at] = added(self._sums[at], elements.numpy())

    def result(self) -> Tensor:
        """(N, C, *places): divided by the size of the window, along one axis after the other."""
        means = torch.from_numpy(self._sums)
        for place, window in self._cells:
            at: Any = (slice(None), slice(None), *place)
            for a, b in window:
                means[at] = means[at] / (b - a)
        return means


class WindowMaxima(_Windows):
    """Of (N, C, *size) the largest element of each window; NaN where there is one."""

    def __init__(self, shape: tuple[int, ...], made: tuple[int, ...], dtype: torch.dtype) -> None:
        super().__init__(shape, made)
        lowest = -torch.inf if dtype.is_floating_point else torch.iinfo(dtype).min
        self._largest = torch.full(made, lowest, dtype=dtype)

    def take(self, walk: int, box: Box, part: Tensor) -> None:
        """The next rows of all channels."""
        del walk
        for at, elements in self._inside(box, part):
            self._largest[at] = torch.maximum(self._largest[at], elements.amax(1))

    def result(self) -> Tensor:
        """(N, C, *places)."""
        return self._largest
