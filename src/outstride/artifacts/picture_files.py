"""Read a picture's file as numbers."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from outstride.artifacts.spectrum import Floats
from outstride.errors import ArgumentError

#: What Pillow raises for files that are no pictures, or are broken, cut short or too large.
_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, IndexError, Image.DecompressionBombError)


def read_picture(path: Path) -> Floats:
    """The picture as (3, H, W) from 0, black, to 1, white; what is transparent lies on white.

    Raises:
        ArgumentError: it cannot be read, or holds numbers that are not finite.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what cannot be read at all is said below
            with Image.open(path) as file:
                grey = file.mode.startswith(("I", "F"))
                values = _deep(file) if grey else _colours(file)
    except _UNREADABLE as error:
        raise ArgumentError(
            f"'PICTURE' must be a picture that can be read: got {str(path)!r} ({error}); legal: a .png"
        ) from error
    if not np.isfinite(values).all():
        raise ArgumentError(
            f"'PICTURE' must hold finite numbers: got NaN or Inf in {str(path)!r}; legal: 0 to 1"
        )
    return values


def _colours(file: Image.Image) -> Floats:
    """Eight bits a channel, whatever they stand for: colours, places in a palette or one grey."""
    if not file.has_transparency_data:
        return np.moveaxis(np.asarray(file.convert("RGB"), dtype=np.float64), -1, 0) / 255
    values = np.moveaxis(np.asarray(file.convert("RGBA"), dtype=np.float64), -1, 0) / 255
    seen: Floats = values[:3] * values[3] + (1 - values[3])
    return seen


def _deep(file: Image.Image) -> Floats:
    """One grey of more than eight bits, which Pillow's own conversion to colours cuts off at 255."""
    values: Floats = np.asarray(file, dtype=np.float64)
    return np.repeat((values / _white(file, float(values.max(initial=0))))[None], 3, axis=0)


def _white(file: Image.Image, largest: float) -> float:
    """The number that stands for white: the format's, or the least usual one that the picture keeps below."""
    if file.mode.startswith("I;16") or (file.mode == "I" and file.format == "PNG"):
        return 65535
    # A network's result goes a little beyond 1 where it goes from 0 to 1.
    usual = [255, 65535, 2**31 - 1] if file.mode == "I" else [1, 255, 65535]
    return next((white for white in usual if largest <= (2 if white == 1 else white)), largest)
