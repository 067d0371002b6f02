"""A model as a graph of torch's operators, with every tensor's size for the whole input.

It is run once without numbers, so an input of any size costs milliseconds: torch's tracer writes down what
happens, writes in place turned into new tensors. Convolutions are outstride's, whose bits depend on nothing
but what they sum; so the graph of a model and that of ``accelerate(model)`` are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from operator import getitem
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from outstride.acceleration import accelerate
from outstride.errors import ShapeError, UnsupportedError

#: Elements of a tensor that a model makes of its weights alone; what is larger than that is no weight.
_MOST_CONSTANT = 1 << 28


@dataclass(frozen=True)
class Source:
    """Stands for a tensor of the graph among the arguments of an operator."""

    index: int


@dataclass(frozen=True, eq=False)
class Node:
    """One tensor: the operator that makes it, of what, and which of the operator's results it is."""

    target: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    sources: tuple[int, ...]
    """The tensors that it is made of, in the order of the arguments, each once."""
    source_shapes: tuple[tuple[int, ...], ...]
    source_strides: tuple[tuple[int, ...], ...]
    """How torch would lay them out, were they whole."""
    shape: tuple[int, ...]
    dtype: torch.dtype
    result: int | None = None

    @property
    def name(self) -> str:
        """The operator without its overload: ``aten.relu``."""
        return operator_name(self.target)

    def argument(self, name: str, default: Any = None) -> Any:
        """An argument by the name it has in the operator's schema."""
        if name in self.kwargs:
            return self.kwargs[name]
        for place, parameter in enumerate(self.target._schema.arguments):  # noqa: SLF001 - torch has no other
            if parameter.name == name:
                if place < len(self.args):
                    return self.args[place]
                return parameter.default_value if parameter.has_default_value() else default
        return default

    def call(self, tensors: Sequence[Tensor], **changed: Any) -> Tensor:
        """The operator on these tensors, in the order of ``sources``, with some arguments changed."""
        held = dict(zip(self.sources, tensors, strict=True))

        def put(value: Any) -> Any:
            return held[value.index] if isinstance(value, Source) else value

        names = [parameter.name for parameter in self.target._schema.arguments]  # noqa: SLF001
        given = dict(zip(names, self.args, strict=False)) | dict(self.kwargs) | changed
        result = self.target(**{name: _mapped(put, value) for name, value in given.items()})
        made: Tensor = result if self.result is None else result[self.result]
        return made


@dataclass(frozen=True)
class Graph:
    """The tensors of a model in the order in which they are made, the input first."""

    nodes: tuple[Node, ...]
    constants: Mapping[int, Tensor]
    """Tensors that do not depend on the input."""
    outputs: tuple[int, ...]
    structure: Any
    """How the model wraps its outputs."""

    def only_output(self, purpose: str) -> int:
        """The one tensor that the model returns.

        Raises:
            UnsupportedError: it returns several.
        """
        if len(self.outputs) != 1:
            raise UnsupportedError(
                f"'model' must return one tensor to be {purpose}: got {len(self.outputs)}; "
                "legal: a model that wraps it and returns one of them"
            )
        return self.outputs[0]


def capture(model: torch.nn.Module, shape: Sequence[int], dtype: torch.dtype) -> Graph:
    """The graph of a model for an input of that shape.

    Raises:
        ShapeError: the model does not run at this shape.
        UnsupportedError: what it does depends on the numbers of its input.
    """
    served = accelerate(model)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            given = torch.empty(tuple(shape), dtype=dtype)
            traced = make_fx(functionalize(served, remove="mutations"))(given)
    except Exception as error:
        raise _refusal(shape, error) from error
    return _Reading(traced).graph()


def operator_name(target: Any) -> str:
    """An operator's name without its overload."""
    return str(target).rsplit(".", 1)[0]


def _mapped(put: Any, value: Any) -> Any:
    return type(value)(_mapped(put, v) for v in value) if isinstance(value, (list, tuple)) else put(value)


class _Reading:
    """From torch's graph to ours: results of one operator apart, constants computed, the unused left out."""

    def __init__(self, traced: torch.fx.GraphModule) -> None:
        self._traced = traced
        self._nodes: list[Node] = []
        self._constants: dict[int, Tensor] = {}
        self._places: dict[torch.fx.Node, int] = {}
        self._several: dict[torch.fx.Node, torch.fx.Node] = {}

    def graph(self) -> Graph:
        """The whole of it."""
        traced = self._traced.graph
        traced.eliminate_dead_code()
        returned: Any = None
        for node in traced.nodes:
            if node.op == "output":
                returned = node.args[0]
            elif node.op == "get_attr":
                self._constant(node, getattr(self._traced, node.target))
            elif node.op == "placeholder":
                self._add(node, Node(None, (), {}, (), (), (), *_described(node)))
            elif node.target is getitem:
                self._operator(node, *node.args)
            elif isinstance(node.meta.get("val"), Tensor):
                self._operator(node, node, None)
        flat, structure = pytree.tree_flatten(returned)
        if not flat or any(out not in self._places for out in flat):
            raise UnsupportedError(
                f"'model' must return tensors: got {type(returned).__name__}; "
                "legal: a tensor, or tuples, lists and dicts of tensors"
            )
        return Graph(tuple(self._nodes), self._constants, tuple(self._places[out] for out in flat), structure)

    def _operator(self, node: torch.fx.Node, made: torch.fx.Node, result: int | None) -> None:
        found: dict[int, torch.fx.Node] = {}

        def put(value: Any) -> Any:
            if isinstance(value, torch.fx.Node):
                found[self._places[value]] = value
                return Source(self._places[value])
            return value

        args = tuple(_mapped(put, list(arg) if isinstance(arg, list) else arg) for arg in made.args)
        kwargs = {name: _mapped(put, value) for name, value in made.kwargs.items()}
        values = [value.meta["val"] for value in found.values()]
        shapes = tuple(tuple(value.shape) for value in values)
        strides = tuple(value.stride() for value in values)
        ours = Node(made.target, args, kwargs, tuple(found), shapes, strides, *_described(node), result)
        if all(index in self._constants for index in found) and prod(ours.shape) <= _MOST_CONSTANT:
            self._constant(node, ours.call([self._constants[index] for index in found]))
        else:
            self._add(node, ours)

    def _constant(self, node: torch.fx.Node, value: Tensor) -> None:
        self._constants[len(self._nodes)] = value
        node.meta["val"] = value
        self._add(node, Node(None, (), {}, (), (), (), tuple(value.shape), value.dtype))

    def _add(self, node: torch.fx.Node, ours: Node) -> None:
        self._places[node] = len(self._nodes)
        self._nodes.append(ours)


def _described(node: torch.fx.Node) -> tuple[tuple[int, ...], torch.dtype]:
    value = node.meta["val"]
    return tuple(value.shape), value.dtype


def _refusal(shape: Sequence[int], error: Exception) -> Exception:
    said = " ".join(str(error).split())[:300]
    if "DataDependent" in type(error).__name__:
        return UnsupportedError(
            "'model' must do the same whatever numbers its input holds: got one that looks at them "
            f"({said}); legal: decisions by size alone"
        )
    return ShapeError(
        f"'model' must run on the source: got shape {tuple(shape)}, for which it raises "
        f"{type(error).__name__}: {said}"
        + ("" if "legal: " in said else "; legal: a shape that the model accepts")
    )
