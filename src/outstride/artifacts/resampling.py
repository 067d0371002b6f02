"""Enlarging by interpolation as torch does it, on one period of a signal that repeats for ever."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from outstride.errors import UnsupportedError


def factors_of(layer: Any, nd: int) -> tuple[int, ...]:
    """The whole factors by which an ``nn.Upsample`` enlarges."""
    given = layer.scale_factor
    factors = tuple(given) if isinstance(given, (tuple, list)) else (given,) * nd
    if layer.align_corners or any(f is None or f != int(f) or f < 1 for f in factors):
        raise UnsupportedError(
            f"'layer' must enlarge by whole factors with align_corners=False, or its output does not repeat: "
            f"got {layer!r}; legal: scale_factor=2"
        )
    return tuple(map(int, factors))


def resized(layer: Any, signal: Tensor) -> Tensor:
    """What ``nn.Upsample`` makes of (N, C, *period)."""
    for axis, factor in enumerate(factors_of(layer, signal.dim() - 2), 2):
        signal = _resampled(signal, axis, factor, layer.mode)
    return signal


def _resampled(signal: Tensor, axis: int, factor: int, mode: str) -> Tensor:
    """One axis enlarged: output ``factor * q + f`` mixes the inputs around q with the weights of phase f."""
    phases = []
    for phase in range(factor):
        taps = resampling_taps(phase, factor, mode)
        phases.append(torch.stack([w * torch.roll(signal, -offset, axis) for offset, w in taps]).sum(0))
    return torch.stack(phases, axis + 1).flatten(axis, axis + 1)


def resampling_taps(phase: int, factor: int, mode: str) -> list[tuple[int, float]]:
    """The (input offset, weight) pairs of one phase of torch's resampling, align_corners=False.

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
