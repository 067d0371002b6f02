"""The gather form of one axis: which inputs and which kernel elements make which outputs.

Conv-input index u, kernel index k and conv-output index i are tied by u = i * stride + k * dilation -
padding. A convolution walks its outputs i one by one and reads u; a transposed convolution walks *cells* j of
`stride` outputs u = j * stride + phase (counted from the uncropped edge) and reads i = j + offset. Phases
that read the same offsets form a group: they share their input vectors and act as further output channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise, product
from math import ceil, prod


@dataclass(frozen=True)
class AxisPhases:
    """Phases of an axis that read the same input offsets.

    `kernel[m][t]` is the kernel index that member `m` uses at tap `t`, and `offsets[t]` the input offset of
    that tap; taps ascend in the kernel index, which is the order of summation.
    """

    members: tuple[int, ...]
    offsets: tuple[int, ...]
    kernel: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class GatherAxis:
    """One axis in gather form: cell j reads j * in_step + offset for outputs j * out_step + phase + shift."""

    input_size: int
    output_size: int
    cells: int
    out_step: int
    in_step: int
    shift: int
    groups: tuple[AxisPhases, ...]
    #: Whether what cells read outside the input is packed, as zeros.
    padded: bool = True

    @cached_property
    def unpadded(self) -> GatherAxis:
        """The axis packed as it lies, for cells that leave out the taps which read nothing."""
        return replace(self, padded=False)

    @cached_property
    def reach(self) -> tuple[int, int]:
        """The first position that is packed for the first of some cells, and the last for the last of them.

        In steps of `in_step`, rounded down: the least and the greatest input offset; or, of all cells, the
        ends of the input.
        """
        if not self.padded:
            return 0, ceil(self.input_size / self.in_step) - self.cells
        offsets = [o // self.in_step for g in self.groups for o in g.offsets] or [0]
        return min(offsets), max(offsets)

    @cached_property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The cells in runs that use the same taps, each as its first cell and its length.

        What they do not use lies before the input for all of them, or behind it.
        """
        ends = {0, self.cells}
        for offset in (o for g in self.groups for o in g.offsets):
            ends |= {min(max(0, cell), self.cells) for cell in self.readers(offset)}
        return tuple((first, last - first) for first, last in pairwise(sorted(ends)))

    def readers(self, offset: int) -> tuple[int, int]:
        """The first cell that reads the input at an offset, and the one behind the last, if any does."""
        return -(offset // self.in_step), (self.input_size - 1 - offset) // self.in_step + 1

    def used(self, offsets: Sequence[int], cell: int) -> int:
        """How many of the taps at these offsets read the input for a cell."""
        return sum(0 <= cell * self.in_step + o < self.input_size for o in offsets)

    def kept_at(self, cell: int) -> float:
        """The share of the taps that read the input for one cell."""
        useful = sum(len(g.members) * self.used(g.offsets, cell) for g in self.groups)
        total = sum(len(g.members) * len(g.offsets) for g in self.groups)
        return useful / total if total else 1.0

    @property
    def all_inside(self) -> bool:
        """Whether every tap of every cell reads the input."""
        low, high = self._within
        return low <= 0 and high >= self.cells - 1

    @cached_property
    def useful(self) -> float:
        """The share of all cells' taps that read the input."""
        return self._share(1)

    def kept(self, block: int) -> float:
        """The share of the taps that read the input for some cell of a block, over all blocks of a size."""
        if self.all_inside:
            return 1.0
        if block not in self._kept:
            self._kept[block] = self._share(block)
        return self._kept[block]

    @cached_property
    def _kept(self) -> dict[int, float]:
        return {}

    @cached_property
    def _within(self) -> tuple[int, int]:
        """The first and the last cell all of whose taps read the input."""
        offsets = [o for g in self.groups for o in g.offsets] or [0]
        return -(min(offsets) // self.in_step), (self.input_size - 1 - max(offsets)) // self.in_step

    def _share(self, block: int) -> float:
        starts = range(0, self.cells, block)
        useful = total = 0
        for group in self.groups:
            for offset in group.offsets:
                # Cells [first, last) read the input at this tap.
                first, last = self.readers(offset)
                first, last = max(0, first), min(self.cells, last)
                if first < last:
                    useful += len(group.members) * ((last - 1) // block - first // block + 1)
                total += len(group.members) * len(starts)
        return useful / total if total else 1.0

    @cached_property
    def residues(self) -> tuple[int, ...]:
        """The input residues modulo `in_step` that some tap reads: depth and height keep a plane for each."""
        return tuple(sorted({o % self.in_step for g in self.groups for o in g.offsets})) or (0,)

    def unread(self, residue: int) -> tuple[int, int]:
        """How many of the first and of the last positions that a box reaches no tap of a residue reads."""
        places = [o // self.in_step for g in self.groups for o in g.offsets if o % self.in_step == residue]
        if not places or not self.padded:
            return 0, 0
        return min(places) - self.reach[0], self.reach[1] - max(places)


def conv_axis(
    input_size: int, output_size: int, kernel: int, stride: int, padding: int, dilation: int
) -> GatherAxis:
    """The axis of a convolution: one phase, every tap."""
    offsets = tuple(k * dilation - padding for k in range(kernel))
    group = AxisPhases((0,), offsets, (tuple(range(kernel)),))
    return GatherAxis(input_size, output_size, output_size, 1, stride, 0, (group,))


def transposed_axis(
    input_size: int, output_size: int, kernel: int, stride: int, padding: int, dilation: int, *, cropped: bool
) -> GatherAxis:
    """The axis of a transposed convolution.

    With `cropped` the cells are counted from the first output that is kept, so that small maps compute no
    output that padding removes; without, from the uncropped edge, where the most phases share their offsets.
    """
    origin = padding if cropped else padding // stride * stride
    shift = origin - padding
    groups = _phases(kernel, stride, dilation, origin)
    return GatherAxis(input_size, output_size, cells_of(output_size, stride, shift), stride, 1, shift, groups)


def cells_of(output_size: int, out_step: int, shift: int) -> int:
    """Cells of `out_step` outputs that so many outputs lie in, the first of them `shift` before output 0."""
    return (output_size - 1 - shift) // out_step + 1 if output_size else 0


@lru_cache(maxsize=1024)
def _phases(kernel: int, stride: int, dilation: int, origin: int) -> tuple[AxisPhases, ...]:
    """The groups of a transposed axis whose first cell begins at the uncropped output `origin`."""
    indices: list[list[int]] = [[] for _ in range(stride)]
    offsets: list[list[int]] = [[] for _ in range(stride)]
    for k in range(kernel):
        # Output origin + phase takes input i through k where it is i * stride + k * dilation.
        before, phase = divmod(k * dilation - origin, stride)
        indices[phase].append(k)
        offsets[phase].append(-before)
    groups: dict[tuple[int, ...], list[int]] = {}
    for phase, reads in enumerate(offsets):
        groups.setdefault(tuple(reads), []).append(phase)
    return tuple(
        AxisPhases(tuple(members), reads, tuple(tuple(indices[m]) for m in members))
        for reads, members in groups.items()
    )


@dataclass(frozen=True)
class PhaseGroup:
    """The product of one group per axis: output phases that share their input offsets.

    Products are kept as their factors: a kernel of 100 x 100 x 100 has a million taps.
    """

    axes: tuple[AxisPhases, ...]

    @property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """The output phases."""
        return tuple(product(*(g.members for g in self.axes)))

    @property
    def phases(self) -> int:
        """How many output phases there are."""
        return prod(len(g.members) for g in self.axes)

    @property
    def extent(self) -> tuple[int, ...]:
        """Taps along each axis."""
        return tuple(len(g.offsets) for g in self.axes)

    @property
    def taps(self) -> int:
        """How many terms a channel adds to an output."""
        return prod(self.extent)

    @property
    def offsets(self) -> tuple[tuple[int, ...], ...]:
        """The input offset of each tap."""
        return tuple(product(*(g.offsets for g in self.axes)))

    @property
    def kernel(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """The kernel index of each member at each tap."""
        return tuple(tuple(product(*choice)) for choice in product(*(g.kernel for g in self.axes)))

    def places(self, of_axes: Sequence[Mapping[int, int]]) -> list[int]:
        """Of each tap the sum of what its offsets stand for along the axes."""
        return sums([[of[o] for o in g.offsets] for g, of in zip(self.axes, of_axes, strict=True)])

    def kernel_places(self, strides: Sequence[int]) -> Iterator[list[int]]:
        """Of each member where the kernel elements of its taps lie, in a kernel of these strides."""
        for choice in product(*(g.kernel for g in self.axes)):
            yield sums([[k * s for k in along] for along, s in zip(choice, strides, strict=True)])


def sums(of_axes: Sequence[Sequence[int]]) -> list[int]:
    """The sum of every combination of one number per axis, the last axis fastest."""
    made = [0]
    for along in of_axes:
        made = [a + b for a in made for b in along]
    return made


def product_groups(of_axes: Sequence[Sequence[AxisPhases]]) -> tuple[PhaseGroup, ...]:
    """Every combination of one group per axis, outermost axis first."""
    return tuple(map(PhaseGroup, product(*of_axes)))


def single_phases(groups: Sequence[PhaseGroup]) -> tuple[PhaseGroup, ...]:
    """The same phases, each in a group of its own."""
    return tuple(
        PhaseGroup(choice)
        for group in groups
        for choice in product(
            *(
                [AxisPhases((m,), g.offsets, (k,)) for m, k in zip(g.members, g.kernel, strict=True)]
                for g in group.axes
            )
        )
    )


def useful_terms(axes: Sequence[GatherAxis]) -> int:
    """How many (output, tap) pairs read an input that exists: the multiply-adds that cannot be avoided."""
    return prod(sum(_axis_terms(a)) for a in axes)


def _axis_terms(axis: GatherAxis) -> Iterator[int]:
    for group in axis.groups:
        for phase in group.members:
            # Outputs j * out_step + phase + shift within [0, output_size).
            low = max(0, -((phase + axis.shift) // axis.out_step))
            high = min(axis.cells, (axis.output_size - 1 - phase - axis.shift) // axis.out_step + 1)
            for offset in group.offsets:
                first, last = axis.readers(offset)
                yield max(0, min(high, last) - max(low, first))
