"""Read a picture's file as numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from outstride.artifacts.spectrum import Floats
from outstride.errors import ArgumentError


def read_picture(path: Path) -> Floats:
    """The picture as (3, H, W) from 0 to 1."""
    try:
        with Image.open(path) as file:
            values: Floats = np.asarray(file.convert("RGB"), dtype=np.float64)
    except (OSError, UnidentifiedImageError) as error:
        raise ArgumentError(
            f"'PICTURE' must be a picture that can be read: got {str(path)!r} ({error}); legal: a .png"
        ) from error
    return np.moveaxis(values, -1, 0) / 255
