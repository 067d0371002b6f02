"""A layer's description taken apart into its axes, and sizes brought to one number for each of them."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import SupportsIndex, cast

from outstride.errors import ArgumentError, ShapeError
from outstride.layer.arguments import Pairs
from outstride.layer.axis import Axis
from outstride.layer.spec import ConvSpec

SizesLike = SupportsIndex | Sequence[SupportsIndex]
"""One size per axis; a single number stands for every axis."""


def check_spec(spec: object) -> None:
    """Refuse what is no description of a layer, such as its text or the layer itself."""
    if not isinstance(spec, ConvSpec):
        raise ArgumentError(
            f"'spec' must be a ConvSpec: got {type(spec).__name__}; legal: ConvSpec.parse('Conv2d(3, 8, 3)') "
            "or ConvSpec.of(layer)"
        )


def axes_of(spec: ConvSpec) -> list[Axis]:
    """The axes of a layer, padding "same" not yet resolved."""
    check_spec(spec)
    same = spec.padding == "same"
    pads: Pairs = ((0, 0),) * spec.nd if spec.padding == "same" else spec.padding
    return [
        Axis(
            number=index,
            transposed=spec.kind == "conv_transpose",
            same=same,
            ceil=spec.ceil_mode,
            mode=spec.padding_mode,
            kernel_size=spec.kernel_size[index],
            stride=spec.stride[index],
            dilation=spec.dilation[index],
            window=spec.window[index],
            low=low,
            high=high,
            output_padding=spec.output_padding[index],
        )
        for index, (low, high) in enumerate(pads)
    ]


def sizes_of(spec: ConvSpec, name: str, value: object) -> tuple[int, ...]:
    """One integer for every axis of the layer; a symbolic one stays symbolic."""
    check_spec(spec)
    entries = tuple(value) if isinstance(value, Iterable) else (value,) * spec.nd
    if len(entries) != spec.nd:
        raise ShapeError(
            f"{name!r} must have one entry per axis: got {name}={value!r} for {spec!r}; "
            f"legal: {spec.nd} integers"
        )
    return tuple(_integer(name, entry) for entry in entries)


def _integer(name: str, value: object) -> int:
    # A symbolic size must stay symbolic: turning it into an int would fix it for good.
    if type(value) is int or type(value).__name__ == "SymInt":
        return cast(int, value)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ShapeError(f"{name!r} must hold integers: got {value!r}; legal: integers")
    return operator.index(cast(SupportsIndex, value))
