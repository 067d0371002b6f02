"""Interpolation: which input positions torch mixes for each output, and with what weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import floor
from typing import Any

import torch.nn.functional as F
from torch import nn

from outstride.models.operation import Operation
from outstride.models.operators.function_calls import Function
from outstride.models.operators.reach import Reach

MODES = ("nearest", "nearest-exact", "linear", "cubic", "linear-antialias", "cubic-antialias")
LAYER = nn.Upsample
#: A factor is taken for the nearest fraction of no larger denominator.
_MOST_DENOMINATOR = 4096
_HALF = Fraction(1, 2)
_RADIUS = {"linear-antialias": 1, "cubic-antialias": 2}


@dataclass(frozen=True)
class Resize:
    """Interpolation of the last axes, of which there are ``nd``."""

    mode: str
    """One of MODES."""
    nd: int
    aligned: bool
    """Whether the outermost pixel centres coincide (``align_corners``)."""
    factors: tuple[float | None, ...]
    """For each axis the factor, as the caller wrote it; None where the sizes say it."""

    def ratio(self, axis: int, inputs: int, outputs: int) -> Fraction:
        """Input positions per output: with a factor torch takes its reciprocal, not the quotient of sizes."""
        factor = self.factors[axis]
        if factor:
            return 1 / Fraction(factor).limit_denominator(_MOST_DENOMINATOR)
        return Fraction(inputs, outputs)

    def reach(self, axis: int, inputs: int, outputs: int) -> Reach:
        """What each output reads along an axis."""
        return reach_of(self.mode, inputs, outputs, self.ratio(axis, inputs, outputs), self.aligned)


class NearestResize(Resize):
    """Each output is one input, ``nearest`` or ``nearest-exact``."""


class LinearResize(Resize):
    """Each output is a mean of the two inputs around it, on every axis."""


class CubicResize(Resize):
    """Each output is made of the four inputs around it, on every axis."""


class AntialiasedResize(Resize):
    """Each output is made of inputs as far apart as outputs are, where it is the smaller side."""


def read(operation: Operation, mode: str, nd: int) -> Resize:
    """torch's operator for one mode and number of axes."""
    factors = operation.argument("scale_factors")
    if factors is None:
        names = ["scales"] if nd == 1 else ["scales_d", "scales_h", "scales_w"][-nd:]
        factors = [operation.argument(name) for name in names]
    return _kind_of(mode)(mode, nd, bool(operation.argument("align_corners", False)), tuple(factors))


def of_layer(layer: Any, nd: int) -> Resize:
    """An ``nn.Upsample`` on inputs of so many axes."""
    factor = layer.scale_factor
    factors = tuple(factor) if isinstance(factor, (tuple, list)) else (factor,) * nd
    mode = next((mode for mode in ("linear", "cubic") if layer.mode.endswith(mode)), layer.mode)
    return _kind_of(mode)(mode, nd, bool(layer.align_corners), factors)


def _kind_of(mode: str) -> type[Resize]:
    if mode in _RADIUS:
        return AntialiasedResize
    return {"linear": LinearResize, "cubic": CubicResize}.get(mode, NearestResize)


def reach_of(mode: str, inputs: int, outputs: int, ratio: Fraction, aligned: bool) -> Reach:
    """What interpolation from ``inputs`` positions to ``outputs`` reads with a weight other than 0.

    Half-pixel centres: output q lies at ``(q + 1/2) * ratio - 1/2``.
    """
    if aligned:
        ratio = Fraction(inputs - 1, outputs - 1) if outputs > 1 else Fraction(0)
    period, jump = ratio.denominator, ratio.numerator
    taps = tuple(tuple(_sources(mode, q, ratio, aligned)) for q in range(period))
    shift = Fraction(0) if aligned else (ratio - 1) / 2
    if mode.startswith("nearest"):
        # The nearest pixel lies beside the exact place; over one period that is a shift on average.
        shift = sum((t[0] - q * ratio for q, t in enumerate(taps)), Fraction(0)) / period
    return Reach(period, jump, taps, ratio, shift)


def _sources(mode: str, q: int, ratio: Fraction, aligned: bool) -> Iterable[int]:
    if mode == "nearest":
        at = floor(q * ratio)
        return range(at, at + 1)
    if mode == "nearest-exact":
        at = floor((q + _HALF) * ratio)
        return range(at, at + 1)
    if mode in _RADIUS:
        middle, radius = (q + _HALF) * ratio, _RADIUS[mode] * max(ratio, Fraction(1))
        return range(floor(middle - radius + _HALF), floor(middle + radius + _HALF))
    place = q * ratio if aligned else (q + _HALF) * ratio - _HALF
    at = floor(place)
    if place == at:
        return range(at, at + 1)
    return range(at, at + 2) if mode == "linear" else range(at - 1, at + 3)


def weights_of(phase: int, factor: int, mode: str) -> list[tuple[int, float]]:
    """The (input offset, weight) pairs of one phase of enlarging by a whole factor, corners not aligned.

    Output factor * q + phase lies at input q + (phase + 1/2) / factor - 1/2. Linear weights are the distances
    to the two neighbours; cubic ones are Keys' kernel with torch's a = -3/4.
    """
    if mode.startswith("nearest"):
        return [(0, 1.0)]
    place = (phase + 0.5) / factor - 0.5
    first = math.floor(place)
    t = place - first
    if mode.endswith("linear"):
        return [(first, 1 - t), (first + 1, t)]
    a = -0.75

    def near(x: float) -> float:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: float) -> float:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return [(first - 1, far(1 + t)), (first, near(t)), (first + 1, near(1 - t)), (first + 2, far(2 - t))]


OPERATORS: dict[str, Any] = {
    "aten.upsample_linear1d": partial(read, mode="linear", nd=1),
    "aten.upsample_bilinear2d": partial(read, mode="linear", nd=2),
    "aten.upsample_trilinear3d": partial(read, mode="linear", nd=3),
    "aten.upsample_bicubic2d": partial(read, mode="cubic", nd=2),
    "aten._upsample_bilinear2d_aa": partial(read, mode="linear-antialias", nd=2),
    "aten._upsample_bicubic2d_aa": partial(read, mode="cubic-antialias", nd=2),
}
for _nd in (1, 2, 3):
    OPERATORS[f"aten.upsample_nearest{_nd}d"] = partial(read, mode="nearest", nd=_nd)
    OPERATORS[f"aten._upsample_nearest_exact{_nd}d"] = partial(read, mode="nearest-exact", nd=_nd)


def _layer(size: Any = None, scale_factor: Any = None, **options: Any) -> nn.Module | None:
    if options.pop("antialias", False) or options.get("mode") == "area":
        return None
    options.pop("recompute_scale_factor", None)
    return nn.Upsample(size, scale_factor, **options)


_PARAMETERS = (
    *("input", "size", "scale_factor", "mode", "align_corners", "recompute_scale_factor"),
    "antialias",
)
FUNCTIONS: dict[Any, Function] = {F.interpolate: Function(_PARAMETERS, _layer)}
