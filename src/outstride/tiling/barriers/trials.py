"""Numbers on which a fold is compared with torch: another build of it may add up in another order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from outstride.tiling.box import whole
from outstride.tiling.folds.interface import Fold

#: Rows of the first slab.
_FIRST = 7


def numbers(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Of many magnitudes, so that another order shows."""
    generator = torch.Generator().manual_seed(len(shape))
    powers = torch.randint(-8, 8, shape, generator=generator)
    return (torch.randn(shape, generator=generator, dtype=torch.float64) * torch.exp2(powers)).to(dtype)


def folded(fold: Fold, x: Tensor) -> Any:
    """What a fold makes of two uneven slabs of each image."""
    for walk in range(fold.walks):
        for number in range(len(x)):
            for rows in ((0, _FIRST), (_FIRST, x.shape[2])):
                part = x[number : number + 1, :, slice(*rows)]
                fold.take(walk, ((number, number + 1), (0, x.shape[1]), rows, *whole(x.shape[3:])), part)
    return fold.result()
