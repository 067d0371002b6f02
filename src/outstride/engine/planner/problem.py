"""A contraction with its sizes: what a plan is made for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Literal

from outstride.engine.planner.dtypes import ACCUMULATOR_BYTES, STORAGE_BYTES, Unit, WeightAxis
from outstride.engine.planner.epilogue import BIAS, Epilogue
from outstride.engine.planner.gather_form import GatherAxis, conv_axis, transposed_axis, useful_terms
from outstride.engine.planner.short_form import axis_of_inputs, axis_of_products
from outstride.engine.planner.steps import Step
from outstride.layer.shortening import ShortAxis, short_axis

#: Results of so many bytes leave the last-level cache before anybody reads them. With nontemporal stores,
#: smaller ones cost up to a tenth more and larger ones up to a fifth less.
NONTEMPORAL_BYTES = 16 << 20

Sizes = tuple[int, int, int]


@dataclass(frozen=True)
class Problem:
    """A convolution or transposed convolution of known sizes; every axis tuple has three entries.

    `channels` are summed over and `outputs` made, both per group; the geometry is that of the convolution
    (u = i * stride + k * dilation - padding), whichever of the two runs.
    """

    operator: Literal["conv", "conv_transpose"]
    dtype: str
    batch: int
    groups: int
    channels: int
    outputs: int
    input_size: tuple[int, int, int]
    output_size: tuple[int, int, int]
    kernel_size: tuple[int, int, int]
    stride: tuple[int, int, int]
    padding: tuple[int, int, int]
    dilation: tuple[int, int, int]
    in_unit: Unit
    out_unit: Unit
    #: Output o reads input channel o alone: `channels` is 1, and the input has as many as there are outputs.
    depthwise: bool = False
    #: What is done to the sums before they are stored.
    epilogue: Epilogue = BIAS
    #: What is done to elements of the input when they are read: each step gives 0 for 0.
    before: tuple[Step, ...] = ()
    #: Whether its outputs come from fewer products than one for each tap.
    short: bool = False
    #: Of few rows times a matrix the axis that its weights have side by side; None: weights are packed.
    unpacked: WeightAxis | None = None
    #: Whether it is the product of two matrices of which the first lies as a strip does: row behind row.
    rows: bool = False

    def axes(self, *, cropped: bool = False) -> tuple[GatherAxis, ...]:
        """The gather form of every axis, depth first; of short axes that of their transformed input."""
        if self.short:
            sizes = zip(self.short_axes, self.output_size, strict=True)
            return tuple(axis_of_products(axis, n) for axis, n in sizes)
        return self._direct_axes(cropped=cropped)

    def input_axes(self, axes: tuple[GatherAxis, ...]) -> tuple[GatherAxis, ...]:
        """The axes that the input is packed along: the gather form, or what sums of it are made from."""
        if not self.short:
            return axes
        sizes = zip(self.short_axes, self.input_size, self.output_size, strict=True)
        return tuple(axis_of_inputs(axis, u, n) for axis, u, n in sizes)

    @property
    def short_axes(self) -> tuple[ShortAxis, ...]:
        """The cells of every axis, by short algorithms."""
        numbers = zip(self.kernel_size, self.stride, self.padding, self.dilation, strict=True)
        return tuple(short_axis(self.operator == "conv_transpose", *n) for n in numbers)

    def _direct_axes(self, *, cropped: bool = False) -> tuple[GatherAxis, ...]:
        args = zip(
            self.input_size, self.output_size, self.kernel_size, self.stride, self.padding, self.dilation,
            strict=True,
        )  # fmt: skip
        if self.operator == "conv":
            return tuple(conv_axis(*a) for a in args)
        return tuple(transposed_axis(*a, cropped=cropped) for a in args)

    def coarse(self) -> Problem:
        """The problem of a size rounded up, a few for each doubling: it stands for all sizes up to it.

        Cells are rounded: outputs of a convolution, inputs of a transposed one.
        """
        forward = self.operator == "conv"
        size = self.output_size if forward else self.input_size
        more = tuple(c - n for c, n in zip(coarse_size(size), size, strict=True))
        if not any(more):
            return self
        steps = tuple(m * s for m, s in zip(more, self.stride, strict=True))
        for_input, for_output = (steps, more) if forward else (more, steps)
        return self.of_size(_sum(self.input_size, for_input), _sum(self.output_size, for_output))

    def of_size(self, input_size: Sizes, output_size: Sizes) -> Problem:
        """The problem of another size; every new size waits for it, and `replace` checks each field."""
        other = object.__new__(Problem)
        other.__dict__.update(self.__dict__, input_size=input_size, output_size=output_size)
        other.__dict__.pop("terms", None)  # which is worked out for a size
        return other

    @property
    def may_crop(self) -> bool:
        """Whether cells may be counted from the first output that is kept: small maps lose outputs."""
        axes = zip(self.stride, self.padding, self.output_size, strict=True)
        if self.short:
            return False
        return self.operator == "conv_transpose" and any(s > 1 and p > 0 and o <= 512 for s, p, o in axes)

    @cached_property
    def terms(self) -> int:
        """Multiply-adds that the result needs, padding and cropped outputs not counted."""
        return self.batch * self.groups * self.channels * self.outputs * useful_terms(self._direct_axes())

    @property
    def stores_directly(self) -> bool:
        """Whether vectors of a tile may go straight to their places along the width: one phase, one type."""
        return self.out_unit == "width" and self._stores

    @property
    def stores_pixels(self) -> bool:
        """Whether the results of a pixel may go straight to their places along the channels."""
        return self.out_unit == "channel" and self._stores

    @property
    def _stores(self) -> bool:
        same = STORAGE_BYTES[self.dtype] == ACCUMULATOR_BYTES[self.dtype]
        return same and not self.short and (self.operator == "conv" or set(self.stride) == {1})

    @property
    def nontemporal(self) -> bool:
        """Whether results are stored by nontemporal stores: caches need not read what is overwritten."""
        results = self.batch * self.groups * self.outputs * prod(self.output_size)
        return self.out_unit == "width" and results * STORAGE_BYTES[self.dtype] >= NONTEMPORAL_BYTES

    @property
    def packed_channels(self) -> int:
        """Input channels of a group."""
        return self.outputs if self.depthwise else self.channels

    @property
    def weight_bytes(self) -> int:
        """All weights, as they are packed."""
        of_each = [len(a.products) for a in self.short_axes] if self.short else self.kernel_size
        return ACCUMULATOR_BYTES[self.dtype] * self.groups * self.channels * self.outputs * prod(of_each)

    @property
    def flops(self) -> int:
        """Two for each multiply-add."""
        return 2 * self.terms

    @property
    def bytes(self) -> int:
        """The least traffic: input, weight and output once."""
        image = self.packed_channels * prod(self.input_size) + self.outputs * prod(self.output_size)
        weight = self.channels * self.outputs * prod(self.kernel_size)
        return STORAGE_BYTES[self.dtype] * self.groups * (self.batch * image + weight)


#: Cells up to which a size is taken as it is: there one more may need another tile.
_EXACT = 64


def coarse_size(cells: Sequence[int]) -> tuple[int, ...]:
    """The size that stands for this one in planning; sizes that share it may share a plan's boxes."""
    return tuple(map(_rounded, cells))


def _rounded(cells: int) -> int:
    """Cells rounded up to one of eight numbers in each doubling."""
    if cells <= _EXACT:
        return cells
    step = 1 << (cells.bit_length() - 4)
    return -(-cells // step) * step


def _sum(size: Sizes, more: tuple[int, ...]) -> Sizes:
    d, h, w = (a + b for a, b in zip(size, more, strict=True))
    return d, h, w
