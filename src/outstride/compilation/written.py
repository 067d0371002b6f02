"""Graphs that are written down in this package, with values that say how each tensor lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor
from torch.fx import Graph, GraphModule

from outstride.compilation.fusing import fused
from outstride.compilation.running import Program


class _Written:
    """What holds a graph: nobody reads it as Python, which would need names for all that it calls."""

    def __init__(self, graph: Graph, tensors: Mapping[str, Tensor]) -> None:
        self.graph = graph
        vars(self).update(tensors)


def program_of(graph: Graph, tensors: Mapping[str, Tensor]) -> Program:
    """What computes a graph of operators, of which each node's ``meta["val"]`` is like its value.

    Args:
        graph: its nodes may be calls of any functions; its output is a list. The values go with this call.
        tensors: by their names in the graph. They stay where they lie; weights among them are not written to.
    """
    holder: Any = _Written(graph, tensors)
    program = Program(fused(cast(GraphModule, holder)))
    for node in graph.nodes:
        node.meta.clear()
    return program
