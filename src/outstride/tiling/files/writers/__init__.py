"""Results as files: written tile by tile, whole before they have their name."""

from __future__ import annotations

from outstride.tiling.files.writers.interface import Made, Maker, Wanted
from outstride.tiling.files.writers.ngff import ome_zarr
from outstride.tiling.files.writers.nifti import nifti, packed_nifti
from outstride.tiling.files.writers.pictures import jpeg, png
from outstride.tiling.files.writers.plain import numpy, zarr
from outstride.tiling.files.writers.sounds import flac, wav
from outstride.tiling.files.writers.tiff import ome_tiff, tiff

__all__ = ["FULL", "MAKERS", "Made", "Wanted"]

MAKERS: dict[str, Maker] = {
    ".npy": numpy, ".zarr": zarr, ".ome.zarr": ome_zarr, ".tif": tiff, ".tiff": tiff, ".ome.tif": ome_tiff,
    ".ome.tiff": ome_tiff, ".png": png, ".jpg": jpeg, ".jpeg": jpeg, ".wav": wav, ".flac": flac,
    ".nii": nifti, ".nii.gz": packed_nifti,
}  # fmt: skip
#: Formats that take the place of all numbers from the beginning.
FULL = tuple(suffix for suffix in MAKERS if not suffix.endswith("zarr"))
