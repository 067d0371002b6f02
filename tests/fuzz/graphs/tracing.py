"""From a model to the backend without torch's tracer of bytecode, in a tenth of the time.

Functions are written down as they are called on real tensors, which a mode of torch's sees.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from operator import getitem
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch.fx import Graph, GraphModule, Node
from torch.nn.modules import module as modules
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from outstride.compilation.backend import Options, compiled
from outstride.compilation.serving import served

_USUAL = Options()


def traced(
    model: nn.Module, inputs: Sequence[Tensor], options: Options | None = _USUAL
) -> Callable[..., Any]:
    """What the backend makes of a model on inputs like these; or without options torch, of the same graph.

    Parameters are inputs of the graph, as they are for torch's tracer.
    """
    held = _held(model)
    own = copy.deepcopy(model)
    copies = [torch.empty_strided(x.shape, x.stride(), dtype=x.dtype).copy_(x.detach()) for x in inputs]
    written = _Written([*copies, *_held(own)])
    hooks = [
        modules.register_module_forward_pre_hook(written.entered),
        modules.register_module_forward_hook(written.left),
    ]
    try:
        with torch.no_grad(), written:
            made = own(*copies)
    finally:
        for hook in hooks:
            hook.remove()
    results, form = pytree.tree_flatten(made)
    written.graph.output(tuple(map(written.node, results)))
    graph = GraphModule(nn.Module(), written.graph)
    given = [*inputs, *held]
    run = by_torch(graph, given) if options is None else compiled(graph, given, options)

    def call(*given: Tensor) -> Any:
        return pytree.tree_unflatten(run(*given, *held), form)

    return call


def by_torch(graph: GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
    """A backend that does what torch does with graphs, and computes each operator by itself."""
    run: Callable[..., Any] = aot_autograd(fw_compiler=_unchanged, keep_inference_input_mutations=True)(
        served(graph, "auto"), inputs
    )
    return run


def _unchanged(graph: GraphModule, _: Sequence[Any]) -> Callable[..., Any]:
    def run(values: list[Any]) -> Any:
        return graph(*values)

    vars(run)["_boxed_call"] = True
    return run


def _held(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


class _Written(TorchFunctionMode):
    """Writes functions of torch's down as the nodes of a graph."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self.graph = Graph()
        self._layers = list[tuple[str, type]]()
        self._calls = Counter[nn.Module]()
        self._nodes = dict[int, Node]()
        self._alive = list[Tensor]()
        for number, tensor in enumerate(inputs):
            self._is(tensor, self.graph.placeholder(f"x{number}"))

    def entered(self, layer: nn.Module, _: Any) -> None:
        """A layer begins: known as torch's tracer knows it, by its identity and the number of the call."""
        self._layers.append((f"{id(layer)}@{self._calls[layer]}", type(layer)))
        self._calls[layer] += 1

    def left(self, *_: Any) -> None:
        """A layer ends."""
        self._layers.pop()

    def node(self, tensor: Tensor) -> Node:
        """Whose value a tensor is."""
        return self._nodes[id(tensor)]

    def _is(self, tensor: Tensor, node: Node) -> None:
        node.meta["example_value"] = tensor
        self._nodes[id(tensor)] = node
        self._alive.append(tensor)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call it, and write it down if tensors come of it."""
        given = (args, kwargs or {})
        made = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in pytree.tree_leaves(made) if isinstance(leaf, Tensor)]
        if not tensors and func is not Tensor.__setitem__:
            return made
        args, kwargs = pytree.tree_map(lambda v: self.node(v) if isinstance(v, Tensor) else v, given)
        node = self.graph.call_function(func, args, kwargs)
        if self._layers:
            call, cls = self._layers[-1]
            node.meta["nn_module_stack"] = {call: ("layer", cls)}
        if isinstance(made, Tensor):
            self._is(made, node)
        elif tensors:
            for number, tensor in enumerate(made):
                self._is(tensor, self.graph.call_function(getitem, (node, number)))
        return made
