"""Arrays as they are: .npy and zarr."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from outstride.errors import ArgumentError
from outstride.tiling.box import Box
from outstride.tiling.files.writers.disk import sync_files, sync_whole
from outstride.tiling.files.writers.interface import RESULT, Encoder, Made, Wanted
from outstride.tiling.files.writers.rows import Rows

#: Pixels of a chunk along each axis of a zarr array that is made here.
CHUNK = 256


def numpy(folder: Path, wanted: Wanted) -> Made:
    """A .npy file, written where each tile lies in it."""
    encode, path = Encoder(wanted), folder / RESULT
    if not path.exists():
        begun = folder / "begun"
        with begun.open("wb") as file:
            descr = np.lib.format.dtype_to_descr(encode.dtype)
            header = {"descr": descr, "fortran_order": False, "shape": wanted.shape}
            np.lib.format.write_array_header_2_0(file, header)
        begun.replace(path)
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_2_0(file)
        offset = file.tell()
    rows = Rows(path, wanted.shape, encode.dtype, offset)
    return Made(
        rows, encode, rows.sync, rows.sync, rows.close, lambda path: nullcontext(np.load(path, mmap_mode="r"))
    )


def zarr(folder: Path, wanted: Wanted) -> Made:
    """A zarr array, whose chunks lie within tiles: none is written by two."""
    import zarr

    encode, path = Encoder(wanted), folder / RESULT
    if not path.exists():
        begun = folder / "begun"
        zarr.create_array(begun, shape=wanted.shape, dtype=encode.dtype, chunks=chunks_of(wanted))
        begun.rename(path)
    without_torn_chunks(path)
    array = zarr.open_array(path, mode="r+")
    check_tiles(array.chunks, wanted)
    return Made(
        array, encode, lambda: sync_whole(path), lambda boxes: sync_chunks(array, path, boxes),
        again=lambda path: nullcontext(zarr.open_array(path, mode="r")),
    )  # fmt: skip


def chunks_of(wanted: Wanted) -> tuple[int, ...]:
    """Sizes of chunks: on the axes that are tiled a divisor of the tile, a plane of one channel."""
    shape, nd = wanted.shape, len(wanted.tile)
    leading = [1, *shape[1:2]][: max(len(shape) - 1, 0)]
    tiled = [_chunk(tile, n) for tile, n in zip(wanted.tile, shape[-nd:], strict=True)]
    sizes = [*(min(n, CHUNK) for n in shape[len(leading) :])]
    sizes[max(len(sizes) - nd, 0) :] = tiled[-len(sizes) :] if sizes else []
    return tuple(max(n, 1) for n in (*leading, *sizes))


def _chunk(tile: int, size: int) -> int:
    """The largest divisor of a tile that is no larger than a chunk should be; of an odd tile all of it."""
    if tile >= size:
        return min(size, CHUNK)
    best = max(n for n in range(1, min(tile, CHUNK) + 1) if tile % n == 0)
    return best if best * 8 >= CHUNK or best * 8 >= tile else tile


def even_chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes of chunks where no tile is known: one image and all channels, parts of the rest."""
    leading = [1, *shape[1:2]][: max(len(shape) - 1, 0)]
    return tuple(max(n, 1) for n in (*leading, *(min(n, CHUNK) for n in shape[len(leading) :])))


def without_torn_chunks(path: Path) -> None:
    """Remove what zarr had begun to write beside a chunk, and not renamed, when a run was ended."""
    for torn in path.rglob("*.partial"):
        torn.unlink()


def check_tiles(chunks: Sequence[int], wanted: Wanted) -> None:
    """Refuse tiles that cut chunks which are there: a chunk is written once, or power may take it.

    Raises:
        ArgumentError: they do.
    """
    nd = len(wanted.tile)
    sides = list(zip(wanted.tile, chunks[-nd:], wanted.shape[-nd:], strict=True))
    if any(tile % chunk and tile < size for tile, chunk, size in sides):
        raise ArgumentError(
            f"'tile' must be a multiple of the chunks that are there: got {wanted.tile} for "
            f"{tuple(chunks[-nd:])}; legal: such a tile, or none, or resume=False (--no-resume)"
        )


def sync_chunks(array: Any, root: Path, boxes: Sequence[Box]) -> None:
    """Have the chunks of these boxes on the disk."""
    folder = root / array.path if array.path else root
    found = set()
    for box in boxes:
        ranges = [range(a // chunk, ceil(b / chunk)) for (a, b), chunk in zip(box, array.chunks, strict=True)]
        found |= {folder / array.metadata.encode_chunk_key(place) for place in product(*ranges)}
    sync_files(found, root)


def removed(path: Path) -> None:
    """Remove a file or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
