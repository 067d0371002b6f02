"""Groups of OME-Zarr, of zarr 2 and 3: a level by the group's own words, its axes by their names."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from outstride.errors import ArgumentError
from outstride.tiling.files.axes import Moved, scaled
from outstride.tiling.files.facts import Facts
from outstride.tiling.files.readers.opened import File, Opened

#: Axes of the first releases, which named none.
_ANCIENT = "tczyx"


def opened(group: Any, file: File, nd: int | None) -> Opened:
    """A level of the first image of a group.

    Raises:
        ArgumentError: the group is no image, or has fewer levels.
    """
    attributes = dict(group.attrs)
    words = attributes.get("ome", attributes)
    images = words.get("multiscales") if isinstance(words, dict) else None
    if not images:
        inner = ", ".join(repr(name) for name in sorted(group.keys())[:8]) or "none"
        raise ArgumentError(
            f"'source' must be a zarr array or an image of OME-Zarr: got a group without levels in "
            f"{str(file.place)!r}; legal: one of its members by 'dataset': {inner}"
        )
    image = images[0]
    level = image["datasets"][file.leveled(len(image["datasets"]))]
    array = group[level["path"]]
    axes = _axes(image, len(array.shape))
    letters = "".join(name for name, _ in axes).upper()
    order = file.order(letters, tuple(array.shape), nd)
    places = [place for place in order[2:] if place is not None]
    values, dtype = scaled(array.dtype)
    sizes = _sizes([image, level], len(axes))
    facts = Facts(deep=array.dtype == "uint16")
    if sizes is not None:
        facts.spacing = tuple(sizes[place] for place in places)
        units = {axes[place][1] for place in places}
        facts.unit = units.pop() if len(units) == 1 else None
    return Opened(Moved(array, order, values, dtype), facts)


def _axes(image: dict[str, Any], rank: int) -> Sequence[tuple[str, str | None]]:
    """Names and units of the axes, in whatever form its release has them."""
    found = image.get("axes") or [*_ANCIENT[-rank:]]
    named = [(axis, None) if isinstance(axis, str) else (axis["name"], axis.get("unit")) for axis in found]
    if len(named) != rank:
        raise ValueError(f"it names {len(named)} axes of {rank}")
    return [(name[:1], unit) for name, unit in named]


def _sizes(described: Sequence[dict[str, Any]], rank: int) -> list[float] | None:
    """The distance of neighbours on each axis: what the image and the level say, multiplied."""
    scales = [
        [float(number) for number in change["scale"]]
        for words in described
        for change in words.get("coordinateTransformations", [])
        if change.get("type") == "scale" and len(change.get("scale", [])) == rank
    ]
    return [prod(numbers) for numbers in zip(*scales, strict=True)] if scales else None
