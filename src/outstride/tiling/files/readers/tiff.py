"""TIFF, and the slides that are TIFF: a level of the first picture, its segments read as they are needed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from outstride.tiling.files.axes import Moved, scaled
from outstride.tiling.files.facts import Facts
from outstride.tiling.files.readers.opened import File, Opened
from outstride.tiling.quiet import silent

#: Micrometers in what a TIFF measures in.
_UNITS = {2: 25400.0, 3: 10000.0}


@contextmanager
def tiff(file: File, nd: int | None) -> Iterator[Opened]:
    """A level of the first series of a TIFF."""
    import tifffile
    import zarr

    file.without("dataset")
    with silent("tifffile"), tifffile.TiffFile(file.place) as content:
        levels = content.series[0].levels
        level = file.leveled(len(levels))
        series = levels[level]
        order = file.order(series.axes, tuple(series.shape), nd)
        _check_whole(series)
        store = levels[0].aszarr(level=level)
        try:
            array: Any = zarr.open_array(store, mode="r")
            values, dtype = scaled(array.dtype)
            facts = Facts(deep=array.dtype == np.uint16)
            facts.spacing = _spacing(content, levels[0], series, len(order) - 2)
            facts.unit = None if facts.spacing is None else "micrometer"
            yield Opened(Moved(array, order, values, dtype), facts)
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


def _spacing(content: Any, first: Any, level: Any, nd: int) -> tuple[float, ...] | None:
    """Micrometers between pixels of a level, by what an OME-TIFF, a slide or any TIFF says of the largest."""
    if nd != 2:
        return None
    page, sizes = first.keyframe, None
    if content.is_svs:
        said = re.search(r"\bMPP\s*=\s*([\d.]+)", page.description)
        sizes = [float(said[1]) if said else 0.0] * 2
    elif content.is_ome:
        sizes = _from_ome(content.ome_metadata)
    elif "XResolution" in page.tags and page.tags.get("ResolutionUnit") is not None:
        unit = _UNITS.get(int(page.tags["ResolutionUnit"].value), 0.0)
        counts = [page.tags[name].value for name in ("YResolution", "XResolution")]
        sizes = [unit * below / above if above else 0.0 for above, below in counts]
    if sizes is None or min(sizes) <= 0:
        return None
    places = [[one.axes.index(name) for name in "YX"] for one in (first, level)]
    return tuple(
        size * first.shape[large] / level.shape[small]
        for size, large, small in zip(sizes, *places, strict=True)
    )


def _from_ome(xml: str) -> list[float] | None:
    from tifffile import xml2dict

    image = xml2dict(xml)["OME"]["Image"]
    pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
    names = [f"PhysicalSize{axis}" for axis in "YX"]
    usual = all(pixels.get(f"{name}Unit", "µm") == "µm" for name in names)
    return (
        [float(pixels[name]) for name in names] if usual and all(name in pixels for name in names) else None
    )
