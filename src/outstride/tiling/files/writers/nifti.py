"""NIfTI: a volume of which the first axis of the file runs fastest, as the last of a result does."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from outstride.tiling.files.writers.disk import sync_file
from outstride.tiling.files.writers.interface import NUMBERS, RESULT, Encoder, Made, Seen, Wanted
from outstride.tiling.files.writers.rows import Rows

_UNITS = {"millimeter": "mm", "micrometer": "micron", "meter": "meter"}


def nifti(folder: Path, wanted: Wanted) -> Made:
    """A .nii, written where each tile lies in it."""
    return _volume(folder, wanted, RESULT)


def packed_nifti(folder: Path, wanted: Wanted) -> Made:
    """A .nii.gz, packed at the end."""
    made = _volume(folder, wanted, NUMBERS)

    def finish() -> None:
        with (
            (folder / NUMBERS).open("rb") as plain, (folder / RESULT).open("wb") as file,
            gzip.GzipFile("", "wb", 6, file, mtime=0) as packed,
        ):  # fmt: skip
            shutil.copyfileobj(plain, packed, 1 << 20)
        sync_file(folder / RESULT)

    made.finish, made.again = finish, None
    return made


def _volume(folder: Path, wanted: Wanted, name: str) -> Made:
    import nibabel

    shape = wanted.shape
    spatial = len(wanted.tile)
    if spatial != 3 or len(shape) not in (4, 5) or shape[:-4] not in ((), (1,)) or 0 in shape:
        raise wanted.unfit(f"a volume for {shape}", "(1, C, D, H, W) or (C, D, H, W), or a .npy or .zarr")
    encode, path = Encoder(wanted, masks=True, least=True), folder / name
    channels, *sizes = shape[-4:]
    stored = (channels, *sizes) if channels > 1 else tuple(sizes)
    if not path.exists():
        begun = folder / "begun"
        header: Any = nibabel.Nifti1Header()  # type: ignore[no-untyped-call]
        header.set_data_dtype(encode.dtype)
        header.set_data_shape((*stored[::-1][:3], *((1, channels) if channels > 1 else ())))
        header["scl_slope"], header["scl_inter"], header["vox_offset"] = 1, 0, 352
        distances = (wanted.facts.spacing or (1.0, 1.0, 1.0))[::-1]
        header.set_zooms((*distances, *((1.0, 1.0) if channels > 1 else ())))
        header.set_xyzt_units(_UNITS.get(wanted.facts.unit or "", "unknown"))
        header.set_sform(_affine(wanted, distances), "scanner")
        begun.write_bytes(header.binaryblock + bytes(4))
        begun.replace(path)
    rows = Rows(path, stored, encode.dtype, 352)

    def again(path: Path) -> AbstractContextManager[Any]:
        volume: Any = nibabel.load(path)
        array = volume.dataobj.get_unscaled()
        return nullcontext(Seen(array.reshape(stored[::-1], order="F").T, shape))

    return Made(Seen(rows, shape), encode, rows.sync, rows.sync, rows.close, again)


def _affine(wanted: Wanted, distances: Sequence[float]) -> Any:
    """Where the elements of the file lie: its first axis is the last of the result."""
    affine = np.diag([*distances, 1.0])
    if wanted.facts.directions is not None:
        *steps, origin = wanted.facts.directions
        affine[:3] = np.array([*steps[::-1], origin]).T
    return affine
