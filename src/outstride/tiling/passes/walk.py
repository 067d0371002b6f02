"""Passes as data: which maps are gone through before the tiles, in what slabs, and what is kept meanwhile."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import ceil

from outstride.tiling.box import Box, Interval, whole
from outstride.tiling.evaluation import Program


@dataclass(frozen=True)
class Walk:
    """One walk over a tensor: printable in a plan."""

    target: int
    shape: tuple[int, ...]
    axis: int
    """The one that slabs cut."""
    rows: int
    """Positions of a slab along it."""
    names: tuple[str, ...] = ()
    """The operators that it is for."""
    folds: tuple[tuple[int, int], ...] = ()
    """Barriers that look at it, and for each which of its walks it is."""
    writes: tuple[int, ...] = ()
    """Tensors that are kept from then on."""
    reads: tuple[int, ...] = ()
    """Kept ones that are read."""
    closes: tuple[int, ...] = ()
    """Kept ones that nothing reads afterwards."""
    by_channels: bool = False
    """Whether it goes over one channel after the other."""
    whole: bool = False
    """Whether it makes an anchor, at once."""
    peak_bytes: int = 0
    """The most that the tensors of a slab take at a time."""
    seconds: float = 0.0
    """Predicted."""
    computed: int = 0
    """Elements that are computed."""

    def boxes(self) -> Iterator[Box]:
        """The slabs, image by image."""
        if self.whole:
            yield whole(self.shape)
            return
        starts = range(0, self.shape[self.axis], self.rows)
        for image, channels, start in product(range(self.shape[0]), self._channels(), starts):
            box = list(whole(self.shape))
            box[0], box[1] = (image, image + 1), channels
            box[self.axis] = start, min(start + self.rows, self.shape[self.axis])
            yield tuple(box)

    def __len__(self) -> int:
        slabs = ceil(self.shape[self.axis] / self.rows)
        return 1 if self.whole else self.shape[0] * len(self._channels()) * slabs

    def _channels(self) -> list[Interval]:
        return [(c, c + 1) for c in range(self.shape[1])] if self.by_channels else [(0, self.shape[1])]

    def to_dict(self) -> dict[str, object]:
        """The figures, for a program to read."""
        return {
            "for": list(self.names), "shape": list(self.shape), "slabs": len(self), "rows": self.rows,
            "keeps": len(self.writes), "peak_bytes": self.peak_bytes, "seconds": self.seconds,
        }  # fmt: skip


@dataclass(frozen=True)
class Schedule:
    """All walks, and where what they keep lies."""

    walks: tuple[Walk, ...] = ()
    in_memory: frozenset[int] = frozenset()
    in_file: frozenset[int] = frozenset()
    held_bytes: int = 0
    """What is kept in memory while the tiles are made."""
    peak_bytes: int = 0
    """The most that walks take at a time, with what is kept in memory meanwhile."""
    sizes: Mapping[int, int] = field(default_factory=dict)
    """Bytes of all that is kept."""

    def kept_bytes(self, indices: Container[int]) -> Iterator[int]:
        """How much of these is kept after each walk."""
        kept = set[int]()
        for walk in self.walks:
            kept |= {index for index in walk.writes if index in indices}
            yield sum(self.sizes[index] for index in kept)
            kept -= set(walk.closes)

    @property
    def file_bytes(self) -> int:
        """The most that lies in files at a time."""
        return max(self.kept_bytes(self.in_file), default=0)

    @property
    def given(self) -> frozenset[int]:
        """What the tiles read instead of making it."""
        kept = set[int]()
        for walk in self.walks:
            kept = (kept | set(walk.writes)) - set(walk.closes)
        return frozenset(kept)


NO_PASSES = Schedule()


def slab_axis(shape: Sequence[int]) -> int:
    """The first axis behind the channels that has more than one position."""
    return next((axis for axis in range(2, len(shape)) if shape[axis] > 1), min(2, len(shape) - 1))


def beside(box: Box, walk: Walk, shape: Sequence[int]) -> Box:
    """The part of another tensor that is written with a slab: together they cover it once."""
    made, size = list(whole(shape)), walk.shape[walk.axis]
    if shape[0] == walk.shape[0]:
        made[0] = box[0]
    start, stop = box[walk.axis]
    made[walk.axis] = start * shape[walk.axis] // size, stop * shape[walk.axis] // size
    return tuple(made)


def outputs_of(program: Program, walk: Walk, box: Box) -> dict[int, Box]:
    """What is made of each tensor for a slab."""
    others = [index for index in walk.writes if index != walk.target]
    shapes = {index: program.graph.nodes[index].shape for index in others}
    return {walk.target: box} | {index: beside(box, walk, shape) for index, shape in shapes.items()}
