"""From an operation to the description of its kind, from a call of a function to the layer it stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from outstride.models.operation import Operation
from outstride.models.operators import (
    concatenation,
    convolution,
    creation,
    indexing,
    norms,
    padding,
    pointwise,
    pooling,
    products,
    recurrent,
    reductions,
    resizing,
    sampling,
    shuffling,
    unfolding,
    views,
)
from outstride.models.operators.function_calls import Function

OPERATORS: Mapping[str, Callable[[Operation], Any]] = (
    convolution.OPERATORS | pooling.OPERATORS | unfolding.OPERATORS | resizing.OPERATORS | padding.OPERATORS
    | shuffling.OPERATORS | views.OPERATORS | indexing.OPERATORS | concatenation.OPERATORS
    | reductions.OPERATORS | norms.OPERATORS | products.OPERATORS | pointwise.OPERATORS | creation.OPERATORS
    | sampling.OPERATORS | recurrent.OPERATORS
)  # fmt: skip
"""What reads the arguments of an operator, by its name without overload."""
FUNCTIONS: Mapping[Any, Function] = (
    convolution.FUNCTIONS | pooling.FUNCTIONS | resizing.FUNCTIONS | padding.FUNCTIONS | shuffling.FUNCTIONS
    | norms.FUNCTIONS | concatenation.FUNCTIONS | indexing.FUNCTIONS
)  # fmt: skip
"""How calls of torch's functions read."""
VIEWS = (
    *(views.Reshape, views.Reinterpret, views.Permute, views.Squeeze, views.Unsqueeze, views.Expand),
    *(views.Alias, indexing.Slice, indexing.Select, indexing.Split, indexing.Unbind),
)
"""Kinds whose results lie in the memory of their source."""


_described: WeakKeyDictionary[Operation, Any] = WeakKeyDictionary()


def describe(operation: Operation) -> Any:
    """What an operation is, as the frozen class of its kind; None for an operator that is not known."""
    if operation not in _described:
        _described[operation] = _read(operation)
    return _described[operation]


def _read(operation: Operation) -> Any:
    own = getattr(operation, "kind", None)
    if own is not None:
        return own
    read = OPERATORS.get(operation.functional_name)
    if read is not None and operation.overload != "other":  # the larger of two tensors is a function of both
        return read(operation)
    return pointwise.Pointwise() if pointwise.is_pointwise(operation) else None


def axis_of(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int | None:
    """The axis along which a function joins or parts tensors; None for one that does neither."""
    found = FUNCTIONS.get(function)
    if found is None or "dim" not in found.parameters:
        return None
    named = found.arguments(args, kwargs)
    axis: int = named.get("dim", named.get("axis", 0))
    return axis


def layer_of(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> nn.Module | None:
    """The layer that computes what a function of torch is called for; None for a function that is none.

    Its weights are those of the call, not copies: what changes the one changes the other.
    """
    found = FUNCTIONS.get(function)
    if found is None or found.layer is None:
        return None
    named = found.arguments(args, kwargs)
    return found.layer(**{n: value for n, value in named.items() if value is not None and n != "input"})
