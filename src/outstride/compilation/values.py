"""What is known of the values of a graph before it runs: kinds, sizes, which may be symbols, and layouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from operator import getitem
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.experimental.symbolic_shapes import statically_known_true

from outstride.engine.launch.memory_format import Layout
from outstride.engine.launch.plans import DTYPES
from outstride.models.operation import Operation


@dataclass(frozen=True, eq=False)
class Operator(Operation):
    """A call of one of torch's operators in a graph; its tensors are nodes."""

    node: Node

    @classmethod
    def of(cls, node: Node) -> Operator:
        """That of a node."""
        return cls(node.target, node.args, node.kwargs, node)

    def result_shape(self) -> tuple[int, ...]:
        """Size of the first result."""
        value = self.node.meta["val"]
        return tuple((value if isinstance(value, Tensor) else value[0]).shape)

    def shape_of(self, tensor: Any) -> tuple[int, ...]:
        """Size of a node's tensor."""
        return shape(tensor)


def is_tensor(value: Any) -> bool:
    """Whether something in a graph is a tensor."""
    return isinstance(value, Node) and isinstance(value.meta.get("val"), Tensor)


def is_of_a_model(value: Any) -> bool:
    """Whether a tensor is a parameter or a buffer; torch's tracer marks them."""
    return isinstance(value, torch.nn.Parameter) or hasattr(value, "_dynamo_static_input_type")


def is_number(node: Node) -> bool:
    """Whether a node is a size, or made of sizes."""
    return isinstance(node.meta.get("val"), (int, torch.SymInt))


def shape(node: Node) -> tuple[Any, ...]:
    """The sizes of a tensor: numbers, or symbols."""
    return tuple(node.meta["val"].shape)


def is_sized(value: Tensor) -> bool:
    """Whether all sizes and strides of a traced tensor are numbers."""
    return all(isinstance(number, int) for number in (*value.shape, *value.stride()))


def order_of(value: Tensor) -> Layout | None:
    """How torch's tensor lies, where that is known; None is as it comes."""
    if not is_sized(value):
        return None
    if value.is_contiguous():
        return "contiguous"
    return "channels_last" if value.movedim(1, -1).is_contiguous() else None


def count_of(node: Node) -> int | None:
    """The elements of a tensor, where its sizes are numbers."""
    sizes = shape(node)
    return prod(sizes) if all(isinstance(size, int) for size in sizes) else None


def dtype_of(node: Node) -> torch.dtype:
    """The type of a tensor's elements."""
    dtype: torch.dtype = node.meta["val"].dtype
    return dtype


def same_sizes(first: Sequence[Any], second: Sequence[Any]) -> bool:
    """Whether sizes are equal, whatever their symbols are."""
    return len(first) == len(second) and all(
        statically_known_true(a == b) for a, b in zip(first, second, strict=True)
    )


def is_served(node: Node) -> bool:
    """Whether a tensor is of a kind that kernels of ours read: on the CPU, plain, of floating point."""
    value = node.meta["val"]
    return value.device.type == "cpu" and value.layout is torch.strided and value.dtype in DTYPES


def only_first(node: Node) -> Node | None:
    """The first result of an operator that has several, where nothing else of it is used."""
    users = list(node.users)
    alone = len(users) == 1 and users[0].target is getitem and users[0].args[1] == 0
    return users[0] if alone else None


def fixed(value: Any) -> Any:
    """An argument that a cache can be asked for."""
    return tuple(value) if isinstance(value, (list, tuple)) else value
