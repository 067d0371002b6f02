"""One layer on one input size, and the short notation that the table is written in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, cast

Pairs = tuple[tuple[int, int], ...]
LAYOUTS = ("contiguous", "channels_last", "permuted", "sliced", "expanded")


@dataclass(frozen=True)
class Case:
    """One layer on one input size."""

    id: str
    operator: str
    input_size: tuple[int, ...]
    kernel_size: tuple[int, ...]
    in_channels: int
    out_channels: int
    batch: int = 2
    stride: tuple[int, ...] = ()
    padding: Pairs | str = ()
    dilation: tuple[int, ...] = ()
    output_padding: tuple[int, ...] = ()
    output_size: tuple[int, ...] | None = None
    groups: int = 1
    padding_mode: str = "zeros"
    bias: bool = True
    batched: bool = True
    layout: str = "contiguous"
    weight_layout: str = "contiguous"
    algorithm: str = "auto"
    """"direct", "auto", or "short": "auto" where all that can be short is (`tests/environments.py`)."""

    @property
    def nd(self) -> int:
        return len(self.input_size)

    @property
    def transposed(self) -> bool:
        return self.operator == "conv_transpose"

    @property
    def seed(self) -> int:
        return int.from_bytes(hashlib.sha256(self.id.encode()).digest()[:4], "big")

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.batch, self.in_channels, *self.input_size)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        if self.transposed:
            return (self.in_channels, self.out_channels // self.groups, *self.kernel_size)
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    @property
    def pads(self) -> Pairs:
        """Padding as (low, high) numbers, with "same" worked out by TensorFlow's rule."""
        if not isinstance(self.padding, str):
            return self.padding
        if self.padding == "valid":
            return ((0, 0),) * self.nd
        pairs = []
        for i, k, s, d in zip(self.input_size, self.kernel_size, self.stride, self.dilation, strict=True):
            extent = (k - 1) * d + 1
            total = max(extent - s if self.transposed else (-(-i // s) - 1) * s + extent - i, 0)
            pairs.append((total // 2, total - total // 2))
        return tuple(pairs)

    @property
    def out_spatial(self) -> tuple[int, ...]:
        """The output size, from the formulas of the documentation."""
        if self.output_size is not None:
            return self.output_size
        sizes = []
        for axis, (low, high) in enumerate(self.pads):
            i, s = self.input_size[axis], self.stride[axis]
            extent = (self.kernel_size[axis] - 1) * self.dilation[axis] + 1
            if not self.transposed:
                sizes.append((i + low + high - extent) // s + 1)
            elif self.padding == "same":
                sizes.append(i * s)
            else:
                sizes.append((i - 1) * s - low - high + extent + self.output_padding[axis])
        return tuple(sizes)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.batch, self.out_channels, *self.out_spatial)

    @property
    def terms(self) -> int:
        """Products in the longest sum of one output element."""
        taps = self.kernel_size
        if self.transposed:
            taps = tuple(
                max(sum((f - k * d) % s == 0 for k in range(n)) for f in range(s))
                for n, s, d in zip(self.kernel_size, self.stride, self.dilation, strict=True)
            )
        return max(1, prod(taps) * self.in_channels // self.groups)

    def tiny(self) -> Case:
        """The same options on the fewest channels and the smallest input that still has an output."""
        groups = min(self.groups, 2)
        ratio = 2 if self.groups > 1 and self.out_channels > self.in_channels else 1
        size = tuple(min(i, 3 if self.transposed else (k - 1) * d + 1 + s) for i, k, d, s in self._axes())
        kernel = tuple(min(k, 5) for k in self.kernel_size)
        small = replace(
            self, id=f"tiny-{self.id}", batch=1, input_size=size, kernel_size=kernel, groups=groups,
            in_channels=groups if groups > 1 else 2, out_channels=groups * ratio, output_size=None,
        )  # fmt: skip
        return small if min(small.out_spatial) >= 1 else replace(small, input_size=self.input_size)

    def _axes(self) -> Iterator[tuple[int, int, int, int]]:
        return zip(self.input_size, self.kernel_size, self.dilation, self.stride, strict=True)


def case(
    name: str,
    operator: str,
    input_size: Sequence[int],
    kernel_size: int | Sequence[int],
    channels: tuple[int, int] = (3, 5),
    **options: object,
) -> Case:
    """A case from short notation: a single number stands for every axis."""
    nd = len(input_size)
    axes = {option: _spread(options.pop(option, default), nd) for option, default in _PER_AXIS.items()}
    pads = _pairs(options.pop("padding", 0), nd)
    fixed: dict[str, Any] = {"padding": pads, **axes, **options}
    return Case(name, operator, tuple(input_size), _spread(kernel_size, nd), *channels, **fixed)


_PER_AXIS = {"stride": 1, "dilation": 1, "output_padding": 0}


def _spread(value: object, nd: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, Sequence) else (cast("int", value),) * nd


def _pairs(padding: object, nd: int) -> Pairs | str:
    if isinstance(padding, str):
        return padding
    per_axis: Sequence[Any] = padding if isinstance(padding, Sequence) else (padding,) * nd
    return tuple((p, p) if isinstance(p, int) else (p[0], p[1]) for p in per_axis)


CONV, TRANSPOSED = "conv", "conv_transpose"

#: Channels in and out.
CHANNELS = (
    (1, 1),
    (1, 16),
    (16, 15),
    (17, 31),
    (3, 33),
    (63, 2),
    (64, 3),
    (65, 3),
    (70, 17),
    (130, 4),
    (2, 130),
)

#: Groups of one input or output channel, several in a task whose pixels lie apart.
GROUPED: dict[str, object] = {"groups": 8, "padding": 1, "layout": "channels_last", "batch": 1}
