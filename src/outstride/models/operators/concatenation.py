"""Tensors beside each other, along an axis that they have or a new one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from outstride.models.operation import Operation
from outstride.models.operators.function_calls import Function


@dataclass(frozen=True)
class Concatenate:
    """Tensors one behind the other."""

    tensors: tuple[Any, ...]
    axis: int


@dataclass(frozen=True)
class Stack:
    """Tensors side by side along a new axis."""

    tensors: tuple[Any, ...]
    axis: int


def read_concatenate(operation: Operation) -> Concatenate:
    """Empty tensors of one axis go with any others, and do not count."""
    tensors = tuple(tensor for tensor in operation.argument("tensors") if operation.shape_of(tensor) != (0,))
    return Concatenate(tensors, operation.argument("dim") % len(operation.result_shape()))


def read_stack(operation: Operation) -> Stack:
    """All of one shape."""
    return Stack(
        tuple(operation.argument("tensors")), operation.argument("dim") % len(operation.result_shape())
    )


OPERATORS = {"aten.cat": read_concatenate, "aten.stack": read_stack}
FUNCTIONS: dict[Any, Function] = dict.fromkeys(
    (torch.cat, torch.concat, torch.concatenate), Function(("tensors", "dim"))
)
