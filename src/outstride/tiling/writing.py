"""What makes a file of each format: an array to fill, and what is left to do when it is full."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from outstride.errors import ArgumentError
from outstride.tiling.reading import TIFFS

#: Pixels of a chunk along each axis of a zarr array that is made here.
CHUNK = 256
_USUAL_RATE = 44100
#: Modes of Pillow have up to four channels.
_MOST_CHANNELS = 4
_BYTE, _WORD = 255, 65535


@dataclass
class Facts:
    """What a file says beside its numbers, and what is to be said about it."""

    rate: int = _USUAL_RATE
    """Samples a second of a sound."""
    deep: bool = False
    """Whether a picture is made of one with 16 bits."""
    notes: list[str] = field(default_factory=list)


Made = tuple[Any, Callable[[], object]]
"""An array, and what turns it into the file when it is full."""


def _numpy(path: Path, shape: tuple[int, ...], dtype: Any, facts: Facts) -> Made:
    del facts
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    return array, array.flush


def _zarr(path: Path, shape: tuple[int, ...], dtype: Any, facts: Facts) -> Made:
    del facts
    import zarr

    array = zarr.create_array(path, shape=shape, dtype=dtype, chunks=zarr_chunks(shape))
    return array, lambda: None


def zarr_chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes of the chunks of a result: one image and all channels, parts of the rest."""
    leading = [1, *shape[1:2]][: max(len(shape) - 1, 0)]
    return tuple(max(n, 1) for n in (*leading, *(min(n, CHUNK) for n in shape[len(leading) :])))


def _tiff(path: Path, shape: tuple[int, ...], dtype: Any, facts: Facts) -> Made:
    del facts
    import tifffile

    _check_picture(path, shape)
    truth = np.dtype(dtype).kind == "b"  # black and white in bytes, as in a .png
    array: Any = tifffile.memmap(
        path, shape=shape[-3:], dtype=np.uint8 if truth else dtype, bigtiff=True, photometric="minisblack",
        planarconfig="separate" if shape[-3] > 1 else None, metadata={"axes": "CYX"},
    )  # fmt: skip

    def finish() -> None:
        if truth:
            np.multiply(array, _BYTE, out=array)
        array.flush()

    filled = array.view(np.bool_) if truth else array
    return filled[None] if len(shape) == 4 else filled, finish


def _png(path: Path, shape: tuple[int, ...], dtype: Any, facts: Facts) -> Made:
    from PIL import Image

    _check_picture(path, shape)
    channels = shape[-3]
    if not 1 <= channels <= _MOST_CHANNELS:
        raise ArgumentError(
            f"'out' must be a file that can hold the result: got a .png for {channels} channels; "
            f"legal: 1 to {_MOST_CHANNELS} channels, or a .tif, .npy or .zarr"
        )
    array = np.empty(shape, dtype)

    def save() -> None:
        pixels = array.reshape(channels, *shape[-2:])
        levels = _levels(pixels, facts) if array.dtype.kind == "f" else _labels(pixels)
        levels = levels.transpose(1, 2, 0)
        Image.fromarray(np.ascontiguousarray(levels[..., 0] if channels == 1 else levels)).save(path)

    return array, save


def _levels(pixels: Any, facts: Facts) -> Any:
    """Numbers from 0 to 1 as they are read; where some lie beyond, the lowest black and the highest white."""
    top = _WORD if facts.deep and len(pixels) == 1 else _BYTE
    finite = np.isfinite(pixels)
    if not finite.all():
        facts.notes.append(
            f"{int((~finite).sum())} values are NaN, drawn black, or infinite, drawn black or white"
        )
    kept = pixels[finite].astype(np.float64)
    low, high = (float(kept.min()), float(kept.max())) if kept.size else (0.0, 1.0)
    scaled = np.nan_to_num(pixels.astype(np.float64), nan=min(low, 0.0))
    if np.rint(low * top) < 0 or np.rint(high * top) > top:
        facts.notes.append(f"values from {low:.4g} to {high:.4g} are drawn from black to white")
        scaled = (scaled - low) / ((high - low) or 1)
    return np.rint(np.clip(scaled, 0, 1) * top).astype(np.uint16 if top == _WORD else np.uint8)


def _labels(pixels: Any) -> Any:
    """Integers as they are, in as many bits as they need; truth as black and white."""
    if pixels.dtype.kind == "b":
        return pixels.astype(np.uint8) * np.uint8(_BYTE)
    low, high = (int(pixels.min()), int(pixels.max())) if pixels.size else (0, 0)
    most = _WORD if len(pixels) == 1 else _BYTE
    if low < 0 or high > most:
        raise ArgumentError(
            f"'out' must be a file that can hold the result: got integers from {low} to {high} for a .png; "
            f"legal: 0 to {most}, or a .tif, .npy or .zarr"
        )
    return pixels.astype(np.uint8 if high <= _BYTE else np.uint16)


def _sound(path: Path, shape: tuple[int, ...], dtype: Any, facts: Facts) -> Made:
    from scipy.io import wavfile

    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] != 1) or np.dtype(dtype).kind != "f":
        raise ArgumentError(
            f"'out' must be a file that can hold the result: got a .wav for {shape} of {np.dtype(dtype)}; "
            "legal: (1, C, L) or (C, L) of floats"
        )
    array = np.empty(shape, dtype)

    def save() -> None:
        samples = np.ascontiguousarray(array.reshape(shape[-2:]).T.astype(np.float32))
        wavfile.write(path, facts.rate, samples)

    return array, save


def _check_picture(path: Path, shape: tuple[int, ...]) -> None:
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[0] != 1) or 0 in shape:
        raise ArgumentError(
            f"'out' must be a file that can hold the result: got a {path.suffix} for {shape}; "
            "legal: (1, C, H, W) or (C, H, W), or a .npy or .zarr"
        )


MAKERS: dict[str, Callable[[Path, tuple[int, ...], Any, Facts], Made]] = {
    ".npy": _numpy, ".zarr": _zarr, ".png": _png, ".wav": _sound,
}  # fmt: skip
MAKERS |= dict.fromkeys(TIFFS, _tiff)
