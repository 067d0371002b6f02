"""Torch's convolutions in a graph of functions become this package's, borders included, and linear layers."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch.fx import GraphModule, Node

from outstride import functional
from outstride.compilation.layers import layer_call, own_linears
from outstride.layer.shortening import AlgorithmName
from outstride.models.operators import convolution, padding

_OURS = {
    stock: getattr(functional, stock.__name__)
    for stock in (*convolution.FORWARD_FUNCTIONS, *convolution.TRANSPOSED_FUNCTIONS)
}
_TRACED_PAD: Any = vars(torch._C._nn)["pad"]  # noqa: SLF001 - it has no other name
"""What torch's tracer finds in ``torch.nn.functional.pad``."""
_MODES = ("reflect", "replicate", "circular")


def served(graph: GraphModule, algorithm: AlgorithmName) -> GraphModule:
    """The graph with every convolution computed here, in place, and so are those of the graphs that it calls.

    These are branches of a condition, and what is computed anew for a derivative.
    A padding mode of a layer, which torch's applies by itself before, is given to the convolution, as
    ``accelerate`` does, so that its derivative is the same, too. Of linear functions those of layers that
    ``accelerate`` serves are computed here, and no others.
    """
    for part in list(graph.modules()):
        if isinstance(part, GraphModule):
            _serve(part, algorithm)
    return graph


def _serve(graph: GraphModule, algorithm: AlgorithmName) -> None:
    asked = {} if algorithm == "auto" else {"algorithm": algorithm}
    for node in own_linears(graph.graph):
        node.target = functional.linear
    for node in list(graph.graph.nodes):
        ours = _OURS.get(node.target) if node.op == "call_function" else None
        if ours is not None:
            call = convolution.FUNCTIONS[node.target].arguments(node.args, node.kwargs)
            if (
                node.target in convolution.FORWARD_FUNCTIONS
                and layer_call(node).cls in convolution.CONVOLUTIONS
            ):
                call = _bordered(call)
            with graph.graph.inserting_before(node):
                new = graph.graph.call_function(ours, (), call | asked)
            new.meta = dict(node.meta)
            node.replace_all_uses_with(new)
            sources = node.all_input_nodes
            graph.graph.erase_node(node)
            for unused in sources:
                if unused.op == "call_function" and not unused.users:
                    graph.graph.erase_node(unused)  # the padding before it
    graph.recompile()


def _bordered(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a convolution whose input was padded for it alone, without that padding before it."""
    own, padded = given.get("padding", 0), given["input"]
    unpadded = own == "valid" or (not isinstance(own, str) and not any(_numbers(own)))
    if not isinstance(padded, Node) or not unpadded or len(padded.users) != 1:
        return given
    if padded.op != "call_function" or padded.target not in (F.pad, _TRACED_PAD):
        return given
    if layer_call(padded).cls not in convolution.CONVOLUTIONS:
        return given  # a padding layer, which stays torch's
    pad = padding.FUNCTIONS[F.pad].arguments(padded.args, padded.kwargs)
    ends, mode = pad["pad"], pad.get("mode", "constant")
    weight = given["weight"].meta["example_value"]
    if mode not in _MODES or len(ends) != 2 * (weight.dim() - 2):
        return given
    pairs = tuple((ends[i], ends[i + 1]) for i in range(len(ends) - 2, -1, -2))
    return given | {"input": pad["input"], "padding": pairs, "padding_mode": mode}


def _numbers(padding: Any) -> tuple[Any, ...]:
    return tuple(padding) if isinstance(padding, (tuple, list)) else (padding,)
