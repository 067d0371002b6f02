"""Overlap and hole maps: how many kernel elements meet each position, whatever the weights are."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any, Literal, SupportsIndex

import numpy as np
import numpy.typing as npt

from outstride import geometry
from outstride.errors import ShapeError
from outstride.geometry import source_index
from outstride.layer.spec import ConvSpec
from outstride.output.tables import html_text

#: Positions of a map, and taps that are gone through one by one: some 100 MB and some seconds.
MOST_POSITIONS, MOST_TAPS = 1 << 24, 1 << 22

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Overlap:
    """How many kernel elements meet each position of a layer's output, or of its gradient.

    ``of`` is "output" for transposed layers and "gradient" for others, whose gradient is spread over the
    input as a transposed layer's output is. ``counts`` holds one period (stride elements per axis), or the
    whole tensor where a size was given.
    """

    spec: ConvSpec
    of: Literal["output", "gradient"]
    counts: Counts
    whole: bool

    @property
    def even(self) -> bool:
        """Whether every position is met equally often: then equal weights leave no pattern."""
        return bool((self.counts == self.counts.flat[0]).all())

    @property
    def holes(self) -> float:
        """The share of the positions that nothing meets, from 0 to 1."""
        return float((self.counts == 0).mean())

    def to_dict(self) -> dict[str, Any]:
        """The same as plain numbers."""
        return {
            "layer": repr(self.spec),
            "of": self.of,
            "whole": self.whole,
            "even": self.even,
            "holes": self.holes,
            "counts": self.counts.tolist(),
        }

    def _repr_html_(self) -> str:
        return html_text(str(self))

    def __str__(self) -> str:
        verdict = "even" if self.even else f"uneven: {self.counts.min()} to {self.counts.max()}"
        holes = f", {self.holes:.0%} of it holes" if self.holes else ""
        where = "the whole tensor" if self.whole else "one period"
        rows = np.array2string(self.counts, threshold=400)
        return f"{self.spec!r}: overlap of its {self.of} is {verdict}{holes}\n{where}:\n{rows}"


def overlap(layer: object, input_size: Sequence[SupportsIndex] | SupportsIndex | None = None) -> Overlap:
    """Count the kernel elements that meet each position, with no regard to the weights.

    Args:
        layer: a layer of torch or a ``ConvSpec``: convolution, transposed convolution or pooling.
        input_size: elements per axis; without it one period far from the borders is counted.

    Returns:
        Transposed layers: per output u the pairs (i, k) with u = i * stride + k * dilation - low. Others: the
        same per input for the gradient that comes back. Each axis counts by itself and the map is the
        product. Away from the borders it is even exactly if stride is 1, or stride and dilation are coprime
        and the stride divides the kernel size. If they share the factor g, only one phase in g is met at all.

    Raises:
        ArgumentError: the layer is none of these.
        ShapeError: the layer has no output for that size, or the map would be too large.

    Example:
        >>> overlap(ConvSpec.parse("ConvTranspose1d(1, 1, 3, stride=2)"), 4).counts.tolist()
        [1, 1, 2, 1, 2, 1, 2, 1, 1]

    Source: Odena, Dumoulin, Olah, Deconvolution and Checkerboard Artifacts, Distill 2016; dilation is ours.
    """
    spec = layer if isinstance(layer, ConvSpec) else ConvSpec.of(layer)
    _check_small(spec, input_size)
    of: Literal["output", "gradient"] = "output" if spec.kind == "conv_transpose" else "gradient"
    axes = _periods(spec) if input_size is None else _tensors(spec, input_size)
    counts = reduce(np.multiply.outer, axes)
    return Overlap(spec, of, counts, input_size is not None)


def _check_small(spec: ConvSpec, input_size: Any) -> None:
    """Refuse a map that no memory holds, or whose windows nobody waits for, by its sizes alone."""
    if input_size is None:
        positions, windows = spec.stride, (1,) * spec.nd
        what = f"'layer' must have a period small enough to be counted: got strides of {spec.stride}"
    else:
        outs = geometry.output_size(spec, input_size)
        ins = (operator.index(input_size),) * spec.nd if isinstance(input_size, SupportsIndex) else input_size
        positions, windows = (outs, ins) if spec.kind == "conv_transpose" else (ins, outs)
        what = f"'input_size' must be small enough to be counted: got {input_size}"
    taps = sum(n * k for n, k in zip(windows, spec.kernel_size, strict=True))
    if prod(positions) > MOST_POSITIONS or taps > MOST_TAPS:
        raise ShapeError(
            f"{what} with kernels of {spec.kernel_size}; legal: at most {MOST_POSITIONS} positions and "
            f"{MOST_TAPS} taps of all windows along the axes"
        )


def phase_lows(spec: ConvSpec) -> tuple[int, ...]:
    """The low padding per axis; where "same" makes it vary with the size, for multiples of the stride."""
    many = tuple(s * w for s, w in zip(spec.stride, spec.window, strict=True))
    return tuple(low for low, _ in geometry.resolved_padding(spec, many))


def _periods(spec: ConvSpec) -> list[Counts]:
    axes = zip(spec.kernel_size, spec.stride, spec.dilation, phase_lows(spec), strict=True)
    return [
        np.bincount([(k * dilation - low) % stride for k in range(kernel)], minlength=stride)
        for kernel, stride, dilation, low in axes
    ]


def _tensors(spec: ConvSpec, input_size: Any) -> list[Counts]:
    outs = geometry.output_size(spec, input_size)
    ins = tuple(np.broadcast_to(input_size, spec.nd).tolist())
    pads = geometry.resolved_padding(spec, ins)
    transposed = spec.kind == "conv_transpose"
    met, steps = (outs, ins) if transposed else (ins, outs)
    return [_axis(spec, axis, met[axis], steps[axis], pads[axis][0]) for axis in range(spec.nd)]


def _axis(spec: ConvSpec, axis: int, met: int, steps: int, low: int) -> Counts:
    """How often each of ``met`` elements lies under one of ``steps`` windows, borders included."""
    counts = np.zeros(met, np.int64)
    for step in range(steps):
        for k in range(spec.kernel_size[axis]):
            at = step * spec.stride[axis] + k * spec.dilation[axis] - low
            # A transposed layer's high padding cuts the scatter short, a convolution's lies beyond its last
            # window: both are positions outside the tensor.
            source = source_index(at, met, spec.padding_mode)
            if source is not None:
                counts[source] += 1
    return counts
