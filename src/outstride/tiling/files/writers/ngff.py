"""OME-Zarr: levels for viewers to zoom through, with names and sizes of axes.

Groups are those of https://ngff.openmicroscopy.org/0.5, zarr format 3 with words under "ome", or of 0.4, zarr
format 2 with the words themselves and chunks in folders, which readers of before 2025 open.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

from outstride.tiling.box import Box
from outstride.tiling.files.writers import pyramid
from outstride.tiling.files.writers.disk import sync_whole
from outstride.tiling.files.writers.interface import RESULT, Encoder, Made, Seen, Wanted
from outstride.tiling.files.writers.plain import check_tiles, chunks_of, sync_chunks, without_torn_chunks

#: Releases that are written, the usual one first, and the format of zarr that each has.
VERSIONS: dict[str, Literal[2, 3]] = {"0.5": 3, "0.4": 2}
USUAL_VERSION = next(iter(VERSIONS))


def axes_of(wanted: Wanted) -> str:
    """Letters of the axes that are stored: images one by one as points of time, a single one without.

    Raises:
        ArgumentError: the result is no picture or volume of channels.
    """
    rank, spatial = len(wanted.shape), len(wanted.tile)
    axes = ("t" * (rank == spatial + 2 and wanted.shape[0] != 1)) + "c" + "zyx"[-spatial:]
    if spatial not in (2, 3) or rank not in (spatial + 1, spatial + 2) or 0 in wanted.shape:
        raise wanted.unfit(f"OME for {wanted.shape}", "(N, C, H, W) or (N, C, D, H, W), or a .npy or .zarr")
    return axes


def ome_zarr(folder: Path, wanted: Wanted) -> Made:
    """An OME-Zarr group: the largest level is written tile by tile, the others at the end."""
    import zarr

    axes, zarr_format = axes_of(wanted), VERSIONS[wanted.ngff_version]
    encode, path = Encoder(wanted, masks=True, least=True), folder / RESULT
    shape = wanted.shape[-len(axes) :]
    chunks = chunks_of(wanted)[-len(axes) :]
    chunks = tuple(1 if name in "tc" else n for name, n in zip(axes, chunks, strict=True))
    if not path.exists():
        begun = folder / "begun"
        words = _words(wanted, axes, shape)
        group = zarr.create_group(begun, attributes=words, overwrite=True, zarr_format=zarr_format)
        group.create_array("0", shape=shape, dtype=encode.dtype, chunks=chunks, **_named(axes, zarr_format))
        begun.rename(path)
    without_torn_chunks(path)
    group = zarr.open_group(path, mode="r+")
    largest: Any = group["0"]
    check_tiles(largest.chunks, wanted)

    def finish() -> None:
        source = largest
        for level, size in enumerate(pyramid.shapes_of(shape)[1:], 1):
            target = group.create_array(
                str(level), shape=size, dtype=encode.dtype, overwrite=True, **_named(axes, zarr_format),
                chunks=tuple(min(chunk, n) for chunk, n in zip(chunks, size, strict=True)),
            )  # fmt: skip
            pyramid.shrink(source, target, labels=is_labels(wanted))
            source = target
        sync_whole(path)

    def sync(boxes: Sequence[Box]) -> None:
        sync_chunks(largest, path, [box[-len(axes) :] for box in boxes])

    def again(path: Path) -> AbstractContextManager[Any]:
        return nullcontext(Seen(zarr.open_array(path / "0", mode="r"), wanted.shape))

    return Made(Seen(largest, wanted.shape), encode, finish, sync, again=again)


def is_labels(wanted: Wanted) -> bool:
    """Whether numbers are names of classes, whose mean says nothing."""
    return wanted.range_ is None and wanted.dtype.kind in "iu"


def _named(axes: str, zarr_format: int) -> dict[str, Any]:
    """What an array says of its axes, and where its chunks are: in a folder for each axis."""
    if zarr_format == 3:
        return {"dimension_names": list(axes)}
    return {"chunk_key_encoding": {"name": "v2", "separator": "/"}}


def _words(wanted: Wanted, axes: str, shape: tuple[int, ...]) -> dict[str, Any]:
    kinds = {"t": "time", "c": "channel"}
    described = [
        {"name": name, "type": kinds.get(name, "space")}
        | (
            {"unit": wanted.facts.unit}
            if name in "zyx" and wanted.facts.spacing and wanted.facts.unit
            else {}
        )
        for name in axes
    ]
    distances = dict(zip("zyx"[-len(wanted.tile) :], wanted.facts.spacing or (), strict=False))
    levels = []
    for level, size in enumerate(pyramid.shapes_of(shape)):
        grown = [large / small for large, small in zip(shape, size, strict=True)]
        scale = [distances.get(name, 1.0) * times for name, times in zip(axes, grown, strict=True)]
        # The centre of the first pixel of a level lies in the middle of those that it is made of.
        moved = [distances.get(name, 1.0) * (times - 1) / 2 for name, times in zip(axes, grown, strict=True)]
        changes: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if level and not is_labels(wanted):
            changes.append({"type": "translation", "translation": moved})
        levels.append({"path": str(level), "coordinateTransformations": changes})
    image = {"name": wanted.name, "axes": described, "datasets": levels}
    version = wanted.ngff_version
    if VERSIONS[version] == 2:
        return {"multiscales": [{"version": version, **image}]}
    return {"ome": {"version": version, "multiscales": [image]}}
