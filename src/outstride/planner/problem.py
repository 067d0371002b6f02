"""A contraction with its sizes: what a plan is made for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Literal

from outstride.planner.axes import Axis, conv_axis, transposed_axis, useful_terms
from outstride.planner.recipe import STORAGE_BYTES, Unit


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

    def axes(self, *, cropped: bool = False) -> tuple[Axis, ...]:
        """The gather form of every axis, depth first."""
        args = zip(
            self.input_size, self.output_size, self.kernel_size, self.stride, self.padding, self.dilation,
            strict=True,
        )  # fmt: skip
        if self.operator == "conv":
            return tuple(conv_axis(*a) for a in args)
        return tuple(transposed_axis(*a, cropped=cropped) for a in args)

    @cached_property
    def terms(self) -> int:
        """Multiply-adds that the result needs, padding and cropped outputs not counted."""
        return self.batch * self.groups * self.channels * self.outputs * useful_terms(self.axes())

    @property
    def packed_channels(self) -> int:
        """Input channels of a group."""
        return self.outputs if self.depthwise else self.channels

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
