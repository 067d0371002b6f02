"""A blocking: how a problem is cut into tasks, passes over the channels and chunks of outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, gcd, lcm, prod
from typing import NamedTuple, TypeAlias

from outstride.engine.planner.gather_form import GatherAxis, PhaseGroup
from outstride.engine.planner.strip import Strip

#: The first cell and the number of cells of every range of an axis that has tiles of its own.
Ranges: TypeAlias = tuple[tuple[int, int], ...]
#: Of every axis whether it is cut into ranges.
Cut: TypeAlias = tuple[bool, bool, bool]
UNCUT: Cut = (False, False, False)


class Region(NamedTuple):
    """Cells of a box whose tiles are theirs alone, as those at a border use fewer taps.

    Its first plane, row and column, how many there are of each, the place of its results, and how far apart
    they lie from image to image, plane to plane and row to row.
    """

    first_d: int
    first_h: int
    first_w: int
    count_d: int
    count_h: int
    count_w: int
    place: int
    image_pitch: int
    depth_pitch: int
    row_pitch: int


@dataclass(frozen=True)
class Blocking:
    """A task: groups, box (images, depth, height, width), channels of a pass, outputs of a chunk, chunks."""

    groups_per_task: int
    box: tuple[int, int, int, int]
    channels_per_pass: int
    chunk_outputs: int
    chunks_per_task: int
    strip: Strip
    #: Whether tiles walk over each plane of the box by itself, for its planes lie far apart in the strip.
    nested: bool
    #: Whether tiles store their results where they belong in the output, row by row.
    direct: bool
    #: The ranges of every axis; a region is a product of one of each.
    ranges: tuple[Ranges, Ranges, Ranges]
    #: The axes that are cut into the ranges of all their cells that use the same taps, and packed without
    #: padding, which no tap then reads; the others are one range.
    cut: Cut = UNCUT
    #: The input of a few channels as it lies, which the strip is summed from; None where it is the strip.
    raw: Strip | None = None

    @property
    def pixels(self) -> int:
        """Cells of a full box."""
        return prod(self.box)

    @property
    def rows(self) -> int:
        """Rows of a full box, those of all its planes and images."""
        return prod(self.box[:3])

    @property
    def regions(self) -> list[tuple[tuple[int, int], tuple[int, int], tuple[int, int]]]:
        """The regions of a full box, each as its ranges of planes, rows and columns."""
        return list(product(*self.ranges))

    def packed(self, axes: tuple[GatherAxis, ...]) -> tuple[GatherAxis, ...]:
        """The axes as they are packed."""
        return tuple(a.unpadded if cut else a for a, cut in zip(axes, self.cut, strict=True))

    def listed_tiles(self, pixels: int) -> list[int]:
        """Tiles of so many pixels by list that cover each region of a full box."""
        return [ceil(self.box[0] * d * h * w / pixels) for (_, d), (_, h), (_, w) in self.regions]

    @property
    def extent(self) -> int:
        """The results of a row of the box, the gaps between rows included."""
        n, d, h, w = self.box
        s = self.strip
        return (n - 1) * s.image_pitch + ((d - 1) * s.extent[1] + h - 1) * s.extent[2] + w


def ranges_of(
    axes: Sequence[GatherAxis], box: Sequence[int], cut: Sequence[bool]
) -> tuple[Ranges, Ranges, Ranges]:
    """The ranges of a box of so many planes, rows and columns, whose axes are cut, or not."""
    d, h, w = (a.ranges if c else ((0, n),) for a, n, c in zip(axes, box, cut, strict=True))
    return d, h, w


def boxes_over(cells: tuple[int, ...], box: tuple[int, ...]) -> int:
    """Boxes that cover the cells."""
    return prod(ceil(c / b) for c, b in zip(cells, box, strict=True))


def shared_out(cells: int, most: int, run: int = 1) -> int:
    """Cells of a part: whole runs, no more than `most` but for one run, in parts of about one size."""
    runs = ceil(cells / run)
    return ceil(runs / ceil(runs / max(1, most // run))) * run


def chunk_outputs(groups: tuple[PhaseGroup, ...], outputs: int, tile_rows: int) -> int:
    """Outputs of a chunk: the fewest whose rows fill whole tiles in every phase group."""
    least = 1
    for group in groups:
        least = lcm(least, tile_rows // gcd(tile_rows, group.phases))
    return min(outputs, least)


def rows_of(groups: tuple[PhaseGroup, ...], outputs: int, tile_rows: int) -> list[int]:
    """Rows of results of each phase group of a chunk, rounded up to whole tiles."""
    return [ceil(outputs * g.phases / tile_rows) * tile_rows for g in groups]
