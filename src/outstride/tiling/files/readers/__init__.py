"""Files as arrays: opened, not loaded, where they can be."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from outstride.tiling.files.readers.nifti import nifti
from outstride.tiling.files.readers.opened import File, Opened
from outstride.tiling.files.readers.pictures import picture
from outstride.tiling.files.readers.plain import hdf5, numpy, zarr
from outstride.tiling.files.readers.sounds import flac, wav
from outstride.tiling.files.readers.tiff import tiff

__all__ = ["OPENERS", "PICTURES", "SOUNDS", "TIFFS", "File", "Opened"]

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
#: Slides are TIFF by other names.
TIFFS = (".tif", ".tiff", ".svs", ".ndpi", ".scn", ".bif", ".qptiff")
SOUNDS = (".wav", ".flac")

Opener = Callable[[File, "int | None"], AbstractContextManager[Opened]]

OPENERS: dict[str, Opener] = {
    ".npy": numpy, ".zarr": zarr, ".wav": wav, ".flac": flac, ".nii": nifti, ".nii.gz": nifti, ".h5": hdf5,
    ".hdf5": hdf5,
}  # fmt: skip
OPENERS |= dict.fromkeys(TIFFS, tiff) | dict.fromkeys(PICTURES, picture)
