"""Smaller copies of a picture, each half as large as the one before, made block by block."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import ceil
from typing import Any

import numpy as np

#: Pixels along an axis from which on a picture has a smaller copy.
_LARGE = 512
#: Pixels of a block along each of the two axes.
_BLOCK = 1024


def shapes_of(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The sizes of all levels, the largest first; the last two axes are halved."""
    found = [shape]
    while max(found[-1][-2:]) > _LARGE:
        found.append((*shape[:-2], *(ceil(n / 2) for n in found[-1][-2:])))
    return found


def shrink(source: Any, target: Any, labels: bool) -> None:
    """Fill a level from the one before: by means of 2 x 2, or by one of them where numbers are names."""
    for key in blocks(target.shape, _BLOCK):
        rows, columns = (
            slice(2 * part.start, min(2 * part.stop, n))
            for part, n in zip(key[-2:], source.shape[-2:], strict=True)
        )
        place = (*key[:-2], rows, columns)
        target[key] = halved(source[place], labels)


def blocks(shape: tuple[int, ...], size: int) -> Iterator[tuple[slice, ...]]:
    """Squares of the last two axes, plane by plane."""
    leading = [[slice(i, i + 1) for i in range(n)] for n in shape[:-2]]
    last = [[slice(a, min(a + size, n)) for a in range(0, n, size)] for n in shape[-2:]]
    yield from product(*leading, *last)


def halved(part: Any, labels: bool) -> Any:
    """Half of a part; at an odd end what is there counts alone."""
    if labels:
        return part[..., ::2, ::2]
    wide = part.astype(np.float64 if part.dtype != np.float32 else np.float32)
    for axis in (-2, -1):
        pairs = np.moveaxis(wide, axis, -1)
        first = pairs[..., ::2]
        second = np.concatenate([pairs[..., 1::2], first[..., pairs.shape[-1] // 2 :]], -1)
        wide = np.moveaxis((first + second) / 2, -1, axis)
    return (wide if part.dtype.kind == "f" else np.rint(wide)).astype(part.dtype)
