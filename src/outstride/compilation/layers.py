"""Which calls in a graph are those of layers: the tracer notes in what modules each of them stands."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import nn
from torch.fx import Graph, GraphModule, Node

from outstride.models.stock import is_linear, replaced


class LayerCall(NamedTuple):
    """A call of a layer: by the layer's identity and, from the second on, the number; its name and class."""

    number: str
    name: str
    cls: Any

    @property
    def identity(self) -> int | None:
        """The layer's, as long as it lives."""
        first = self.number.partition("@")[0]
        return int(first) if first.isdecimal() else None


def layer_call(node: Node) -> LayerCall:
    """That of the innermost module that a call stands in."""
    modules = node.meta.get("nn_module_stack")
    if not modules:
        return LayerCall("", "", None)
    number, (name, cls) = list(modules.items())[-1]
    return LayerCall(number, name, cls)


def traced_modules(graph: GraphModule) -> set[int]:
    """The identities of all modules that calls in a graph, and in those that it calls, stand in."""
    parts = (part for part in graph.modules() if isinstance(part, GraphModule))
    nodes = (node for part in parts for node in part.graph.nodes)
    numbers = (str(number) for node in nodes for number in node.meta.get("nn_module_stack") or ())
    calls = (LayerCall(number, "", None).identity for number in numbers)
    return {identity for identity in calls if identity is not None}


def own_linears(graph: Graph) -> list[Node]:
    """The linear functions of linear layers whose ``forward`` is torch's, which ``accelerate`` serves.

    Not those that somebody put in the place of a layer's ``forward`` calls, nor those of its hooks.
    """
    calls = dict[LayerCall, list[Node]]()
    for node in graph.nodes:
        if node.op == "call_function" and node.target is F.linear:
            call = layer_call(node)
            if is_linear(call.cls):
                calls.setdefault(call, []).append(node)
    changed = _changed(call.identity for call in calls)
    # A hook has a frame below the one that the layer is called from, and torch leaves its own frames out.
    return [
        min(nodes, key=lambda node: len(node.stack_trace or ""))
        for call, nodes in calls.items()
        if call.identity not in changed
    ]


def _changed(identities: Iterable[int | None]) -> set[int]:
    """Of which of these layers something was put in the place of their class's."""
    wanted = {identity for identity in identities if identity is not None}
    # The tracer hands over what a layer was known by while it was traced, and no way to the layer itself.
    found = [each for each in gc.get_objects() if id(each) in wanted] if wanted else []
    return {id(layer) for layer in found if isinstance(layer, nn.Module) and replaced(layer)}
