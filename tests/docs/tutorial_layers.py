"""Inputs and layers that the tutorials begin with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

X3 = torch.arange(9.0).view(1, 1, 3, 3)


K2 = torch.arange(4.0).view(1, 1, 2, 2)


STAMP = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).view(1, 1, 2, 2)


def flat(result: Tensor) -> Any:
    """A result's numbers as plain lists, without axes of one element."""
    return result.detach().squeeze().tolist()


def holding(layer: Any, weight: Tensor) -> Any:
    """The layer with that weight and without a bias."""
    with torch.no_grad():
        layer.weight.copy_(weight)
        if layer.bias is not None:
            layer.bias.zero_()
    return layer


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Small integers, which float32 sums exactly."""
    return torch.randint(-4, 5, shape, generator=torch.Generator().manual_seed(seed)).float()
