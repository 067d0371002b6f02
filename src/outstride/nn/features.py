"""The linear layer: torch's class with the engine mixed in before it, as the convolution layers are."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: F401  # torch.jit.script looks here for the names of torch's source
from torch import Tensor

from outstride import functional
from outstride.nn.kinds import scripted_as
from outstride.nn.serving import Served, operands


@scripted_as(torch.nn.Linear)
class Linear(torch.nn.Linear, metaclass=Served):
    """``torch.nn.Linear`` computed here, where ``outstride.functional.linear`` does.

    Args:
        in_features, out_features, bias, device, dtype: as in torch.

    Law: state_dict, initial values and printed form are those of torch's layer.

    Example:
        >>> Linear(16, 8)(torch.ones(2, 5, 16)).shape
        torch.Size([2, 5, 8])
    """

    serves = "linear"
    algorithm = "auto"  # there is one
    function = staticmethod(functional.linear)

    def forward(self, input: Tensor) -> Tensor:
        """Multiply every row of (..., in_features)."""
        weight, bias = operands(self)
        result: Tensor = self.function(input, weight, bias)
        return result
