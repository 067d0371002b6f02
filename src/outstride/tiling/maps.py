"""Maps that lie between passes: in memory, or in a file without a name that goes away with the process."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from outstride.tiling.box import Box, shape_of, whole, within

#: Bytes of a stretch up to which a call costs more than they do, and how much more is read to save calls, in
#: stretches of at most so many bytes.
_SHORT, _MORE, LONGEST = 1 << 13, 2, 1 << 23


class Map(Protocol):
    """A tensor that is written and read by boxes."""

    def write(self, box: Box, part: Tensor) -> None:
        """Put a box where it belongs."""

    def read(self, box: Box) -> Tensor:
        """A box of what was written."""

    def close(self) -> None:
        """Forget it."""


class MapInMemory:
    """A tensor."""

    def __init__(self, shape: Sequence[int], dtype: torch.dtype) -> None:
        self._tensor = torch.empty(tuple(shape), dtype=dtype)

    def write(self, box: Box, part: Tensor) -> None:
        """Copy it there."""
        self._tensor[within(box, whole(self._tensor.shape))] = part

    def read(self, box: Box) -> Tensor:
        """A view."""
        return self._tensor[within(box, whole(self._tensor.shape))]

    def close(self) -> None:
        """Give the memory back."""
        self._tensor = torch.empty(0)


def _bytes_of(part: Tensor) -> memoryview:
    values: Any = part.view(-1).view(torch.uint8).numpy()
    return memoryview(values)


def _together(shape: Sequence[int], box: Box) -> int:
    """The first of the last axes whose elements lie together in a box of a map of this shape."""
    axis = len(box)
    while axis and (axis == len(box) or box[axis] == (0, shape[axis])):
        axis -= 1
    return axis


def _longer(shape: Sequence[int], itemsize: int, box: Box) -> Box:
    """A box in fewer and longer stretches, if that reads little more: each short one costs a call."""
    axis = _together(shape, box)
    stretch = prod(shape_of(box[axis:])) * itemsize
    size, (a, b) = shape[axis], box[axis]
    longer = (*box[:axis], (0, size), *box[axis + 1 :])
    is_worth = axis > 0 and stretch < _SHORT and 0 < b - a < size <= _MORE * (b - a)
    outer = shape_of(longer)[_together(shape, longer) :]
    return longer if is_worth and prod(outer) * itemsize <= LONGEST else box


def stretches(shape: Sequence[int], box: Box) -> int:
    """In how many of what lies together a box of a map of this shape is written to a file."""
    return prod(shape_of(box[: _together(shape, box)]))


def read_stretches(shape: Sequence[int], itemsize: int, box: Box) -> int:
    """In how many it is read, which may be fewer."""
    return stretches(shape, _longer(shape, itemsize, box))


class MapInFile:
    """Elements in order in a file that has no name, so that nothing is left of it however the process ends.

    It is read and written by calls, not mapped: pages of a mapping would count as memory of the process.
    """

    def __init__(self, shape: Sequence[int], dtype: torch.dtype, folder: Path) -> None:
        self._shape, self._dtype = tuple(shape), dtype
        self._file = tempfile.TemporaryFile(buffering=0, dir=folder, prefix="outstride-")  # noqa: SIM115
        self._file.truncate(prod(self._shape) * dtype.itemsize)

    def write(self, box: Box, part: Tensor) -> None:
        """Stretch by stretch of what lies together."""
        for start, stretch in self._stretches(box, part.contiguous()):
            self._file.seek(start)
            while stretch:
                stretch = stretch[self._file.write(stretch) :]

    def read(self, box: Box) -> Tensor:
        """A tensor of its own."""
        part, longer = (
            torch.empty(shape_of(box), dtype=self._dtype),
            _longer(self._shape, self._dtype.itemsize, box),
        )
        if longer == box:
            for start, stretch in self._stretches(box, part):
                self._fill(stretch, start)
            return part
        axis = _together(self._shape, longer)
        places, room = within(box, longer)[axis:], torch.empty(shape_of(longer)[axis:], dtype=self._dtype)
        pieces, view = part.flatten(0, axis - 1) if axis else [part], _bytes_of(room)
        for start, piece in zip(self._starts(longer), pieces, strict=True):
            self._fill(view, start)
            piece.copy_(room[places])
        return part

    def _fill(self, view: memoryview, start: int) -> None:
        """Read what lies at a place of the file."""
        self._file.seek(start)
        while view:
            read = self._file.readinto(view)
            if not read:
                raise OSError("a scratch file ended early")
            view = view[read:]

    def close(self) -> None:
        """Give the space back."""
        self._file.close()

    def _starts(self, box: Box) -> list[int]:
        """Where each stretch begins in the file, in bytes."""
        first, starts = _together(self._shape, box), np.zeros((), np.int64)
        for (a, b), size in zip(box[:first], self._shape, strict=False):
            starts = starts[..., None] * size + np.arange(a, b)
        starts = starts * self._shape[first] + box[first][0]
        found: list[int] = (starts.ravel() * (prod(self._shape[first + 1 :]) * self._dtype.itemsize)).tolist()
        return found

    def _stretches(self, box: Box, part: Tensor) -> Iterator[tuple[int, memoryview]]:
        """Where each begins, and its bytes of a part that is in order."""
        starts, view = self._starts(box), _bytes_of(part)
        length = len(view) // len(starts) if starts else 0
        for number, start in enumerate(starts):
            yield start, view[number * length : (number + 1) * length]


class Maps(dict[int, Map]):
    """All maps of a run by the numbers of their tensors, closed when it ends, however it ends."""

    def __enter__(self) -> Maps:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for index in list(self):
            self.close(index)

    def open(self, index: int, made: Map) -> None:
        """Keep a map."""
        self[index] = made

    def close(self, index: int) -> None:
        """Forget one."""
        self.pop(index).close()
