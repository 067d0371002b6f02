"""PNG and JPEG: made of the numbers at the end, floats by a scale that is said."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from outstride.tiling.files.readers.pictures import decoded
from outstride.tiling.files.writers.disk import sync_file
from outstride.tiling.files.writers.interface import (
    NUMBERS,
    RESULT,
    Encoder,
    Made,
    Seen,
    Wanted,
    check_picture,
)
from outstride.tiling.files.writers.rows import Rows

_BYTE, _WORD = 255, 65535
#: Levels of 256 below which a picture looks black.
_DARK = 16
#: Channels that each format holds.
_CHANNELS = {".png": (1, 2, 3, 4), ".jpg": (1, 3)}
#: The longest side of a JPEG.
_LONGEST = 65535
_QUALITY = 95
#: Rows that are looked at together.
_ROWS = 256


def png(folder: Path, wanted: Wanted) -> Made:
    """A PNG of one to four channels."""
    return _picture(folder, wanted, ".png", "PNG")


def jpeg(folder: Path, wanted: Wanted) -> Made:
    """A JPEG of one or three channels, whose numbers are not quite those of the result."""
    if max(wanted.shape[-2:], default=0) > _LONGEST:
        raise wanted.unfit(f"a .jpg for {wanted.shape}", f"up to {_LONGEST} pixels a side, or a .tif")
    return _picture(folder, wanted, ".jpg", "JPEG", quality=_QUALITY)


def _picture(folder: Path, wanted: Wanted, kind: str, name: str, **options: int) -> Made:
    check_picture(wanted, kind)
    shape = wanted.shape[-3:]
    if shape[0] not in _CHANNELS[kind]:
        legal = " or ".join(map(str, _CHANNELS[kind])) if kind == ".jpg" else "1 to 4"
        raise wanted.unfit(f"a {kind} for {shape[0]} channels", f"{legal} channels, or a .tif, .npy or .zarr")
    encode = Encoder(wanted, masks=True)
    most = _WORD if kind == ".png" and shape[0] == 1 else _BYTE
    rows = Rows(folder / NUMBERS, shape, encode.dtype)
    if encode.dtype.itemsize > 1 and most == _BYTE and wanted.range_ is not None:
        raise wanted.unfit(f"16 bits for a {kind} of {shape[0]} channels", "a .png of one, or a .tif or .npy")
    held: Any = Seen(rows, wanted.shape)
    if encode.dtype.kind in "iu":
        held = _Checked(held, partial(_check_labels, wanted, most, kind))

    def finish() -> None:
        from PIL import Image

        levels = _levels(rows, wanted, most) if encode.dtype.kind == "f" else _labels(rows, wanted)
        pixels = levels[..., 0] if levels.shape[-1] == 1 else levels
        Image.fromarray(pixels).save(folder / RESULT, format=name, **options)
        sync_file(folder / RESULT)

    return Made(held, encode, finish, rows.sync, rows.close, _again(wanted) if kind == ".png" else None)


def _again(wanted: Wanted) -> Callable[[Path], AbstractContextManager[Any]] | None:
    """How a PNG is read where it holds the numbers themselves."""
    if wanted.range_ is None and wanted.dtype.kind == "f":
        return None

    def read(path: Path) -> AbstractContextManager[Any]:
        return nullcontext(Seen(np.atleast_3d(decoded(path)).transpose(2, 0, 1), wanted.shape))

    return read


class _Checked:
    """An array that looks at what it is given."""

    def __init__(self, array: Seen, check: Callable[[Any], object]) -> None:
        self._array, self._check = array, check
        self.shape, self.dtype = array.shape, array.dtype

    def __setitem__(self, key: tuple[slice, ...], part: Any) -> None:
        self._check(part)
        self._array[key] = part


def _check_labels(wanted: Wanted, most: int, kind: str, part: Any) -> None:
    low, high = (int(part.min()), int(part.max())) if part.size else (0, 0)
    if low < 0 or high > most:
        raise wanted.unfit(
            f"integers from {low} to {high} for a {kind}", f"0 to {most}, or a .tif, .npy or .zarr"
        )


def _strips(rows: Rows) -> Any:
    for top in range(0, rows.shape[1], _ROWS):
        place = slice(top, min(top + _ROWS, rows.shape[1]))
        yield place, rows[slice(0, rows.shape[0]), place, slice(0, rows.shape[2])]


def _levels(rows: Rows, wanted: Wanted, most: int) -> Any:
    """Numbers from 0 to 1 as they are read; where some lie beyond, the lowest black and the highest white."""
    facts = wanted.facts
    top = most if facts.deep else _BYTE
    strange, low, high = 0, np.inf, -np.inf
    for _, part in _strips(rows):
        finite = part[np.isfinite(part)].astype(np.float64)
        strange += part.size - finite.size
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    if strange:
        facts.notes.append(f"{strange} values are NaN, drawn black, or infinite, drawn black or white")
    low, high = (low, high) if low <= high else (0.0, 1.0)
    beyond = np.rint(low * top) < 0 or np.rint(high * top) > top
    if beyond:
        facts.notes.append(f"values from {low:.4g} to {high:.4g} are drawn from black to white")
    elif np.rint(high * _BYTE) < _DARK:
        facts.notes.append(_dark(f"values from {low:.4g} to {high:.4g}", low, high))
    levels = np.empty((*rows.shape[1:], rows.shape[0]), np.uint16 if top == _WORD else np.uint8)
    for place, part in _strips(rows):
        scaled = np.nan_to_num(part.astype(np.float64), nan=min(low, 0.0))
        if beyond:
            scaled = (scaled - low) / ((high - low) or 1)
        levels[place] = np.rint(np.clip(scaled, 0, 1) * top).transpose(1, 2, 0)
    return levels


def _labels(rows: Rows, wanted: Wanted) -> Any:
    """Integers as they are, in as many bits as they need."""
    high = max(int(part.max()) for _, part in _strips(rows))
    if high and high < _DARK and wanted.range_ is None:
        wanted.facts.notes.append(_dark(f"integers from 0 to {high}", 0, high))
    wide = high > _BYTE or (wanted.range_ is not None and wanted.bits > 8)
    levels = np.empty((*rows.shape[1:], rows.shape[0]), np.uint16 if wide else np.uint8)
    for place, part in _strips(rows):
        levels[place] = part.transpose(1, 2, 0)
    return levels


def _dark(what: str, low: float, high: float) -> str:
    return (
        f"{what} are kept as they are and look black; output_range=({low:.4g}, {high:.4g}) "
        f"(--output-range {low:.4g} {high:.4g}) spreads them"
    )
