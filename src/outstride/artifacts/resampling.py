"""Enlarging by interpolation as torch does it, on one period of a signal that repeats for ever."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from outstride.errors import UnsupportedError
from outstride.models.operators import resizing


def factors_of(layer: Any, nd: int) -> tuple[int, ...]:
    """The whole factors by which an ``nn.Upsample`` enlarges."""
    kind = resizing.of_layer(layer, nd)
    factors = [0 if factor is None else factor for factor in kind.factors]
    if kind.aligned or any(factor != int(factor) or factor < 1 for factor in factors):
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
        taps = resizing.weights_of(phase, factor, mode)
        phases.append(torch.stack([w * torch.roll(signal, -offset, axis) for offset, w in taps]).sum(0))
    return torch.stack(phases, axis + 1).flatten(axis, axis + 1)
