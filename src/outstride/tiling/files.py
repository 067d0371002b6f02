"""Files as arrays: sources are opened, not loaded, where they can be; results are renamed into place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from outstride.errors import ArgumentError, UnsupportedError

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
TIFFS = (".tif", ".tiff")
READABLE = (".npy", ".zarr", *TIFFS, *PICTURES, ".wav")
WRITABLE = (".npy", ".zarr", *TIFFS, ".png", ".wav")
#: Pixels of a chunk along each axis of a zarr array that is made here.
CHUNK = 256
_USUAL_RATE = 44100


class _Moved:
    """An array with its axes in the model's order, (1, C, *size), and integers scaled to 1."""

    def __init__(self, array: Any, axes: Sequence[int | None]) -> None:
        """``axes``: for each axis of the model its axis in the array, None where it has none."""
        self._array, self._axes = array, axes
        self.shape = tuple(1 if axis is None else int(array.shape[axis]) for axis in axes)
        self._top = np.iinfo(array.dtype).max if array.dtype.kind in "iu" else None
        self.dtype = np.dtype(np.float32) if self._top else array.dtype

    def __getitem__(self, key: tuple[slice, ...]) -> Any:
        places = {axis: part for axis, part in zip(self._axes, key, strict=True) if axis is not None}
        part = np.asarray(self._array[tuple(places[axis] for axis in range(len(places)))])
        order = [axis for axis in self._axes if axis is not None]
        part = part.transpose(order)
        missing = tuple(place for place, axis in enumerate(self._axes) if axis is None)
        part = np.expand_dims(part, missing)
        return part.astype(np.float32) / np.float32(self._top) if self._top else part


@contextmanager
def opened(source: Any) -> Iterator[Any]:
    """A file as an array of the shape that models take; what is no path is an array already.

    Raises:
        ArgumentError: there is no such file, it is of another kind, or it cannot be read.
        UnsupportedError: the library for its format is not installed.
    """
    if not isinstance(source, (str, Path)):
        yield source
        return
    path = Path(source)
    suffix = path.suffix.lower()
    if suffix not in READABLE or not path.exists():
        raise ArgumentError(
            f"'source' must be a file that exists, of {', '.join(READABLE)}: got {str(path)!r}; "
            "legal: such a file, or an array"
        )
    _need(suffix)
    with ExitStack() as held:
        try:
            array = held.enter_context(_OPENERS[suffix](path))
        except ArgumentError:
            raise
        except (OSError, ValueError, SyntaxError) as error:
            raise ArgumentError(
                f"'source' must be a file that can be read: got {str(path)!r} ({error}); "
                f"legal: a whole {suffix} file"
            ) from error
        yield array


def _need(suffix: str) -> None:
    packages: dict[str, tuple[str, ...]] = {".zarr": ("zarr",), ".wav": ("scipy",)}
    packages |= dict.fromkeys(TIFFS, ("tifffile", "zarr")) | dict.fromkeys(PICTURES, ("PIL",))
    missing = [package for package in packages.get(suffix, ()) if find_spec(package) is None]
    if missing:
        raise UnsupportedError(
            f"{suffix} files need {' and '.join(missing)}: pip install 'outstride[tiling]'."
        )


@contextmanager
def _numpy(path: Path) -> Iterator[Any]:
    yield np.load(path, mmap_mode="r", allow_pickle=False)


@contextmanager
def _zarr(path: Path) -> Iterator[Any]:
    import zarr

    yield zarr.open_array(path, mode="r")


@contextmanager
def _tiff(path: Path) -> Iterator[Any]:
    import tifffile
    import zarr

    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        axes = series.axes
        channel = next((axes.index(name) for name in "SCQIZ" if name in axes), None)
        if "Y" not in axes or "X" not in axes or len(axes) > 2 + (channel is not None):
            raise ArgumentError(
                f"'source' must be a TIFF of one picture: got axes {axes!r} in {str(path)!r}; legal: 'YX', "
                "'YXS' or 'CYX', or an array of the shape that the model takes"
            )
        store = series.aszarr(level=0)
        try:
            array: Any = zarr.open_array(store, mode="r")
            yield _Moved(array, (None, channel, axes.index("Y"), axes.index("X")))
        finally:
            store.close()


@contextmanager
def _picture(path: Path) -> Iterator[Any]:
    from PIL import Image

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # large pictures are what this is for
    try:
        with Image.open(path) as image:
            usual = image.mode in ("L", "RGB", "RGBA") or image.mode.startswith(("I;16", "F"))
            values = np.asarray(image if usual else image.convert("L" if image.mode == "1" else "RGB"))
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    yield _Moved(values, (None, 2 if values.ndim == 3 else None, 0, 1))


def _wave(path: Path) -> tuple[int, Any]:
    """Samples a second and samples of a sound."""
    from scipy.io import wavfile

    try:
        rate, values = wavfile.read(path, mmap=True)
    except ValueError:  # 24 bits cannot be mapped
        rate, values = wavfile.read(path)
    return int(rate), values


