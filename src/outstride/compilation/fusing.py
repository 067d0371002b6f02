"""From a graph of torch's operators to stages, each of as many operators as one launch can do.

A stage begins with an operator and takes in those behind it, as long as the next is the only one that uses
the value so far and is a step (`steps.py`) on it. It stands where its last operator stood, when all operands
of its steps are made. A step that is there for a contraction alone is done where that reads its input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch.fx import GraphModule, Node

from outstride.compilation.contractions import is_read_through
from outstride.compilation.simplifying import simplify
from outstride.compilation.stages import Stage
from outstride.compilation.starts import start
from outstride.compilation.strides import as_traced


@dataclass(frozen=True)
class Fusion:
    """The stages of a graph in order, and what goes in and out."""

    graph: GraphModule
    inputs: tuple[Node, ...]
    stages: tuple[Stage, ...]
    outputs: Sequence[Any]
    """Nodes and constants."""


def fused(graph: GraphModule, fuse: bool = True, trained: bool = False) -> Fusion:
    """The stages of a graph of operators that make new values.

    Args:
        graph: what ``aot_autograd`` hands to compilers. It may write to its inputs at its very end.
        fuse: whether a stage may be of more than one operator.
        trained: whether weights whose gradients are asked for are written to between two calls.
    """
    simplify(graph)
    inputs, outputs = list[Node](), tuple[Any, ...]()
    placed = dict[Node, Stage]()
    taken = set[Node]()
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            inputs.append(node)
        elif node.op == "output":
            outputs = node.args[0]
        elif node not in taken and not (fuse and is_read_through(node)):
            stage = as_traced(start(graph, node, fuse, taken, trained))
            taken.update(stage.nodes)
            placed[stage.output] = stage
    order = {node: place for place, node in enumerate(graph.graph.nodes)}
    stages = sorted(placed.values(), key=lambda stage: order[stage.output])
    return Fusion(graph, tuple(inputs), tuple(_needed(stages, graph)), outputs)


def _needed(stages: list[Stage], graph: GraphModule) -> list[Stage]:
    """The stages without those that made values for others which do without: views, vectors repeated."""
    needed = set[Node](graph.graph.output_node().all_input_nodes)
    kept = list[Stage]()
    for stage in reversed(stages):
        if stage.output in needed or not stage.output.users:
            needed.update(stage.inputs)
            kept.append(stage)
    return kept[::-1]
