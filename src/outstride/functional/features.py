"""The linear layer as a function."""

from __future__ import annotations

import torch

from outstride.engine.dispatch import linear as features

__all__ = ["linear"]


def linear(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Multiply every row of features with a weight.

    Args:
        input: (..., in_features), any strides.
        weight: (out_features, in_features) in the dtype and on the device of ``input``.
        bias: (out_features,) or None.

    Returns:
        (..., out_features), contiguous. In float32 and float64, with eight features or more on either side,
        it is computed here, whatever the rows are; every other layer is torch's.

    Law: an output element is one sum in one order, whatever the rows beside it, the threads, the layout or
    the instruction set.

    Example:
        >>> linear(torch.ones(2, 3, 8), torch.ones(16, 8)).shape
        torch.Size([2, 3, 16])
    """
    return features.linear(linear, input, weight, bias)
