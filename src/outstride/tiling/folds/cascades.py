"""Sums of whole maps in torch's order, in which numbers go to chains in turn and each chain is a cascade.

The order is that of ``engine/planner/maps/means.py``. A chain hands on what it has after so many steps, the
level above after as many of those, up to the last level, which goes on: so what is carried are the elements
of a step that has not ended, the sums of a level that has not, and the last level.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from outstride.engine.launch.maps.sum_orders import LEVELS, SumColumns
from outstride.tiling.box import Box
from outstride.tiling.folds.blocks import Blocks
from outstride.tiling.folds.interface import Fold


class Cascade:
    """The sums of some maps of as many positions, which arrive together."""

    def __init__(self, columns: SumColumns, positions: int, dtype: torch.dtype) -> None:
        self._order = columns.order
        self._every = self._order.level_steps(positions)
        self._blocks = Blocks(columns.count, self._order.chains * self._every, dtype)
        chains = columns.count, 0, self._order.chains
        self._waiting = [torch.zeros(chains, dtype=dtype) for _ in range(LEVELS - 2)]
        self._last = torch.zeros(columns.count, self._order.chains, dtype=dtype)

    def take(self, part: Tensor) -> None:
        """The next elements, (maps, count)."""
        for blocks in self._blocks.take(part):
            self._climb(0, _sums(blocks.unflatten(2, (self._every, self._order.chains))))

    def _climb(self, level: int, sums: Tensor) -> None:
        """Sums of a level go up where there are enough of them."""
        if level == len(self._waiting):
            for place in range(sums.shape[1]):
                self._last = self._last + sums[:, place]
            return
        waiting = torch.cat([self._waiting[level], sums], 1)
        whole = waiting.shape[1] // self._every * self._every
        self._waiting[level] = waiting[:, whole:].clone()
        if whole:
            self._climb(level + 1, _sums(waiting[:, :whole].unflatten(1, (-1, self._every))))

    def result(self) -> Tensor:
        """The sum of each map."""
        width, fold, rest = self._order.width, self._order.fold, self._blocks.rest
        steps = rest.shape[1] // self._order.chains
        whole_steps = rest[:, : steps * self._order.chains]
        total = _sums(whole_steps.reshape(len(rest), 1, steps, self._order.chains))[:, 0]
        for level in self._waiting:
            total = total + _sums(level[:, None])[:, 0]
        total = total + self._last
        folds = list(total.unflatten(1, (fold, width)).unbind(1))
        whole = rest.shape[1] // width * width
        for place in range(steps * self._order.chains, whole, width):
            folds[0] = folds[0] + rest[:, place : place + width]
        lanes: Tensor = folds[0]
        for other in folds[1:]:
            lanes = lanes + other
        if width == 1:
            return lanes[:, 0]
        single = torch.zeros(len(rest), dtype=rest.dtype)
        for place in range(whole, rest.shape[1]):
            single = single + rest[:, place]
        for lane in range(width):
            single = single + lanes[:, lane]
        return single


def _sums(steps: Tensor) -> Tensor:
    """(maps, groups, chains) after (maps, groups, steps, chains), one step after the other from +0 on."""
    total = steps.new_zeros(steps.shape[0], steps.shape[1], steps.shape[3])
    for step in range(steps.shape[2]):
        total += steps[:, :, step]
    return total


class MapSums(Fold):
    """The sum of each channel of each image of (N, C, *size), or its mean."""

    def __init__(
        self, shape: tuple[int, ...], dtype: torch.dtype, columns: list[SumColumns], mean: bool,
        made: tuple[int, ...],
    ) -> None:  # fmt: skip
        self._positions, self._mean, self._made = prod(shape[2:]), mean, made
        self._columns = columns
        self._cascades = [
            [Cascade(each, self._positions, dtype) for each in columns] for _ in range(shape[0])
        ]

    def take(self, walk: int, box: Box, part: Tensor) -> None:
        """The next rows of all channels."""
        del walk
        for number, image in enumerate(part, box[0][0]):
            maps = image.reshape(image.shape[0], -1)
            for each, cascade in zip(self._columns, self._cascades[number], strict=True):
                cascade.take(maps[each.first : each.first + each.count])

    def result(self) -> Tensor:
        """One number for each channel of each image."""
        sums = torch.stack([torch.cat([each.result() for each in image]) for image in self._cascades])
        return (sums / self._positions if self._mean else sums).view(self._made)
