"""Frames: how the rows that a linear layer makes are seen by the operators behind it.

A linear layer makes (rows, features). What follows sees that in other sizes and with its axes in another
order, by views alone. A step on such a view is a step on the rows themselves, where its operands are seen
the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.fx import Node

from outstride.compilation.values import Operator, dtype_of, is_tensor, same_sizes, shape

_SIZES = ("aten.view", "aten._unsafe_view", "aten.reshape")
_VIEWS = (*_SIZES, "aten.permute", "aten.transpose")


@dataclass(frozen=True)
class Frame:
    """Views one behind the other of (rows, features)."""

    order: tuple[int, ...] = (0, 1)
    """Of each axis which one it is of rows that were only parted: the last of those are the features."""
    views: tuple[Node, ...] = ()

    @property
    def channels(self) -> int:
        """The axis of the features."""
        return self.order.index(len(self.order) - 1)

    def seen_through(self, view: Node) -> Frame | None:
        """The frame of one more view; None where rows would not stay rows."""
        if view.op != "call_function" or not is_tensor(view):
            return None
        operator = Operator.of(view)
        source: Any = view.args[0]
        if operator.name not in _VIEWS or dtype_of(view) != dtype_of(source):
            return None
        order: tuple[int, ...] | None = None
        if operator.name in _SIZES:
            parted = self.order == tuple(range(len(self.order))) and len(shape(view)) > 1
            if parted and same_sizes(shape(view)[-1:], shape(source)[-1:]):
                order = tuple(range(len(shape(view))))
        else:
            order = tuple(self.order[axis] for axis in _axes(operator, len(self.order)))
        return None if order is None else Frame(order, (*self.views, view))

    def rows_of(self, tensor: Tensor) -> Tensor:
        """A tensor of the size of what is seen, as (rows, features)."""
        back = sorted(range(len(self.order)), key=self.order.__getitem__)
        return tensor.permute(back).reshape(-1, tensor.shape[self.channels])


Views = Sequence[tuple[Callable[..., Tensor], Sequence[Any]]]
"""Operators that are views, each with the arguments behind its tensor."""


def seen(rows: Tensor, views: Views) -> Tensor:
    """What views one behind the other make of rows."""
    for view, arguments in views:
        rows = view(rows, *arguments)
    return rows


def _axes(operator: Operator, rank: int) -> list[int]:
    """Of each axis of what a permutation makes, which one it was."""
    if operator.name == "aten.permute":
        return [axis % rank for axis in operator.args[1]]
    axes = list(range(rank))
    a, b = (axis % rank for axis in operator.args[1:3])
    axes[a], axes[b] = axes[b], axes[a]
    return axes
