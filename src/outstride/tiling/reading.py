"""What each format of files is as an array: opened, not loaded, where it can be."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from outstride.errors import ArgumentError
from outstride.tiling.quiet import silent

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
TIFFS = (".tif", ".tiff")
#: What a byte of a PNG can stand for at most, by the format's compression.
_MOST_PACKED = 1032
#: Where a PNG says how many bits a number has, and whether it has more channels than one.
_PNG_DEPTH, _PNG_COLOUR, _PNG_HEADER, _DEEP = 24, 25, 26, 16


class _Moved:
    """An array with its axes in the model's order, (1, C, *size), and integers scaled to 1."""

    def __init__(self, array: Any, axes: Sequence[int | None], zero: int = 0, one: int | None = None) -> None:
        """``axes``: for each axis of the model its axis in the array, None where it has none.

        ``zero`` and ``one``: the integers that stand for 0 and, counted from there, for 1.
        """
        self._array, self._axes, self._zero = array, axes, zero
        self.shape = tuple(1 if axis is None else int(array.shape[axis]) for axis in axes)
        integers = array.dtype.kind in "iu"
        self._one = (one or np.iinfo(array.dtype).max) if integers else None
        self.dtype = np.dtype(np.float32) if integers else array.dtype

    def __getitem__(self, key: tuple[slice, ...]) -> Any:
        places = {axis: part for axis, part in zip(self._axes, key, strict=True) if axis is not None}
        part = np.asarray(self._array[tuple(places[axis] for axis in range(len(places)))])
        order = [axis for axis in self._axes if axis is not None]
        part = part.transpose(order)
        missing = tuple(place for place, axis in enumerate(self._axes) if axis is None)
        part = np.expand_dims(part, missing)
        if self._one is None:
            return part
        return (part.astype(np.float32) - np.float32(self._zero)) / np.float32(self._one)


@contextmanager
def _numpy(path: Path) -> Iterator[Any]:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError("an archive of several arrays")  # noqa: TRY004 - the caller made no mistake of type
    yield array


@contextmanager
def _zarr(path: Path) -> Iterator[Any]:
    import zarr

    yield zarr.open_array(path, mode="r")


@contextmanager
def _tiff(path: Path) -> Iterator[Any]:
    import tifffile
    import zarr

    with silent("tifffile"), tifffile.TiffFile(path) as file:
        series = file.series[0]
        axes = series.axes
        channel = next((axes.index(name) for name in "SCQIZ" if name in axes), None)
        if "Y" not in axes or "X" not in axes or len(axes) > 2 + (channel is not None):
            raise ArgumentError(
                f"'source' must be a TIFF of one picture: got axes {axes!r} in {str(path)!r}; legal: 'YX', "
                "'YXS' or 'CYX', or an array of the shape that the model takes"
            )
        _check_whole(series)
        store = series.aszarr(level=0)
        try:
            array: Any = zarr.open_array(store, mode="r")
            yield _Moved(array, (None, channel, axes.index("Y"), axes.index("X")))
        finally:
            store.close()


def _check_whole(series: Any) -> None:
    """Refuse a TIFF that ends before its pixels do: what is missing would be read as zeros."""
    for page in series.pages:
        if page is not None:
            size = page.parent.filehandle.size
            ends = zip(page.dataoffsets, page.databytecounts, strict=True)
            if any(start + count > size for start, count in ends):
                raise ValueError("it ends before its pixels do")


@contextmanager
def _picture(path: Path) -> Iterator[Any]:
    from PIL import Image

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # large pictures are what this is for
    try:
        if path.suffix.lower() == ".png":
            _check_png(path)
        with Image.open(path) as image:
            usual = image.mode in ("L", "LA", "RGB", "RGBA") or image.mode.startswith(("I", "F"))
            colours = "RGBA" if "transparency" in image.info else "RGB"
            values = np.asarray(image if usual else image.convert("L" if image.mode == "1" else colours))
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    if values.dtype.kind == "i":  # how older releases of Pillow hold 16 bits
        values = values.astype(np.uint16)
    yield _Moved(values, (None, 2 if values.ndim == 3 else None, 0, 1))


def _check_png(path: Path) -> None:
    """Refuse a header that promises more pixels than the file can hold, and depth that Pillow would drop."""
    with path.open("rb") as file:
        header = file.read(_PNG_HEADER)
    if len(header) < _PNG_HEADER or header[12:16] != b"IHDR":
        raise ValueError("no PNG")
    width, height = (int.from_bytes(header[at : at + 4], "big") for at in (16, 20))
    if width * height * header[_PNG_DEPTH] > 8 * _MOST_PACKED * path.stat().st_size:
        raise ValueError(f"no whole picture of {width} x {height}")
    if header[_PNG_DEPTH] == _DEEP and header[_PNG_COLOUR]:
        raise ArgumentError(
            f"'source' must be a PNG of 8 bits, or of 16 and one channel: got 16 bits in several channels in "
            f"{str(path)!r}, of which Pillow keeps 8; legal: a 16-bit TIFF"
        )


def wave(path: Path) -> tuple[int, Any]:
    """Samples a second and samples of a sound, (L,) or (L, C)."""
    from scipy.io import wavfile

    with warnings.catch_warnings():
        # Chunks beside the samples are skipped; an end before the samples' is no whole file.
        warnings.filterwarnings("ignore", category=wavfile.WavFileWarning)
        warnings.filterwarnings("error", "Reached EOF|Incomplete", wavfile.WavFileWarning)
        try:
            rate, values = wavfile.read(path, mmap=True)
        except ValueError:  # 24 bits cannot be mapped
            rate, values = wavfile.read(path)
    return int(rate), values


@contextmanager
def _sound(path: Path) -> Iterator[Any]:
    _, values = wave(path)
    # Eight bits are unsigned with silence in the middle; more are signed, 24 of them the high ones of 32.
    zero, one = 0, None
    if values.dtype.kind in "iu":
        one = 1 << (8 * values.dtype.itemsize - 1)
        zero = one if values.dtype.kind == "u" else 0
    yield _Moved(values, (None, 1 if values.ndim == 2 else None, 0), zero, one)


OPENERS: dict[str, Callable[[Path], AbstractContextManager[Any]]] = {
    ".npy": _numpy, ".zarr": _zarr, ".wav": _sound,
}  # fmt: skip
OPENERS |= dict.fromkeys(TIFFS, _tiff) | dict.fromkeys(PICTURES, _picture)


def has_16_bits(path: Path) -> bool:
    """Whether a file that was read is a picture of 16 bits."""
    if path.suffix.lower() in TIFFS:
        import tifffile

        with tifffile.TiffFile(path) as file:
            return bool(file.series[0].dtype == np.uint16)
    if path.suffix.lower() != ".png":
        return False
    with path.open("rb") as file:
        return file.read(_PNG_HEADER)[_PNG_DEPTH] == _DEEP
