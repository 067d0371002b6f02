"""The largest or least of a map, or whether any or all of it are true: in whatever order."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from outstride.tiling.box import Box
from outstride.tiling.folds.interface import Fold


class Extremes(Fold):
    """What ``of`` finds in a part, joined with what was found before, in each image or in all of them."""

    def __init__(
        self, of: Callable[[Tensor], Tensor], join: Callable[[Tensor, Tensor], Tensor], in_all: bool
    ) -> None:
        self._of, self._join, self._in_all = of, join, in_all
        self._found: dict[int, Tensor] = {}

    def take(self, walk: int, box: Box, part: Tensor) -> None:
        """The next rows of all channels."""
        del walk
        found, number = self._of(part), 0 if self._in_all else box[0][0]
        self._found[number] = self._join(self._found[number], found) if number in self._found else found

    def result(self) -> Tensor:
        """That of each image, or of all."""
        found = [self._found[number] for number in sorted(self._found)]
        return found[0] if self._in_all else torch.cat(found)
