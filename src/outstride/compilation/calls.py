"""Calls of torch's operators: the stages that no kernel of this package does.

What computes each element by itself writes its result where it is told, if torch has such a form of the
operator: the same routine on the same memory formats, so the bits are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from outstride.compilation.arguments import Arguments
from outstride.compilation.layouts import fitting
from outstride.compilation.stages import Stage
from outstride.compilation.values import Operator, is_served, is_tensor
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


def by_torch(node: Node, reason: str = "") -> Stage:
    """One call of what the graph says; without a reason, for the one that its operator has."""
    reason = reason or why_torch(node)
    name = Operator.of(node).name if node.op == "call_function" else ""
    is_view, label = name in _VIEWS, "torch"
    if name.startswith("outstride."):
        label, reason = name.removeprefix("outstride."), "a gradient does no steps"
    inputs, run = _call(node, fitting(node.target))
    into = _into(node)
    if into is None:
        return Stage((node,), inputs, run, label, reason, is_view=is_view)
    _, write = _call(node, into)

    def compute(*values: Any, out: Tensor | None = None) -> Any:
        return run(*values) if out is None else write(*values, out=out)

    return Stage((node,), inputs, compute, label, reason, takes_out=True)


def _call(node: Node, target: Any) -> tuple[tuple[Node, ...], Callable[..., Any]]:
    """The nodes among the arguments of an operator, and what calls a form of it with their values."""
    arguments = Arguments((list(node.args), dict(node.kwargs)))
    inputs = arguments.inputs
    count = len(inputs)
    rest = node.args[count:]
    if inputs != node.args[:count] or node.kwargs or Arguments(list(rest)).inputs:

        def fill(*values: Any, **more: Tensor) -> Any:
            args, kwargs = arguments.filled(values)
            return target(*args, **kwargs, **more)

        return inputs, fill
    if not rest:
        return inputs, target
    return inputs, lambda *values, **more: target(*values, *rest, **more)  # nothing is filled in


def _into(node: Node) -> Any:
    """The form of an elementwise operator that writes its result to `out`; None where there is none.

    Torch makes up forms that copy a new result: these save nothing.
    """
    target: Any = node.target
    if torch.Tag.pointwise not in getattr(target, "tags", ()) or not is_tensor(node) or not is_served(node):
        return None
    forms = (getattr(target.overloadpacket, name) for name in target.overloadpacket.overloads())
    given = [_written(argument) for argument in _arguments(target)]
    for form in forms:
        *same, last = _arguments(form) or [None]
        is_made_up = torch.Tag.generated in form.tags
        if last is None or last.name != "out" or is_made_up:
            continue
        if [_written(argument) for argument in same] == given:
            return form
    return None


def _arguments(form: Any) -> Sequence[Any]:
    arguments: Sequence[Any] = form._schema.arguments  # noqa: SLF001 - torch has no other
    return arguments


def _written(argument: Any) -> tuple[str, str]:
    return argument.name, str(argument.type)
