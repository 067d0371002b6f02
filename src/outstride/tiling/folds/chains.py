"""Mean and deviation of each channel as torch's batch norm takes them in training, which instance norm calls.

A channel is two chains of float64, of x and then of the squares of x - mean, which is float32: the mean, the
sum of squares, their number and the variance are rounded to float32 (docs/decisions/0044).
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from outstride.tiling.box import Box
from outstride.tiling.folds.interface import Fold
from outstride.tiling.folds.sequences import added


class ChannelMoments(Fold):
    """The mean of each channel and the inverse of its deviation, of (N, C, *size) in float32."""

    walks = 2

    def __init__(self, shape: tuple[int, ...], eps: float) -> None:
        self._count, self._eps = shape[0] * prod(shape[2:]), eps
        self._totals = np.zeros((2, shape[1]))
        self._mean: Any = None

    def take(self, walk: int, box: Box, part: Tensor) -> None:
        """The next rows of all channels."""
        del box
        mean = self._means()[:, None] if walk else None
        for image in part:
            values = image.reshape(image.shape[0], -1).numpy()
            if mean is None:
                self._totals[walk] = added(self._totals[walk], values)
            else:
                self._totals[walk] = added(self._totals[walk], values, lambda x: np.square(x - mean))

    def _means(self) -> Any:
        if self._mean is None:
            self._mean = (self._totals[0] / self._count).astype(np.float32)
        return self._mean

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean and inverse deviation, a number for each channel."""
        variance = self._totals[1].astype(np.float32) / np.float32(self._count)
        inverse = (1 / np.sqrt(variance.astype(np.float64) + self._eps)).astype(np.float32)
        return torch.from_numpy(self._means()), torch.from_numpy(inverse)
