"""Volumes of NIfTI, in the units that their header scales to."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from outstride.tiling.files.axes import Moved
from outstride.tiling.files.facts import Facts
from outstride.tiling.files.readers.opened import File, Opened
from outstride.tiling.quiet import silent

#: Axes as they are stored: the first runs fastest.
_AXES = "XYZTC"
_UNITS = {"mm": "millimeter", "micron": "micrometer", "meter": "meter"}


@contextmanager
def nifti(file: File, nd: int | None) -> Iterator[Opened]:
    """A volume, mapped; one that is compressed as a whole is unpacked into a temporary file first."""
    import nibabel

    file.without("level", "dataset")
    with ExitStack() as held:
        path = file.place
        if path.suffix.lower() == ".gz":
            path = _unpacked(path, Path(held.enter_context(TemporaryDirectory())))
        with silent("nibabel.global"):  # which says what it repairs
            image: Any = nibabel.load(path)
        raw = image.dataobj.get_unscaled()
        slope, intercept = (float(number) for number in (image.dataobj.slope, image.dataobj.inter))
        order = file.order(_AXES[: raw.ndim] if raw.ndim <= len(_AXES) else "", tuple(raw.shape), nd)
        places = [place for place in order[2:] if place is not None]
        facts = Facts(unit=_UNITS.get(image.header.get_xyzt_units()[0]))
        facts.spacing = tuple(float(image.header.get_zooms()[place]) for place in places)
        if max(places) < 3 and len(places) == 3:
            columns = [tuple(float(x) for x in image.affine[:3, column]) for column in (*places, 3)]
            facts.directions = tuple(columns)
        if (slope, intercept) == (1.0, 0.0):
            yield Opened(Moved(raw, order), facts)
            return

        def scaled(part: Any) -> Any:
            return (part.astype(np.float64) * slope + intercept).astype(dtype)

        dtype = np.dtype(np.float64 if raw.dtype == np.float64 else np.float32)
        yield Opened(Moved(raw, order, scaled, dtype), facts)


def _unpacked(path: Path, folder: Path) -> Path:
    place = folder / "volume.nii"
    with gzip.open(path) as packed, place.open("wb") as unpacked:
        shutil.copyfileobj(packed, unpacked, 1 << 20)
    return place
