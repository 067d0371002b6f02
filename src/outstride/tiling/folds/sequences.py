"""Sums of numbers one after the other, each rounded, that are carried on from part to part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

#: Numbers that are added up in one call, so that they stay in a core's own cache.
_AT_ONCE = 1 << 15


def added(totals: Any, values: Any, term: Callable[[Any], Any] = lambda value: value) -> Any:
    """Totals of (rows,) after a term for each of the values, (rows, count), in the type of the totals.

    NumPy's running sums are sequences by what they return; its sums are not.
    """
    rows, count = values.shape
    step = max(_AT_ONCE // max(rows, 1), 1)
    room = np.empty((rows, min(step, count) + 1), totals.dtype)
    for start in range(0, count, step):
        part = term(values[:, start : start + step])
        stretch = room[:, : part.shape[1] + 1]
        stretch[:, 0], stretch[:, 1:] = totals, part
        totals = np.add.accumulate(stretch, axis=1)[:, -1]
    return totals
