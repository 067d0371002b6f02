"""How a call of one of torch's functions reads: its arguments by name, and the layer that it stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn


class Function(NamedTuple):
    """The parameters of a function of torch in their order, and what makes a layer of their arguments.

    The layer is made of all arguments but ``input``; None where no layer does the same.
    """

    parameters: tuple[str, ...]
    layer: Callable[..., nn.Module | None] | None = None

    def arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Those of a call, by name."""
        return dict(zip(self.parameters, args, strict=False)) | dict(kwargs)


def shared_weight(values: Tensor) -> nn.Parameter:
    """A parameter over the same memory: what changes the one changes the other."""
    if isinstance(values, nn.Parameter):
        return values
    return nn.Parameter(values.detach(), requires_grad=False)
