"""Names of a file's axes, and where a model has them: (N, C, *size)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from outstride.errors import ArgumentError

#: Axes that layers slide along, in the order in which a model has them.
SPATIAL = "ZYXL"
#: Run one by one; channels. What TIFF calls Q and I may be anything.
_IMAGES, _CHANNELS, _ANY = "NT", "CS", "QI"

Order = tuple["int | None", ...]
"""For each axis of a model's input the axis of the file, None where it has none."""


def check_axes(axes: Any) -> None:
    """Refuse letters that name no axes.

    Raises:
        ArgumentError: they do not.
    """
    legal = _IMAGES + _CHANNELS + SPATIAL
    if (
        not isinstance(axes, str)
        or not axes
        or set(axes.upper()) - set(legal)
        or len(set(axes.upper())) != len(axes)
    ):
        raise ArgumentError(
            f"'axes' must name each axis of the source by a letter, each once: got {axes!r}; legal: letters "
            "of NTCSZYXL, such as 'CZYX'"
        )


def order_of(axes: str, shape: Sequence[int], nd: int | None, path: Path) -> Order:
    """Where the axes of (N, C, *size) are among the named ones.

    ``nd``: how many axes the model's layers slide along, None where none of them says so.

    Raises:
        ArgumentError: the names do not fit the file, or the model.
    """
    if len(axes) != len(shape):
        raise ArgumentError(
            f"'axes' must name each axis of the source: got {axes!r} for {tuple(shape)} in {str(path)!r}; "
            f"legal: {len(shape)} letters"
        )
    kept = {letter: place for place, letter in enumerate(axes) if shape[place] != 1}
    spatial = [letter for letter in SPATIAL if letter in axes]
    unknown = [letter for letter in kept if letter not in _IMAGES + _CHANNELS + SPATIAL]
    if nd == 3 and len(spatial) == 2 and len(unknown) == 1 and unknown[0] in _ANY:
        spatial, unknown = [*unknown, *spatial], []
    if nd == 2 and len(spatial) == 3 and spatial[0] not in kept:
        spatial = spatial[1:]
    images, channels = ([letter for letter in kept if letter in group] for group in (_IMAGES, _CHANNELS))
    channels += [letter for letter in unknown if letter in _ANY]
    left = [letter for letter in unknown if letter not in _ANY]
    if not spatial or len(images) > 1 or len(channels) > 1 or left or (nd and nd > 1 and len(spatial) != nd):
        others = " or ".join(repr(axes.replace("Z", letter)) for letter in "NC" if letter not in axes)
        advice = f", such as {others} for planes" if nd == 2 and "Z" in kept and others else ""
        sizes = ", ".join(["size"] * (nd or 1))
        raise ArgumentError(
            f"'source' must have the axes of the model's input, (N, C, {sizes}): got axes {axes!r} of "
            f"{tuple(shape)} in {str(path)!r}; legal: other names of them by 'axes'{advice}"
        )
    places = [axes.index(group[0]) if group else None for group in (images, channels)]
    return (*places, *(axes.index(letter) for letter in spatial))


class Moved:
    """An array with its axes in the model's order, and its numbers as they are to be read."""

    def __init__(
        self, array: Any, order: Order, values: Callable[[Any], Any] | None = None, dtype: Any = None
    ) -> None:
        """``values`` makes the numbers of a part those that are read, of type ``dtype``."""
        self._array, self._order, self._values = array, order, values
        self.shape = tuple(1 if axis is None else int(array.shape[axis]) for axis in order)
        self.dtype = np.dtype(array.dtype if dtype is None else dtype)

    def __getitem__(self, key: tuple[slice, ...]) -> Any:
        parts = [slice(0, 1)] * len(self._array.shape)
        for axis, part in zip(self._order, key, strict=True):
            if axis is not None:
                parts[axis] = part
        there = [axis for axis in self._order if axis is not None]
        dropped = tuple(axis for axis in range(len(parts)) if axis not in there)
        values = np.asarray(self._array[tuple(parts)])
        values = values.transpose(*there, *dropped).reshape([values.shape[axis] for axis in there])
        values = np.expand_dims(values, tuple(i for i, axis in enumerate(self._order) if axis is None))
        empty = any(
            axis is None and part.stop <= part.start for axis, part in zip(self._order, key, strict=True)
        )
        if empty:
            values = values[tuple(slice(0, max(part.stop - part.start, 0)) for part in key)]
        return values if self._values is None else self._values(values)


def scaled(dtype: Any, zero: int = 0, one: int | None = None) -> tuple[Callable[[Any], Any] | None, Any]:
    """What makes integers numbers from 0 to 1, and the type they have then; floats are left as they are.

    ``zero`` and ``one``: the integers that stand for 0 and, counted from there, for 1.
    """
    dtype = np.dtype(dtype)
    if dtype.kind not in "iu":
        return None, dtype
    low, range_ = np.float32(zero), np.float32(one or np.iinfo(dtype).max)
    return lambda part: (part.astype(np.float32) - low) / range_, np.dtype(np.float32)
