"""What draws: one of several, a chance, a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Dice:
    """Draws from sequences."""

    rng: np.random.Generator

    def one(self, choices: Sequence[_Item]) -> _Item:
        """One of several."""
        return choices[int(self.rng.integers(len(choices)))]

    def chance(self, share: float) -> bool:
        """True in that share of all draws."""
        return bool(self.rng.random() < share)

    def upto(self, low: int, high: int) -> int:
        """A number between these, both of them possible."""
        return int(self.rng.integers(low, high + 1))
