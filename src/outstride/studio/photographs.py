"""Photographs that the page works on: decoded in memory, bounded, and kept for the next question."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from outstride.errors import ArgumentError, UnsupportedError
from outstride.studio.files import page_folder

if TYPE_CHECKING:
    from PIL import Image

Floats = npt.NDArray[np.float32]
#: Bytes of a file, pixels of what it holds, and the longest side that is worked on.
MOST_BYTES, MOST_PIXELS, LONGEST_SIDE = 8 << 20, 24_000_000, 288
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_KEPT = 8
SHIPPED = "photograph"
CREDIT = "Rear Admiral Grace M. Hopper, US Navy, public domain"


@dataclass(frozen=True, eq=False)
class Photograph:
    """A picture's name and its grey values, (height, width) from 0, black, to 1."""

    name: str
    grey: Floats

    def shrunk(self, side: int) -> Floats:
        """The same with no side longer than that."""
        from PIL import Image

        height, width = self.grey.shape
        if max(height, width) <= side:
            return self.grey
        scale = side / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        made = Image.fromarray(self.grey).resize(size, Image.Resampling.LANCZOS)
        return np.clip(np.asarray(made, np.float32), 0, 1)


class Album:
    """The latest photographs by name; what is older is forgotten and has to be sent again."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Photograph] = OrderedDict()
        self._lock = Lock()

    def put(self, encoded: str) -> Photograph:
        """Decode a file that was sent as base64.

        Raises:
            ArgumentError: it is no picture, or too large.
        """
        content = _decoded(encoded)
        return self._keep(Photograph(hashlib.sha256(content).hexdigest()[:16], _read(content)))

    def get(self, name: str) -> Photograph:
        """A photograph that was put here, or the one that the package ships.

        Raises:
            ArgumentError: it was forgotten.
        """
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        if name in ("", SHIPPED):
            content = (page_folder() / "photograph.jpg").read_bytes()
            return self._keep(Photograph(SHIPPED, _read(content)))
        raise ArgumentError(f"'picture' must be one that was sent: got {name[:20]!r}; legal: send it again")

    def _keep(self, photograph: Photograph) -> Photograph:
        with self._lock:
            self._kept[photograph.name] = photograph
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return photograph


def _decoded(encoded: str) -> bytes:
    try:
        content = base64.b64decode(encoded.partition("base64,")[2] or encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ArgumentError("'picture' must be a file as base64: got something else; legal: a PNG") from None
    if len(content) > MOST_BYTES:
        raise ArgumentError(
            f"'picture' must be a small file: got {len(content)} bytes; legal: at most {MOST_BYTES}"
        )
    return content


def _read(content: bytes) -> Floats:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise UnsupportedError(
            "'picture' must have Pillow, which is not installed; legal: pip install 'outstride[studio]'"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its size, which is looked at before anything is decoded
            with Image.open(io.BytesIO(content), formats=_FORMATS) as file:
                if file.width * file.height > MOST_PIXELS:
                    raise _too_many(f"{file.width} x {file.height}")
                file.draft("L", (LONGEST_SIDE, LONGEST_SIDE))
                turned = _grey(ImageOps.exif_transpose(file))
                turned.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
                return (np.asarray(turned, np.float64) / 255).clip(0, 1).astype(np.float32)
    except ArgumentError:
        raise
    except Image.DecompressionBombError:  # of so many pixels that the file is not even opened
        raise _too_many(f"{len(content)} bytes that hold more") from None
    except (OSError, ValueError, SyntaxError, EOFError, IndexError) as error:
        raise ArgumentError(
            f"'picture' must be a picture that can be read: got {len(content)} bytes "
            f"({type(error).__name__}); legal: {', '.join(_FORMATS)}"
        ) from error


def _too_many(got: str) -> ArgumentError:
    return ArgumentError(
        f"'picture' must have few enough pixels: got {got}; legal: at most {MOST_PIXELS} of them"
    )


def _grey(picture: Image.Image) -> Image.Image:
    """Greys from 0 to 255, what is transparent on white; those of 16 bits keep their fractions."""
    from PIL import Image

    if picture.mode.startswith("I"):
        return Image.fromarray(np.asarray(picture, np.float32) / np.float32(257))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    return picture.convert("L")


def png(plane: npt.NDArray[Any]) -> str:
    """Numbers from 0 to 1, (height, width), as a picture in a link."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray((np.clip(plane, 0, 1) * 255).round().astype(np.uint8)).save(
        buffer, "PNG", compress_level=1
    )
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
