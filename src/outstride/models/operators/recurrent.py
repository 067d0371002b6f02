"""Recurrent layers, which go from element to element of a sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from outstride.models.operation import Operation

LAYER = nn.RNNBase
KINDS = (nn.RNN, nn.LSTM, nn.GRU)
"""Those that ``models.recurrence`` makes one operator of."""


@dataclass(frozen=True)
class Recurrence:
    """A recurrent layer; ``input`` stands for its sequence and ``state`` for what it goes on from."""

    input: Any
    state: tuple[Any, ...]
    axis: int
    """Along which it goes, of (L, N, C) or (N, L, C)."""
    both_ways: bool


def sequence_axis(layer: Any, rank: int) -> int:
    """The axis of the input along which such a layer goes: of (N, L, C), (L, N, C) or (L, C)."""
    return 1 if layer.batch_first and rank == 3 else 0


def read(operation: Operation) -> Recurrence:
    """Our operator for all of them."""
    return Recurrence(
        operation.argument("input"), tuple(operation.argument("state")),
        1 if operation.argument("batch_first") else 0, bool(operation.argument("bidirectional")),
    )  # fmt: skip


OPERATORS = {"outstride.recurrent": read}
