"""Arrays as they are: .npy, zarr, HDF5."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from outstride.errors import ArgumentError
from outstride.tiling.files.axes import Moved
from outstride.tiling.files.readers import ngff
from outstride.tiling.files.readers.opened import File, Opened


@contextmanager
def numpy(file: File, nd: int | None) -> Iterator[Opened]:
    """A .npy file, mapped."""
    file.without("level", "dataset")
    # `numpy.load` takes what it does not know for pickled objects, and says how to trust them.
    yield Opened(placed(np.lib.format.open_memmap(file.place, mode="r"), file, nd))


@contextmanager
def zarr(file: File, nd: int | None) -> Iterator[Opened]:
    """A zarr array of either format, or a level of an OME-Zarr."""
    import zarr

    found = zarr.open(file.place, mode="r", path=file.dataset)
    if isinstance(found, zarr.Group):
        yield ngff.opened(found, file, nd)
        return
    file.without("level")
    names = getattr(found.metadata, "dimension_names", None) or found.attrs.get("_ARRAY_DIMENSIONS")
    yield Opened(placed(found, file, nd, names))


@contextmanager
def hdf5(file: File, nd: int | None) -> Iterator[Opened]:
    """A dataset of an HDF5 file; the only one, or the one that is named."""
    import h5py

    file.without("level")
    with h5py.File(file.place, "r") as content:
        array = _dataset(content, file, h5py)
        names = [dimension.label for dimension in array.dims]
        yield Opened(placed(array, file, nd, names))


def _dataset(content: Any, file: File, h5py: Any) -> Any:
    found: dict[str, Any] = {}

    def see(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim and item.dtype.kind in "fiub":
            found[name] = item

    content.visititems(see)
    wanted = None if file.dataset is None else file.dataset.strip("/")
    if wanted is None and len(found) == 1:
        return next(iter(found.values()))
    if wanted not in found:
        names = ", ".join(repr(name) for name in found) or "none, as the file has no array of numbers"
        raise ArgumentError(
            f"'dataset' must name an array of the source: got {file.dataset!r} for {str(file.place)!r}; "
            f"legal: {names}"
        )
    return found[wanted]


def placed(array: Any, file: File, nd: int | None, names: Any = None) -> Any:
    """An array as a model takes it: by the names of its axes, or as it is, with a channel where it has none.

    Names are taken where they are all known: stores are free to call axes as they like.
    """
    shape = tuple(array.shape)
    letters = "".join(
        str(name or "?").upper()[:1] if len(str(name or "")) == 1 else "?" for name in names or ()
    )
    if len(letters) == len(shape) and not set(letters) - set("NTCSZYX") and len(set(letters)) == len(shape):
        known: str | None = letters
    else:
        known = None
    if file.named is None and known is None:
        if nd is not None and len(shape) == nd:
            return Moved(array, (None, None, *range(nd)))
        return array
    return Moved(array, file.order(known or "", shape, nd))
