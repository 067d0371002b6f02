"""Layers that compute in the way of torch's own classes, of which they are."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.utils import parametrize

_UNASKED = (nn.modules.linear.NonDynamicallyQuantizableLinear,)
"""Classes whose layers hold weights that others, such as attention, compute with by themselves."""
METHODS = ("forward", "_conv_forward", "_output_padding", "__call__")
"""What of a layer, or of its class, decides what it computes."""


def replaced(layer: nn.Module) -> str | None:
    """What of a layer itself is in the place of its class's, or nothing."""
    return next((f"its {name!r} was replaced" for name in METHODS if name in vars(layer)), None)


def own_way(cls: type, stock: type, methods: Sequence[str]) -> str | None:
    """What of a class is not as in torch's class `stock`, of which it is, or nothing.

    Args:
        cls: a class of layers.
        stock: one of torch's, from which it derives.
        methods: names of what decides what such a layer computes.
    """
    for name in methods:
        if getattr(cls, name, None) is not getattr(stock, name, None):
            return f"{cls.__name__} has a {name!r} of its own"
    generated = cls.__module__ == parametrize.__name__
    if not generated and any(hasattr(cls, name) for name in ("weight", "bias")):
        return f"{cls.__name__} makes its weights itself"
    return None


def linear_own_way(cls: type) -> str | None:
    """The same of a class of linear layers, those among them whose weights others compute with."""
    if issubclass(cls, _UNASKED):
        return "attention computes with its weight"
    return own_way(cls, nn.Linear, ("forward", "__call__"))


def is_linear(cls: object) -> bool:
    """Whether something is a class whose layers compute as torch's linear layer."""
    return isinstance(cls, type) and issubclass(cls, nn.Linear) and linear_own_way(cls) is None
