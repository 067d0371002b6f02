"""Which element goes with which: the one place that knows how a window lies on its input."""

from __future__ import annotations

from typing import cast

from outstride import geometry
from outstride.layer.arguments import Pairs
from outstride.layer.spec import ConvSpec

Ties = list[list[list[int | None]]]
"""Per axis, for each output of the convolution and kernel index: the input element, None in zero padding."""


def ties(spec: ConvSpec, ins: tuple[int, ...], outs: tuple[int, ...]) -> Ties:
    """Which input element each output of a convolution reads through each kernel element."""
    lows = [low for low, _ in cast(Pairs, spec.padding)]
    rows = zip(spec.kernel_size, spec.stride, spec.dilation, lows, ins, outs, strict=True)
    return [
        [
            [geometry.source_index(o * s + k * d - low, i, spec.padding_mode) for k in range(size)]
            for o in range(out)
        ]
        for size, s, d, low, i, out in rows
    ]


def tied(pairs: Ties, oh: tuple[int, ...], kh: tuple[int, ...]) -> tuple[int, ...] | None:
    """The input element of one output and one kernel element, None in zero padding."""
    ih = tuple(axis[o][k] for axis, o, k in zip(pairs, oh, kh, strict=True))
    return None if None in ih else cast("tuple[int, ...]", ih)
