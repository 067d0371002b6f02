"""Where stages begin: what computes an operator, and how much behind it, ours or torch's."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from outstride.compilation import contractions, copies, interpolation, maps, norms, padding, reductions
from outstride.compilation.arguments import Arguments
from outstride.compilation.stages import Stage
from outstride.compilation.values import Operator, dtype_of
from outstride.compilation.wording import why_torch

_VIEWS = frozenset(
    f"aten.{name}"
    for name in (
        *("view", "reshape", "_unsafe_view", "permute", "transpose", "t", "unsqueeze", "squeeze", "expand"),
        *("slice", "select", "split", "split_with_sizes", "chunk", "unbind", "alias", "detach", "as_strided"),
        *("diagonal", "narrow", "unfold", "view_as_real", "real", "imag"),
    )
)
"""Operators whose result may lie in the memory of what they are given."""


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


def by_torch(node: Node, reason: str = "") -> Stage:
    """One call of what the graph says; without a reason, for the one that its operator has."""
    reason = reason or why_torch(node)
    arguments = Arguments((list(node.args), dict(node.kwargs)))
    target: Any = node.target
    name = Operator.of(node).name if node.op == "call_function" else ""
    is_view, label = name in _VIEWS, "torch"
    if name.startswith("outstride."):
        label, reason = name.removeprefix("outstride."), "a gradient does no steps"
    if len(arguments.inputs) == len(node.args) and arguments.inputs == node.args and not node.kwargs:
        return Stage((node,), arguments.inputs, target, label, reason, is_view=is_view)

    def run(*values: Any) -> Any:
        args, kwargs = arguments.filled(values)
        return target(*args, **kwargs)

    count = len(arguments.inputs)
    rest = node.args[count:]
    if arguments.inputs == node.args[:count] and not node.kwargs and not Arguments(list(rest)).inputs:

        def run(*values: Any) -> Any:  # nothing is filled in
            return target(*values, *rest)

    return Stage((node,), arguments.inputs, run, label, reason, is_view=is_view)


def _attribute(graph: GraphModule, name: str) -> Any:
    value: Any = graph
    for part in name.split("."):
        value = getattr(value, part)
    return value
