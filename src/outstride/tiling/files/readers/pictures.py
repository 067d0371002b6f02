"""Pictures that Pillow decodes; they are loaded, not opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from outstride.errors import ArgumentError
from outstride.tiling.files.axes import Moved, scaled
from outstride.tiling.files.facts import Facts
from outstride.tiling.files.readers.opened import File, Opened

#: What a byte of a PNG can stand for at most, by the format's compression.
_MOST_PACKED = 1032
#: Where a PNG says how many bits a number has, and whether it has more channels than one.
_PNG_DEPTH, _PNG_COLOUR, _PNG_HEADER, _DEEP = 24, 25, 26, 16


@contextmanager
def picture(file: File, nd: int | None) -> Iterator[Opened]:
    """A picture of one to four channels."""
    file.without("level", "dataset")
    path = file.place
    deep = path.suffix.lower() == ".png" and _is_deep(path)
    values = decoded(path)
    order = file.order("YX" if values.ndim == 2 else "YXC", values.shape, nd)
    yield Opened(Moved(values, order, *scaled(values.dtype)), Facts(deep=deep))


def decoded(path: Path) -> np.ndarray[Any, Any]:
    """The numbers of a picture by rows, columns and, where there are several, channels."""
    from PIL import Image

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # large pictures are what this is for
    try:
        with Image.open(path) as image:
            usual = image.mode in ("L", "LA", "RGB", "RGBA") or image.mode.startswith(("I", "F"))
            colours = "RGBA" if "transparency" in image.info else "RGB"
            values = np.asarray(image if usual else image.convert("L" if image.mode == "1" else colours))
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    # Older releases of Pillow hold 16 bits as 32.
    return values.astype(np.uint16) if values.dtype.kind == "i" else values


def _is_deep(path: Path) -> bool:
    """Whether a PNG has 16 bits.

    Refuses a header that promises more pixels than the file can hold, and depth that Pillow would drop.
    """
    with path.open("rb") as file:
        header = file.read(_PNG_HEADER)
    if len(header) < _PNG_HEADER or header[12:16] != b"IHDR":
        raise ValueError("no PNG")
    width, height = (int.from_bytes(header[at : at + 4], "big") for at in (16, 20))
    if width * height * header[_PNG_DEPTH] > 8 * _MOST_PACKED * path.stat().st_size:
        raise ValueError(f"no whole picture of {width} x {height}")
    deep = header[_PNG_DEPTH] == _DEEP
    if deep and header[_PNG_COLOUR]:
        raise ArgumentError(
            f"'source' must be a PNG of 8 bits, or of 16 and one channel: got 16 bits in several channels in "
            f"{str(path)!r}, of which Pillow keeps 8; legal: a 16-bit TIFF"
        )
    return deep
