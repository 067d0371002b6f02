"""Passes as data: which maps are gone through before the tiles, in what slabs, and what is kept meanwhile."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import ceil, prod

from outstride.tiling.box import Box, Interval
from outstride.tiling.evaluation import Program


@dataclass(frozen=True)
class Walk:
    """One walk over a tensor, box by box in the order of its elements."""

    target: int
    shape: tuple[int, ...]
    size: tuple[int, ...]
    """Of a box; where something is folded, boxes are in the order of its elements: a box is complete behind
    the first axis that it cuts, and has one position on those before."""
    in_turn: int = 1
    """Channels that are folded one after the other: a box has a multiple of them, complete, or one."""
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
    whole: bool = False
    """Whether it makes an anchor, at once."""
    peak_bytes: int = 0
    """The most that a box takes at a time."""
    seconds: float = 0.0
    """Predicted."""
    computed: int = 0
    """Elements that are computed."""
    inputs: int = 0
    """Elements of the model's inputs that are read."""
    reading_seconds: float = 0.0
    """What that takes, where it was tried."""

    def boxes(self) -> Iterator[Box]:
        """All of them."""
        axes = zip(self.shape, self.size, strict=True)
        yield from product(*([(a, min(a + n, size)) for a in range(0, size, n)] for size, n in axes))

    def box(self, number: int) -> Box:
        """One of them."""
        found = list[Interval]()
        for size, n in zip(reversed(self.shape), reversed(self.size), strict=True):
            number, place = divmod(number, ceil(size / n))
            found.append((place * n, min(place * n + n, size)))
        return tuple(reversed(found))

    def __len__(self) -> int:
        return prod(ceil(size / n) for size, n in zip(self.shape, self.size, strict=True))

    @property
    def all_seconds(self) -> float:
        """Computing and reading."""
        return self.seconds + self.reading_seconds

    def to_dict(self) -> dict[str, object]:
        """The figures, for a program to read."""
        return {
            "for": list(self.names), "shape": list(self.shape), "boxes": len(self), "box": list(self.size),
            "keeps": len(self.writes), "peak_bytes": self.peak_bytes, "seconds": self.all_seconds,
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
    def seconds(self) -> float:
        """What all walks are predicted to take."""
        return sum(walk.all_seconds for walk in self.walks)

    def with_reading(self, rate: float) -> Schedule:
        """The same where reading an element of an input takes so many seconds."""
        return replace(
            self, walks=tuple(replace(walk, reading_seconds=rate * walk.inputs) for walk in self.walks)
        )

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


def outputs_of(program: Program, walk: Walk, box: Box) -> dict[int, Box]:
    """What is made of each tensor for a box."""
    others = [index for index in walk.writes if index != walk.target]
    shapes = {index: program.graph.nodes[index].shape for index in others}
    return {walk.target: box} | {index: _beside(box, walk, shape) for index, shape in shapes.items()}


def _beside(box: Box, walk: Walk, shape: Sequence[int]) -> Box:
    """The part of another tensor that is written with a box: all together cover it once."""
    axes = zip(box, walk.shape, walk.size, shape, strict=True)
    return tuple(
        (0, other) if n == size else (a * other // size, b * other // size) for (a, b), size, n, other in axes
    )
