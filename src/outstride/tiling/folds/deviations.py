"""Norms and variances of whole maps in torch's order: chains that go on from part to part.

A norm of a map in order has the lanes of torch's vectors as chains, which are added up in the end, and behind
them what fills no vector; one of a map in channels_last has a chain for each channel. A variance has one for
each channel either way, by Welford's sums in float64.
"""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from torch import Tensor

from outstride.engine.launch.maps.running import add_moments, add_squares
from outstride.tiling.box import Box
from outstride.tiling.folds.blocks import Blocks
from outstride.tiling.folds.interface import Fold


def _root(squares: Tensor) -> Tensor:
    """Rounded once, as torch's own vectors of roots are not."""
    return torch.from_numpy(np.sqrt(squares.numpy()))


def _rows(image: Tensor) -> Tensor:
    """The positions of each channel, (channels, positions), one after the other in memory."""
    return image.reshape(len(image), -1).contiguous()


def _side_by_side(image: Tensor) -> Tensor:
    """The channels of each position, (1, positions, channels)."""
    return image.reshape(len(image), -1).t().contiguous()[None]


class Norms(Fold):
    """The root of the sum of squares of each channel of (N, C, *size).

    ``lanes``: of torch's vectors, 0 for a map in channels_last.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, lanes: int, made: tuple[int, ...]) -> None:
        images, channels = shape[:2]
        self._made, self._lanes = made, lanes
        chains = (channels, lanes) if lanes else (1, channels)
        self._sums = [torch.zeros(chains, dtype=dtype) for _ in range(images)]
        self._blocks = [Blocks(channels, max(lanes, 1), dtype) for _ in range(images)]

    def take(self, walk: int, box: Box, part: Tensor) -> None:
        """The next rows of all channels."""
        del walk
        for number, image in enumerate(part, box[0][0]):
            if self._lanes:
                for vectors in self._blocks[number].take(_rows(image)):
                    add_squares(vectors, self._sums[number])
            else:
                add_squares(_side_by_side(image), self._sums[number])

    def result(self) -> Tensor:
        """One number for each channel of each image."""
        return _root(torch.stack(list(map(self._squares, range(len(self._sums)))))).view(self._made)

    def _squares(self, number: int) -> Tensor:
        sums, rest = self._sums[number], self._blocks[number].rest
        if not self._lanes:
            return sums[0]
        total = sums[:, 0].contiguous()
        for lane in range(1, self._lanes):
            total = total + sums[:, lane]
        fours = rest.shape[1] // 4 * 4  # which a compiler squares as a vector and adds in order
        for place in range(rest.shape[1]):
            x = rest[:, place].contiguous()
            total = total + x * x if place < fours else torch.addcmul(total, x, x)
        return total


class Variances(Fold):
    """The variance of each channel of (N, C, *size), its root or the mean that goes with it.

    ``wanted``: "var", "std" or "mean". ``correction``: what is taken off the number of elements.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: torch.dtype, turned: bool, wanted: str, correction: float,
        made: tuple[int, ...],
    ) -> None:  # fmt: skip
        images, channels = shape[:2]
        self._dtype, self._turned, self._wanted, self._made = dtype, turned, wanted, made
        self._divisor = max(prod(shape[2:]) - correction, 0)
        self._moments = torch.zeros(
            images, 2, *((1, channels) if turned else (channels, 1)), dtype=torch.float64
        )
        self._taken = [0] * images

    def take(self, walk: int, box: Box, part: Tensor) -> None:
        """The next rows of all channels."""
        del walk
        for number, image in enumerate(part, box[0][0]):
            chains = _side_by_side(image) if self._turned else _rows(image)[:, :, None]
            add_moments(chains, self._taken[number], *self._moments[number])
            self._taken[number] += chains.shape[1]

    def result(self) -> Tensor:
        """One number for each channel of each image."""
        means, squares = self._moments.flatten(2).unbind(1)
        found = means if self._wanted == "mean" else squares / self._divisor
        return (_root(found) if self._wanted == "std" else found).to(self._dtype).view(self._made)
