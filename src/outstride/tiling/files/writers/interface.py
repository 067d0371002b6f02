"""What makes a file of a format: an array to fill, and what turns it into the file when it is full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from outstride.errors import ArgumentError
from outstride.tiling.box import Box
from outstride.tiling.files.facts import Facts

#: The file or folder of the result among those of a result that is being made.
RESULT = "result"
#: Numbers of the result where the file is made of them at the end.
NUMBERS = "numbers"
_BYTE = 255


class UnfitError(ArgumentError):
    """The numbers of a result do not fit the format: the same command would meet them again."""


@dataclass(frozen=True)
class Wanted:
    """The result that a file is to hold."""

    name: str
    """Of the file, for sentences."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    """As the model gives it."""
    tile: tuple[int, ...]
    """Size of a tile on the last axes."""
    facts: Facts
    range_: tuple[float, float] | None = None
    """The numbers that are black and white in a result of integers."""
    bits: int = 8
    """Of these integers: 8 or 16."""
    ngff_version: str = "0.5"
    """Of an OME-Zarr."""
    identity: str = ""
    """Letters and digits that are the same whenever the same is made."""

    def unfit(self, got: str, legal: str) -> UnfitError:
        """The sentence for what a format cannot hold."""
        return UnfitError(f"'out' must be a file that can hold the result: got {got}; legal: {legal}")


class Encoder:
    """Numbers of the model as those of the file, tile by tile."""

    def __init__(self, wanted: Wanted, masks: bool = False, least: bool = False) -> None:
        """``masks``: whether truth is black and white; ``least``: whether no type is larger than 32 bits."""
        self._wanted, self._range = wanted, wanted.range_
        self.dtype = wanted.dtype
        self._masks = masks and wanted.dtype.kind == "b"
        self._most = 2**wanted.bits - 1
        if self._range is not None:
            self.dtype = np.dtype(f"uint{wanted.bits}")
        elif self._masks:
            self.dtype = np.dtype(np.uint8)
        elif least and wanted.dtype.kind in "iu" and wanted.dtype.itemsize > 4:
            self.dtype = np.dtype(np.int32)
        elif least and wanted.dtype == np.float16:
            self.dtype = np.dtype(np.float32)

    def __call__(self, part: Any, counts: Counter[str]) -> Any:
        """A part as the file has it; what cannot be seen there any more is counted."""
        if self._range is not None:
            low, high = self._range
            missing = np.isnan(part)
            counts["nan"] += int(missing.sum())
            counts["beyond"] += int(((part < low) | (part > high)).sum())
            share = (np.where(missing, low, part).astype(np.float64) - low) / (high - low)
            return np.rint(np.clip(share, 0, 1) * self._most).astype(self.dtype)
        if self._masks:
            return part.astype(np.uint8) * np.uint8(_BYTE)
        if self.dtype.kind == "i" and self.dtype != part.dtype and part.size:
            low, high = int(part.min()), int(part.max())
            if low < np.iinfo(self.dtype).min or high > np.iinfo(self.dtype).max:
                raise self._wanted.unfit(
                    f"integers from {low} to {high}", "those of 32 bits, or a .npy or .zarr"
                )
        return part.astype(self.dtype, copy=False)

    def notes(self, counts: Counter[str]) -> list[str]:
        """What is to be said about the numbers that were counted."""
        found = []
        if self._range is not None:
            low, high = self._range
            if counts["beyond"]:
                found.append(f"{counts['beyond']} values lie beyond {low:.6g} to {high:.6g}: black or white")
            if counts["nan"]:
                found.append(f"{counts['nan']} values are NaN, drawn black")
        return found


@dataclass
class Made:
    """A file that is being made."""

    array: Any
    """To be filled with numbers as the encoder gives them."""
    encode: Encoder
    finish: Callable[[], object]
    """Makes what is named ``RESULT`` of the full array, the same however often it is called."""
    sync: Callable[[Sequence[Box]], object]
    """Has what was written of these boxes on the disk."""
    close: Callable[[], object] = lambda: None
    again: Callable[[Path], AbstractContextManager[Any]] | None = None
    """The finished file as an array of the result's shape, numbers as encoded; None where it keeps none."""
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result."""
        shape: tuple[int, ...] = self.array.shape
        return shape


Maker = Callable[[Path, Wanted], Made]
"""Opens what is in a folder, or begins it where nothing is."""


def check_picture(wanted: Wanted, kind: str) -> None:
    """Refuse results that are no picture.

    Raises:
        ArgumentError: they have other axes than a picture, several images or no pixels.
    """
    shape = wanted.shape
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[0] != 1) or 0 in shape:
        raise wanted.unfit(f"a {kind} for {shape}", "(1, C, H, W) or (C, H, W), or a .npy or .zarr")


class Seen:
    """An array under another shape of the same numbers: leading axes of one element left out or added."""

    def __init__(self, array: Any, shape: tuple[int, ...]) -> None:
        self._array, self.shape, self.dtype = array, shape, array.dtype
        self._more = len(shape) - len(array.shape)

    def __setitem__(self, key: tuple[slice, ...], part: Any) -> None:
        self._array[self._key(key)] = part.reshape(self._sizes(part.shape))

    def __getitem__(self, key: tuple[slice, ...]) -> Any:
        part = np.asarray(self._array[self._key(key)])
        sizes = part.shape[-self._more :] if self._more < 0 else (1,) * self._more + part.shape
        return part.reshape(sizes)

    def _key(self, key: tuple[slice, ...]) -> tuple[slice, ...]:
        return (slice(0, 1),) * -self._more + key[max(self._more, 0) :]

    def _sizes(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        return (1,) * -self._more + sizes[max(self._more, 0) :]