@contextmanager
def _sound(path: Path) -> Iterator[Any]:
    _, values = _wave(path)
    yield _Moved(values, (None, 1 if values.ndim == 2 else None, 0))


_OPENERS: dict[str, Callable[[Path], Any]] = {".npy": _numpy, ".zarr": _zarr, ".wav": _sound}
_OPENERS |= dict.fromkeys(TIFFS, _tiff) | dict.fromkeys(PICTURES, _picture)


def rate_of(source: Any) -> int:
    """Samples a second of a sound; a usual number for what is no file of one."""
    if not isinstance(source, (str, Path)) or Path(source).suffix.lower() != ".wav":
        return _USUAL_RATE
    return _wave(Path(source))[0]


def check_path(path: Path) -> None:
    """Refuse a path at which no result can be made.

    Raises:
        ArgumentError: another kind of file, no such folder, or a .zarr that exists.
        UnsupportedError: the library for its format is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in WRITABLE or not path.absolute().parent.is_dir():
        raise ArgumentError(
            f"'out' must be a file of {', '.join(WRITABLE)} in a folder that exists: got {str(path)!r}; "
            "legal: result.npy"
        )
    if suffix == ".zarr" and path.exists():
        raise ArgumentError(
            f"'out' must not exist yet: got {str(path)!r}; legal: another name, or the opened array"
        )
    _need(suffix)


@contextmanager
def created(path: Path, shape: tuple[int, ...], dtype: Any, rate: int) -> Iterator[Any]:
    """An array that is the file's content; written beside and renamed, so nothing half-done is left."""
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        with _MAKERS[path.suffix.lower()](beside, shape, dtype, rate) as array:
            yield array
        beside.replace(path)
    finally:
        if beside.is_dir():
            shutil.rmtree(beside)
        else:
            beside.unlink(missing_ok=True)


@contextmanager
def _new_numpy(path: Path, shape: tuple[int, ...], dtype: Any, rate: int) -> Iterator[Any]:
    del rate
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    yield array
    array.flush()


@contextmanager
def _new_zarr(path: Path, shape: tuple[int, ...], dtype: Any, rate: int) -> Iterator[Any]:
    del rate
    import zarr

    leading = [1, *shape[1:2]][: max(len(shape) - 1, 0)]
    chunks = (*leading, *(min(n, CHUNK) for n in shape[len(leading) :]))
    yield zarr.create_array(path, shape=shape, dtype=dtype, chunks=tuple(max(n, 1) for n in chunks))


@contextmanager
def _new_tiff(path: Path, shape: tuple[int, ...], dtype: Any, rate: int) -> Iterator[Any]:
    del rate
    import tifffile

    _check_picture(path, shape)
    array: Any = tifffile.memmap(
        path, shape=shape[-3:], dtype=dtype, bigtiff=True, photometric="minisblack",
        planarconfig="separate" if shape[-3] > 1 else None, metadata={"axes": "CYX"},
    )  # fmt: skip
    yield array[None] if len(shape) == 4 else array
    array.flush()


@contextmanager
def _new_png(path: Path, shape: tuple[int, ...], dtype: Any, rate: int) -> Iterator[Any]:
    del rate
    from PIL import Image

    _check_picture(path, shape)
    channels = shape[-3] if len(shape) > 2 else 1
    if channels not in (1, 3, 4):
        raise ArgumentError(
            f"'out' must be a file that can hold the result: got a .png for {channels} channels; "
            "legal: 1, 3 or 4 channels, or a .tif, .npy or .zarr"
        )
    array = np.empty(shape, dtype)
    yield array
    pixels = array.reshape(channels, *shape[-2:]).transpose(1, 2, 0)
    if array.dtype.kind == "f":  # numbers from 0 to 1, as pictures are read
        pixels = np.rint(np.clip(pixels, 0, 1) * 255)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8).squeeze(2 if channels == 1 else ())).save(path)


@contextmanager
def _new_sound(path: Path, shape: tuple[int, ...], dtype: Any, rate: int) -> Iterator[Any]:
    from scipy.io import wavfile

    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] != 1) or np.dtype(dtype).kind != "f":
        raise ArgumentError(
            f"'out' must be a file that can hold the result: got a .wav for {shape}; "
            "legal: (1, C, L) or (C, L)"
        )
    array = np.empty(shape, dtype)
    yield array
    wavfile.write(path, rate, np.ascontiguousarray(array.reshape(shape[-2:]).T.astype(np.float32)))


def _check_picture(path: Path, shape: tuple[int, ...]) -> None:
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[0] != 1):
        raise ArgumentError(
            f"'out' must be a file that can hold the result: got a {path.suffix} for {shape}; "
            "legal: (1, C, H, W) or (C, H, W), or a .npy or .zarr"
        )


_MAKERS: dict[str, Callable[..., Any]] = {".npy": _new_numpy, ".zarr": _new_zarr, ".png": _new_png}
_MAKERS |= {".wav": _new_sound} | dict.fromkeys(TIFFS, _new_tiff)
