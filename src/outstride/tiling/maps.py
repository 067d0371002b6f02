"""Maps that lie between passes: in memory, or in a file without a name that goes away with the process."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

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


def _bytes_of(stretch: Tensor) -> memoryview:
    values: Any = stretch.view(torch.uint8).numpy()
    return memoryview(values)


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
        for start, stretch in zip(self._starts(box), self._stretches(box, part.contiguous()), strict=True):
            self._file.seek(start)
            view = _bytes_of(stretch)
            while view:
                view = view[self._file.write(view) :]

    def read(self, box: Box) -> Tensor:
        """A tensor of its own."""
        part, longer = torch.empty(shape_of(box), dtype=self._dtype), self._longer(box)
        starts = self._starts(longer)
        if longer == box:
            for start, stretch in zip(starts, self._stretches(box, part), strict=True):
                self._fill(stretch, start)
            return part
        axis = self._together(longer)
        places, room = within(box, longer)[axis:], torch.empty(shape_of(longer)[axis:], dtype=self._dtype)
        for start, piece in zip(starts, part.flatten(0, axis - 1) if axis else [part], strict=True):
            self._fill(room.view(-1), start)
            piece.copy_(room[places])
        return part

    def _fill(self, stretch: Tensor, start: int) -> None:
        """Read what lies at a place of the file."""
        self._file.seek(start)
        view = _bytes_of(stretch)
        while view:
            read = self._file.readinto(view)
            if not read:
                raise OSError("a scratch file ended early")
            view = view[read:]

    def close(self) -> None:
        """Give the space back."""
        self._file.close()

    def _longer(self, box: Box) -> Box:
        """A box in fewer and longer stretches, if that reads little more: each short one costs a call."""
        axis = self._together(box)
        stretch = prod(shape_of(box[axis:])) * self._dtype.itemsize
        size, (a, b) = self._shape[axis], box[axis]
        longer = (*box[:axis], (0, size), *box[axis + 1 :])
        is_worth = axis > 0 and stretch < _SHORT and 0 < b - a < size <= _MORE * (b - a)
        outer = shape_of(longer)[self._together(longer) :]
        return longer if is_worth and prod(outer) * self._dtype.itemsize <= LONGEST else box

    def _together(self, box: Box) -> int:
        """The first of the last axes whose elements lie together in a box."""
        axis = len(box)
        while axis and (axis == len(box) or box[axis] == (0, self._shape[axis])):
            axis -= 1
        return axis

    def _starts(self, box: Box) -> Iterator[int]:
        """Where each stretch begins in the file, in bytes."""
        axis = self._together(box)
        for place in product(*(range(a, b) for a, b in box[:axis]), [box[axis][0]]):
            start = 0
            for at, size in zip(place, self._shape[: axis + 1], strict=True):
                start = start * size + at
            yield start * prod(self._shape[axis + 1 :]) * self._dtype.itemsize

    def _stretches(self, box: Box, part: Tensor) -> Iterator[Tensor]:
        """The same of a part that is in order."""
        axis = self._together(box)
        yield from part.reshape(prod(shape_of(box)[:axis]), -1)


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
