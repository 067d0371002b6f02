"""TIFF: flat and written in place, or as OME-TIFF with levels, which is made of the numbers at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np

from outstride.tiling.files.writers import pyramid
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
from outstride.tiling.files.writers.ngff import axes_of, is_labels
from outstride.tiling.files.writers.rows import Rows

#: Pixels of a segment along each axis.
_SEGMENT = 256
_UNITS = {"micrometer": "µm", "millimeter": "mm"}


def tiff(folder: Path, wanted: Wanted) -> Made:
    """A TIFF of one picture, channel after channel, written where each tile lies in it."""
    import tifffile

    check_picture(wanted, ".tif")
    encode, path = Encoder(wanted, masks=True), folder / RESULT
    shape = wanted.shape[-3:]
    if not path.exists():
        begun = folder / "begun"
        tifffile.imwrite(
            begun, shape=shape, dtype=encode.dtype, bigtiff=True, photometric="minisblack",
            planarconfig="separate" if shape[0] > 1 else None, metadata={"axes": "CYX"},
            align=tifffile.TIFF.ALLOCATIONGRANULARITY,
        )  # fmt: skip
        begun.replace(path)
    with tifffile.TiffFile(path) as file:
        offset = file.series[0].dataoffset
    if offset is None:
        raise ValueError("its pixels do not lie in one piece")
    rows = Rows(path, shape, encode.dtype, offset)

    def again(path: Path) -> AbstractContextManager[Any]:
        return nullcontext(Seen(tifffile.memmap(path, mode="r").reshape(shape), wanted.shape))

    return Made(Seen(rows, wanted.shape), encode, rows.sync, rows.sync, rows.close, again)


def ome_tiff(folder: Path, wanted: Wanted) -> Made:
    """An OME-TIFF with levels, in compressed segments, made of the numbers beside it."""
    axes = axes_of(wanted).upper()
    encode = Encoder(wanted, masks=True, least=True)
    shape = wanted.shape[-len(axes) :]
    rows = Rows(folder / NUMBERS, shape, encode.dtype)

    def finish() -> None:
        levels = [rows]
        for number, size in enumerate(pyramid.shapes_of(shape)[1:], 1):
            level = Rows(folder / f"{NUMBERS}-{number}", size, encode.dtype)
            pyramid.shrink(levels[-1], level, labels=is_labels(wanted))
            levels.append(level)
        _write(folder / RESULT, levels, axes, wanted)
        for level in levels[1:]:
            level.close()
        sync_file(folder / RESULT)

    return Made(
        Seen(rows, wanted.shape), encode, finish, rows.sync, rows.close, partial(_again, wanted, axes)
    )


@contextmanager
def _again(wanted: Wanted, axes: str, path: Path) -> Iterator[Any]:
    """An OME-TIFF that was written here, as an array of the result's shape."""
    import tifffile
    import zarr

    with tifffile.imread(path, aszarr=True, level=0) as store:
        array: Any = zarr.open_array(store, mode="r")
        yield Seen(_Planar(array) if _is_coloured(wanted, axes) else array, wanted.shape)


class _Planar:
    """An array (H, W, C) as (C, H, W)."""

    def __init__(self, array: Any) -> None:
        self._array, self.dtype = array, array.dtype
        self.shape = (array.shape[2], *array.shape[:2])

    def __getitem__(self, key: tuple[slice, ...]) -> Any:
        return np.asarray(self._array[key[1], key[2], key[0]]).transpose(2, 0, 1)


def _is_coloured(wanted: Wanted, axes: str) -> bool:
    """Whether three channels are the colours of a picture: integers by a scale."""
    return axes == "CYX" and wanted.shape[-3] == 3 and wanted.range_ is not None


def _write(path: Path, levels: list[Rows], axes: str, wanted: Wanted) -> None:
    import tifffile

    coloured = _is_coloured(wanted, axes)
    metadata: dict[str, Any] = {
        "axes": "YXS" if coloured else axes, "UUID": str(uuid5(NAMESPACE_URL, wanted.identity)),
        "Name": wanted.name,
    }  # fmt: skip
    unit = _UNITS.get(wanted.facts.unit or "")
    if wanted.facts.spacing is not None and unit is not None:
        for axis, distance in zip("ZYX"[-len(wanted.facts.spacing) :], wanted.facts.spacing, strict=True):
            metadata |= {f"PhysicalSize{axis}": distance, f"PhysicalSize{axis}Unit": unit}
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as file:
        for number, level in enumerate(levels):
            sizes = (*level.shape[1:], 3) if coloured else level.shape
            file.write(
                _segments(level, coloured), shape=sizes, dtype=level.dtype, tile=(_SEGMENT, _SEGMENT),
                photometric="rgb" if coloured else "minisblack", compression="zlib", maxworkers=1,
                subifds=0 if number else len(levels) - 1, subfiletype=1 if number else 0,
                metadata=None if number else metadata,
            )  # fmt: skip


def _segments(level: Rows, coloured: bool) -> Iterator[Any]:
    """The segments of a level in the order of the file, each of full size."""
    planes: Callable[[tuple[slice, ...]], Any] = level.__getitem__
    shape = (1, *level.shape[1:]) if coloured else level.shape
    for key in pyramid.blocks(shape, _SEGMENT):
        if coloured:
            part = planes((slice(0, 3), *key[1:])).transpose(1, 2, 0)
            missing = [(0, _SEGMENT - part.shape[0]), (0, _SEGMENT - part.shape[1]), (0, 0)]
        else:
            part = planes(key).reshape([part.stop - part.start for part in key[-2:]])
            missing = [(0, _SEGMENT - n) for n in part.shape]
        yield np.ascontiguousarray(np.pad(part, missing))
