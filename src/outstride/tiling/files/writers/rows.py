"""An array in a file, row after row, that is written and read part by part without being mapped.

A mapped file on a disk that is full ends the process; a write that fails is an error like another.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np


class Rows:
    """Numbers in C order from an offset of a file on."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: Any, offset: int = 0) -> None:
        """Opens the file; one that is shorter than the array is made as long, without taking space yet."""
        self.shape, self.dtype, self._offset = shape, np.dtype(dtype), offset
        self._file = path.open("r+b" if path.exists() else "x+b", buffering=0)
        end = offset + prod(shape) * self.dtype.itemsize
        if self._file.seek(0, os.SEEK_END) < end:
            self._file.truncate(end)
        strides = [self.dtype.itemsize]
        for size in reversed(shape[1:]):
            strides.insert(0, strides[0] * size)
        self._strides = strides

    def __setitem__(self, key: tuple[slice, ...], part: Any) -> None:
        values = np.ascontiguousarray(part, self.dtype)
        for place, row in self._runs(key, values):
            self._file.seek(place)
            left = row
            while len(left):
                left = left[self._file.write(left) :]

    def __getitem__(self, key: tuple[slice, ...]) -> Any:
        sizes = [len(range(*part.indices(n))) for part, n in zip(key, self.shape, strict=True)]
        values = np.empty(sizes, self.dtype)
        for place, row in self._runs(key, values):
            self._file.seek(place)
            left = row
            while len(left):
                count = self._file.readinto(left)
                if not count:
                    raise EOFError("the file is shorter than its numbers")
                left = left[count:]
        return values

    def _runs(self, key: tuple[slice, ...], values: Any) -> Iterator[tuple[int, memoryview]]:
        """Where each run of neighbours of a part lies in the file, and its bytes."""
        if not values.size:
            return
        starts = [part.indices(n)[0] for part, n in zip(key, self.shape, strict=True)]
        axis = len(self.shape) - 1
        while axis > 0 and values.shape[axis] == self.shape[axis]:
            axis -= 1
        first = self._offset + sum(a * stride for a, stride in zip(starts, self._strides, strict=True))
        rows = values.reshape(prod(values.shape[:axis]), -1).view(np.uint8)
        for row, index in zip(rows, np.ndindex(values.shape[:axis]), strict=True):
            yield first + sum(i * stride for i, stride in zip(index, self._strides, strict=False)), row.data

    def sync(self, *_: Any) -> None:
        """Have what was written on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
