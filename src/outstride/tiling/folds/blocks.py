"""Rows of elements that arrive in parts of any length and are handed on in whole blocks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

#: Elements that are handed on at a time, so that what is made of them stays in the caches.
_AT_ONCE = 1 << 18


class Blocks:
    """``rest``: what no block has been filled with yet."""

    def __init__(self, rows: int, size: int, dtype: torch.dtype) -> None:
        self._size, self.rest = size, torch.zeros(rows, 0, dtype=dtype)

    def take(self, part: Tensor) -> Iterator[Tensor]:
        """The next elements, (rows, count), as some (rows, blocks, size)."""
        rows, held = self.rest.shape
        lacking = min(self._size - held, part.shape[1]) if held else 0
        if held:
            self.rest = torch.cat([self.rest, part[:, :lacking]], 1)
            if self.rest.shape[1] < self._size:
                return
            yield self.rest[:, None]
        count = (part.shape[1] - lacking) // self._size
        step = max(_AT_ONCE // (rows * self._size), 1)
        for first in range(0, count, step):
            here = min(step, count - first)
            start = lacking + first * self._size
            yield part[:, start : start + here * self._size].unflatten(1, (here, self._size))
        self.rest = part[:, lacking + count * self._size :].clone()
