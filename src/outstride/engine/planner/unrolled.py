"""The taps of layers of one channel a group, over which kernels that pack no input are unrolled."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import ClassVar, NamedTuple, TypeAlias

from outstride.engine.planner.gather_form import GatherAxis, conv_axis, product_groups, transposed_axis

#: Accumulators of a tile, at most: vectors of an input row and a broadcast fit beside them.
MOST_SUMS = 24
#: Vectors of a tile's row, at most: of maps, and where there is one row of cells and nothing to share.
MOST_VECTORS, MOST_VECTORS_OF_A_ROW = 3, 4
#: Rows of cells of a tile, at most.
MOST_ROWS = 6
#: Products that a kernel writes out for a cell.
MOST_TAPS = 64
#: Steps along the width whose phases are interleaved in registers; others need more of them than there are.
OUT_STEPS = (1, 2, 3, 4, 8)


class Shape(NamedTuple):
    """The rows of a register tile, and its vectors along each of them."""

    rows: int
    vectors: int


#: The tiles of unrolled taps: the usual maps of 7, 14, 28 and 56 rows fill them, and wider ones take those of
#: four rows.
SHAPES = (Shape(7, 1), Shape(7, 2), Shape(4, 3), Shape(4, 4))

#: Of each phase its taps, as kernel index and input offset.
Phases: TypeAlias = tuple[tuple[tuple[int, int], ...], ...]


@dataclass(frozen=True)
class UnrolledTaps:
    """The taps along the height, over which the code is unrolled.

    Output row r reads input row r * in_step + k * tap_step at tap k, counted from its first one. `shared`
    taps along the width deal out the same vectors among them. With `across`, that many are written out: they
    are next to each other, and the vectors that one row of a tile reads are loaded once for all of them; with
    `narrow` in tiles of one vector alone.
    """

    taps: int
    in_step: int
    tap_step: int
    shared: int = 1
    across: int = 0
    narrow: bool = False
    #: Outputs of a cell along the width.
    out_step: ClassVar[int] = 1
    #: Whether a plane is one row, which is made beside the output where it is stored by nontemporal stores.
    alone: ClassVar[bool] = False

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Its register tiles: only two where taps share vectors, for each is then several times as long."""
        return SHAPES if self.shared == 1 else SHAPES[:2]

    @property
    def widest(self) -> Shape:
        """The tile of the most vectors, which wide rows take."""
        return max(self.shapes, key=lambda shape: shape.vectors)

    @property
    def numbers(self) -> tuple[int, ...]:
        """What tells it from others."""
        return astuple(self)

    def written_out(self, vectors: int) -> bool:
        """Whether a tile of so many vectors has its taps along the width written out."""
        return self.across > 0 and (vectors == 1 or not self.narrow)

    def unmasked(self, in_step: int) -> bool:
        """Whether wide tiles read the vectors between their first and last one without masks."""
        return in_step == 1 and not self.written_out(self.widest.vectors)

    @property
    def first(self) -> int:
        """Of taps that are written out the one that begins first: kernel indices may descend."""
        return self.across - 1 if self.across and self.tap_step < 0 else 0

    def reads(self, vectors: int, in_step: int) -> int:
        """Neighbouring vectors that a tile of so many reads of a row: for all taps, or for one at a time."""
        behind = self.written_out(vectors) and self.across > self.shared
        return vectors * in_step + behind

    def masks(self, in_step: int, taps: int) -> int:
        """Masks of a vector of outputs, at most: of what is read for it, and of the outputs."""
        at_once = self.written_out(self.widest.vectors)
        return (self.reads(1, in_step) if at_once else taps * in_step) + 1

    def work(self, shape: Shape, taps: tuple[int, int, int], in_step: int) -> tuple[int, int]:
        """Vectors of products of a tile, and vectors that it loads."""
        depth, height, width = taps
        runs = 1 if self.written_out(shape.vectors) else width
        loads = len(self.rows(shape.rows)) * depth * runs * self.reads(shape.vectors, in_step)
        return shape.rows * height * shape.vectors * depth * width, loads

    def rows(self, count: int) -> list[tuple[int, list[tuple[int, int]]]]:
        """The input rows that `count` output rows read: each with the outputs and taps (r, k) that do.

        They come in such an order that the taps of an output ascend.
        """
        found: dict[int, list[tuple[int, int]]] = {}
        for r, k in product(range(count), range(self.taps)):
            found.setdefault(r * self.in_step + k * self.tap_step, []).append((r, k))
        return sorted(found.items(), reverse=self.tap_step < 0)


