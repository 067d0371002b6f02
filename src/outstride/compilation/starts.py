"""Where stages begin: what computes an operator, and how much behind it, ours or torch's."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from outstride.compilation import maps
from outstride.compilation.arguments import Arguments
from outstride.compilation.chains import Chain, chain
from outstride.compilation.stages import Stage
from outstride.compilation.steps import readings
from outstride.compilation.values import Operator, dtype_of
from outstride.engine.launch import execute
from outstride.engine.launch.fused import Step, fused
from outstride.engine.launch.step_check import declined

_CONTRACTIONS: dict[str, Literal["conv", "conv_transpose"]] = {
    "outstride.conv": "conv",
    "outstride.conv_transpose": "conv_transpose",
}
_INPUTS = {"conv": "x", "conv_transpose": "y"}
_NOTHING = Chain((), (), "")
_VIEWS = frozenset(
    f"aten.{name}"
    for name in (
        *("view", "reshape", "_unsafe_view", "permute", "transpose", "t", "unsqueeze", "squeeze", "expand"),
        *("slice", "select", "split", "split_with_sizes", "chunk", "unbind", "alias", "detach", "as_strided"),
        *("diagonal", "narrow", "unfold", "view_as_real", "real", "imag"),
    )
)
"""Operators whose result may lie in the memory of what they are given."""


def start(graph: GraphModule, node: Node, fuse: bool, taken: Container[Node]) -> Stage:
    """The stage that begins with an operator; what is `taken` belongs to another one."""
    if node.op == "get_attr":
        value = _attribute(graph, str(node.target))
        return Stage((node,), (), lambda: value, "constant")
    name = Operator.of(node).name
    if name in _CONTRACTIONS:
        return _contraction(node, name, taken if fuse else None)
    if name == "aten.cat":
        return _join(node)
    return maps.start(node, fuse, taken) or by_torch(node)


def _join(node: Node) -> Stage:
    """Tensors one behind the other, of which those are copied that do not lie in their places yet."""
    own = Operator.of(node)
    parts, axis = own.args[0], own.argument("dim", 0)
    rank = len(own.result_shape())
    if len(set(parts)) < len(parts) or axis % rank != 1 or any(len(own.shape_of(p)) != rank for p in parts):
        return by_torch(node)

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

    return Stage((node,), tuple(parts), run, "join", takes_out=True, joins=True)


def is_read_through(node: Any) -> bool:
    """Whether an operator is a step that a contraction, which alone uses it, does to its input."""
    if not isinstance(node, Node) or len(node.users) != 1:
        return False
    (user,) = node.users
    operator = _CONTRACTIONS.get(Operator.of(user).name) if user.op == "call_function" else None
    if operator is None or Operator.of(user).argument(_INPUTS[operator]) is not node:
        return False
    reading = next(readings(node), None)
    return reading is not None and reading.step.keeps_zero and not declined((reading.step,), dtype_of(node))


def _contraction(node: Node, name: str, taken: Container[Node] | None) -> Stage:
    """A convolution or its adjoint, with the steps before and behind it that are free, if any may be."""
    behind = _NOTHING if taken is None else chain(node, taken)
    operator: Literal["conv", "conv_transpose"] = _CONTRACTIONS[name]
    own = Operator.of(node).arguments()
    tensors = [own.pop(key) for key in (_INPUTS[operator], "w", "bias")]
    before, nodes = tuple[Step, ...](), (node, *behind.nodes)
    if taken is not None and tensors[0] not in taken and is_read_through(tensors[0]):
        reading = next(readings(tensors[0]))
        before, nodes, tensors[0] = (reading.step,), (tensors[0], *nodes), reading.value
    geometry = [own[key] for key in ("stride", "padding", "output_size", "dilation", "groups")]
    geometry.append(own.get("algorithm", "auto"))
    arguments = Arguments((*tensors, *map(_fixed, geometry), *behind.operands))
    steps, fixed = behind.steps, 3 + len(geometry)
    with_steps: Callable[..., Tensor] = partial(fused, operator, steps=steps, before=before)
    plain: Callable[..., Tensor] = getattr(execute, operator)

    def run(*values: Any, out: Tensor | None = None) -> Tensor:
        given = arguments.filled(values)
        if steps or before:
            return with_steps(*given[:fixed], operands=given[fixed:], out=out)
        return plain(*given, out=out)

    return Stage(
        nodes, arguments.inputs, run, operator, behind.reason, tensors[1], len(before), takes_out=True
    )


def by_torch(node: Node, reason: str = "") -> Stage:
    """One call of what the graph says."""
    arguments = Arguments((list(node.args), dict(node.kwargs)))
    target: Any = node.target
    is_view = node.op == "call_function" and Operator.of(node).name in _VIEWS
    if len(arguments.inputs) == len(node.args) and arguments.inputs == node.args and not node.kwargs:
        return Stage((node,), arguments.inputs, target, "torch", reason, is_view=is_view)

    def run(*values: Any) -> Any:
        args, kwargs = arguments.filled(values)
        return target(*args, **kwargs)

    return Stage((node,), arguments.inputs, run, "torch", reason, is_view=is_view)


def _fixed(value: Any) -> Any:
    """An argument that a cache can be asked for."""
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _attribute(graph: GraphModule, name: str) -> Any:
    value: Any = graph
    for part in name.split("."):
        value = getattr(value, part)
    return value
