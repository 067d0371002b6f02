"""Recurrent layers, which torch takes apart into a step for each element of a sequence."""

from __future__ import annotations

from typing import Any

from torch import nn

LAYER = nn.RNNBase


def sequence_axis(layer: Any, rank: int) -> int:
    """The axis of the input along which such a layer goes: of (N, L, C), (L, N, C) or (L, C)."""
    return 1 if layer.batch_first and rank == 3 else 0
