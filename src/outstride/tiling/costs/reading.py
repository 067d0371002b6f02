"""What reading sources takes, tried on parts of them: it depends on their formats and on where they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from outstride.tiling.box import Box, Interval, elements
from outstride.tiling.files.formats import Guarded

#: Elements of a part that is tried, at most; and seconds after which a first try is enough.
_MOST_TRIED, _ENOUGH = 1 << 22, 0.5


def is_file(source: Any) -> bool:
    """Whether a source is read from a file, or from wherever zarr has it."""
    return isinstance(source, (Guarded, np.memmap)) or type(source).__module__.partition(".")[0] == "zarr"


def seconds_an_element(
    read: Callable[[int, Box], object], parts: Iterable[Sequence[tuple[int, Box]]]
) -> float:
    """What reading an element takes: the least of some tries but the first; 0 where nothing is read.

    ``parts``: boxes of inputs that are read together. With the first, libraries are loaded.
    """
    rates = list[float]()
    for boxes in parts:
        tried = [(index, _tried(box)) for index, box in boxes]
        count = sum(elements(box) for _, box in tried)
        if not count:
            continue
        started = perf_counter()
        for index, box in tried:
            read(index, box)
        taken = perf_counter() - started
        rates.append(taken / count)
        if taken > _ENOUGH:
            break
    return min(rates[1:] or rates, default=0.0)


def _tried(box: Box) -> Box:
    """A part of a box that is not too large."""
    axes = list[Interval](box)
    while elements(tuple(axes)) > _MOST_TRIED:
        axis = max(range(len(axes)), key=lambda axis: axes[axis][1] - axes[axis][0])
        a, b = axes[axis]
        axes[axis] = (a, a + (b - a) // 2)
    return tuple(axes)