@dataclass(frozen=True)
class UnrolledPhases:
    """The phases and taps of a strided transposed layer along both axes, over which the code is unrolled.

    A cell is the outputs of an input element, counted from output 0.

    Output row r of a tile is phase r % stride of cell row r // stride.
    """

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    @property
    def numbers(self) -> tuple[int, ...]:
        """What tells it from others."""
        return (*self.kernel_size, *self.stride, *self.padding, *self.dilation)

    @property
    def out_step(self) -> int:
        """Outputs of a cell along the width."""
        return self.stride[1]

    @property
    def alone(self) -> bool:
        """Whether a plane is one row."""
        return self.kernel_size[0] == self.stride[0] == 1

    @cached_property
    def axes(self) -> tuple[GatherAxis, ...]:
        """Depth, height and width in gather form, of whatever size."""
        each = zip(self.kernel_size, self.stride, self.padding, self.dilation, strict=True)
        plane = (transposed_axis(1, 1, *numbers, cropped=True) for numbers in each)
        return conv_axis(1, 1, 1, 1, 0, 1), *plane

    def phases(self, axis: int) -> Phases:
        """The taps of every phase along the height (0) or the width (1), the kernel index ascending."""
        found: dict[int, tuple[tuple[int, int], ...]] = {}
        for group in self.axes[axis + 1].groups:
            for phase, kernel in zip(group.members, group.kernel, strict=True):
                found[phase] = tuple(zip(kernel, group.offsets, strict=True))
        return tuple(found[phase] for phase in range(self.stride[axis]))

    @cached_property
    def columns(self) -> list[tuple[int, list[tuple[int, int]]]]:
        """The input offsets along the width: each with the phases and taps (p, k) that read it.

        They descend, so that the taps of a phase ascend.
        """
        found: dict[int, list[tuple[int, int]]] = {}
        for p, taps in enumerate(self.phases(1)):
            for k, offset in taps:
                found.setdefault(offset, []).append((p, k))
        return sorted(found.items(), reverse=True)

    def rows(self, count: int) -> list[tuple[int, list[tuple[int, int]]]]:
        """The input rows that `count` rows of cells read: each with the outputs and taps (r, k) that do."""
        found: dict[int, list[tuple[int, int]]] = {}
        for row, (p, taps) in product(range(count), enumerate(self.phases(0))):
            for k, offset in taps:
                found.setdefault(row + offset, []).append((row * self.stride[0] + p, k))
        return sorted(found.items(), reverse=True)

    @cached_property
    def places(self) -> dict[tuple[int, int], int]:
        """Where each kernel element lies in the packed weights of a channel: phase by phase, tap by tap."""
        kernel = (
            at[1:]
            for g in product_groups([a.groups for a in self.axes])
            for member in g.kernel
            for at in member
        )
        return {(h, w): i for i, (h, w) in enumerate(kernel)}

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Its register tiles, rows of cells by vectors of them; none where a cell is too much for a tile."""
        sums = prod(self.stride)
        most = min(MOST_VECTORS_OF_A_ROW if self.alone else MOST_VECTORS, MOST_SUMS // sums)
        if prod(self.kernel_size) > MOST_TAPS or self.out_step not in OUT_STEPS:
            return ()
        rows = {v: 1 if self.alone else min(MOST_ROWS, MOST_SUMS // (sums * v)) for v in range(1, most + 1)}
        return tuple(Shape(count, v) for v, count in rows.items())

    @property
    def widest(self) -> Shape:
        """The tile of the most vectors, which wide rows take."""
        return self.shapes[-1]

    def masks(self, in_step: int, taps: int) -> int:
        """Masks of a vector of cells: of each offset, and of the outputs."""
        del in_step, taps  # a transposed layer reads its input as it lies, each offset once
        return len(self.columns) + self.stride[1]

    def work(self, shape: Shape, taps: tuple[int, int, int], in_step: int) -> tuple[int, int]:
        """Vectors of products of a tile, and vectors that it loads."""
        del taps, in_step
        products = shape.rows * shape.vectors * prod(self.kernel_size)
        return products, len(self.rows(shape.rows)) * shape.vectors * len(self.columns)


#: What a kernel that reads in place is unrolled over.
Unrolled: TypeAlias = UnrolledTaps | UnrolledPhases


@dataclass(frozen=True)
class RowTaps:
    """The taps of a kernel row, over which code is unrolled whose vectors lie along the channels.

    Pixel i of a tile reads input column i * in_step + t * tap_step at tap t, counted from tap 0 of pixel 0.
    """

    taps: int
    in_step: int
    tap_step: int

    @property
    def numbers(self) -> tuple[int, ...]:
        """What tells it from others."""
        return astuple(self)

    def reads(self, pixels: int) -> list[tuple[int, list[tuple[int, int]]]]:
        """The input columns that so many pixels read: each with the pixels and taps (i, t) that do.

        They come in such an order that the taps of a pixel ascend.
        """
        found: dict[int, list[tuple[int, int]]] = {}
        for i, t in product(range(pixels), range(self.taps)):
            found.setdefault(i * self.in_step + t * self.tap_step, []).append((i, t))
        return sorted(found.items(), reverse=self.tap_step < 0)
