"""What is folded: a map that is handed over box by box, in order, to something that stays small."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor

from outstride.tiling.box import Box


class Fold(ABC):
    """What a walk over a whole map adds up to, with the bits of torch's own routine on the whole.

    Boxes come image by image, each in slabs along the first axis behind the channels that are complete on
    all others, or in parts of a slab of one row: torch's routines go through a channel in this order, so that
    a sum that is carried from box to box is the whole's.
    """

    walks: int = 1
    """How often the map is gone through."""

    @abstractmethod
    def take(self, walk: int, box: Box, part: Tensor) -> None:
        """The next box."""

    @abstractmethod
    def result(self) -> Any:
        """What it has come to after the last walk."""
