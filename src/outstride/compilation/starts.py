"""Where stages begin: what computes an operator, and how much behind it, ours or torch's."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from outstride.compilation import contractions, copies, interpolation, maps, norms, padding, reductions
from outstride.compilation.calls import by_torch
from outstride.compilation.stages import Stage
from outstride.compilation.values import Operator, dtype_of


def start(
    graph: GraphModule, node: Node, fuse: bool, taken: Container[Node], trained: bool = False
) -> Stage:  # fmt: skip
    """The stage that begins with an operator; what is `taken` belongs to another one.

    Weights of a graph that is `trained` are written to between two calls.
    """
    if node.op == "get_attr":
        value = _attribute(graph, str(node.target))
        return Stage((node,), (), lambda: value, "constant")
    name = Operator.of(node).name
    if name in contractions.OPERATORS:
        return contractions.start(node, taken if fuse else None, trained)
    found = _join(node) if name == "aten.cat" else None
    if found is not None:
        return found
    rooms = (copies, reductions, norms, interpolation, padding, maps)
    stages = (room.start(node, fuse, taken) for room in rooms)
    return next((stage for stage in stages if stage is not None), None) or by_torch(node)


def _join(node: Node) -> Stage | None:
    """Tensors side by side along the channels: those are copied that do not lie in their places yet."""
    own = Operator.of(node)
    parts, axis = own.args[0], own.argument("dim", 0)
    rank = len(own.result_shape())
    if len(set(parts)) < len(parts) or axis % rank != 1 or any(len(own.shape_of(p)) != rank for p in parts):
        return None
    if any(dtype_of(part) != dtype_of(node) for part in parts):
        return None

    def run(*values: Tensor, out: Tensor | None = None) -> Tensor:
        if out is None:
            return torch.cat(values, axis)
        begin = 0
        for value in values:
            there = out.narrow(1, begin, value.shape[1])
            if there.data_ptr() != value.data_ptr():
                there.copy_(value)
            begin += value.shape[1]
        return out

    return Stage((node,), tuple(parts), run, "join", "a join does no steps", takes_out=True, joins=True)


def _attribute(graph: GraphModule, name: str) -> Any:
    value: Any = graph
    for part in name.split("."):
        value = getattr(value, part)
    return value
